"""ImageNet-1k in class folders."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.datasets import imagenet
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo


def test_order_labels_and_names(imagenet_root: Path, digests: DigestMemo) -> None:
    """Images come by class folder, then by file name; labels count the sorted folders; names follow the classes."""
    split = imagenet.load(imagenet_root, "train", digests)
    expected = ["n01_0", "n01_1", "n01_2", "n01_3", "n02_0", "n02_1", "n02_2", "n03_0"]
    assert [path.stem for path in split.images.paths] == expected
    assert split.labels_N.dtype == np.int64
    assert split.labels_N.tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert split.classes == ("n01", "n02", "n03")
    assert split.names == ("tench", "goldfish", "kite, bird")
    assert (len(split), split.n_original, split.limited) == (8, 8, False)
    assert (split.dataset, split.split, split.images.name) == ("imagenet-1k", "train", "imagenet-1k/train")


def test_order_does_not_follow_the_file_system(
    imagenet_root: Path, digests: DigestMemo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder listed backwards gives the same split."""
    before = imagenet.load(imagenet_root, "train", digests)
    listed = os.scandir

    class Backwards:
        def __init__(self, folder: Path) -> None:
            with listed(folder) as entries:
                self._entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *exc: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Backwards)
    after = imagenet.load(imagenet_root, "train", digests)
    assert after == before
    assert after.labels_N.tolist() == before.labels_N.tolist()


def test_names_are_optional_and_not_part_of_the_images(imagenet_root: Path, digests: DigestMemo) -> None:
    """Without labels.txt there are no names; the features of the images stay valid, the split is another one."""
    before = imagenet.load(imagenet_root, "val", digests)
    (imagenet_root / "labels.txt").unlink()
    after = imagenet.load(imagenet_root, "val", digests)
    assert after.names is None
    assert after.images.fingerprint == before.images.fingerprint
    assert after.fingerprint != before.fingerprint


def test_no_image_is_opened(imagenet_root: Path, digests: DigestMemo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading lists files and hashes them, and decodes nothing."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", refuse)
    assert len(imagenet.load(imagenet_root, "val", digests)) == 6


def test_limit_is_balanced_and_has_a_fingerprint_of_its_own(imagenet_root: Path, digests: DigestMemo) -> None:
    """Five of 4 + 3 + 1 images: two, two and one, spread inside the class, the same at every call."""
    split = imagenet.load(imagenet_root, "train", digests)
    part = split.limit(5)
    assert [path.stem for path in part.images.paths] == ["n01_0", "n01_2", "n02_0", "n02_1", "n03_0"]
    assert part.labels_N.tolist() == [0, 0, 1, 1, 2]
    assert (len(part), part.n_original, part.limited) == (5, 8, True)
    assert part == split.limit(5)
    assert len({split.fingerprint, part.fingerprint, split.limit(4).fingerprint}) == 3
    assert len({split.images.fingerprint, part.images.fingerprint, split.limit(4).images.fingerprint}) == 3
    assert split.limit(8) is split


def test_missing_data_show_the_tree_and_the_way(tmp_path: Path, imagenet_root: Path, digests: DigestMemo) -> None:
    """An absent root and an absent split are unavailable, with the expected tree and where the set comes from."""
    shutil.rmtree(imagenet_root / "train")
    for root in (tmp_path / "nowhere", imagenet_root):
        with pytest.raises(UnavailableError) as caught:
            imagenet.load(root, "train", digests)
        text = str(caught.value)
        assert caught.value.missing == "data"
        assert f"{root / 'train'} is not there" in text
        assert "val/<wnid>/ILSVRC2012_val_<n>.JPEG" in text
        assert "image-net.org" in text
        assert "--data miniature" in text
    assert len(imagenet.load(imagenet_root, "val", digests)) == 6


def test_an_empty_split_is_unavailable(imagenet_root: Path, digests: DigestMemo) -> None:
    """A folder without class folders and images counts as absent."""
    shutil.rmtree(imagenet_root / "val")
    (imagenet_root / "val").mkdir()
    with pytest.raises(UnavailableError, match="is not there"):
        imagenet.load(imagenet_root, "val", digests)


def test_a_flat_val_folder_says_how_to_sort_it(imagenet_root: Path, digests: DigestMemo) -> None:
    """The official archive unpacks val flat; the error says how to move the images into class folders."""
    for path in sorted((imagenet_root / "val").rglob("*.JPEG")):
        path.rename(imagenet_root / "val" / path.name)
    for folder in (imagenet_root / "val").glob("n0*"):
        folder.rmdir()
    with pytest.raises(DataError, match=r"6 images lie beside the class folders") as caught:
        imagenet.load(imagenet_root, "val", digests)
    assert "ILSVRC2012_validation_ground_truth.txt" in str(caught.value)
    assert "torchvision.datasets.ImageNet" in str(caught.value)
    # The train split is whole and stays usable.
    assert len(imagenet.load(imagenet_root, "train", digests)) == 8


@pytest.mark.parametrize("split", ["train", "val"])
def test_classes_must_agree(imagenet_root: Path, digests: DigestMemo, split: imagenet.Part) -> None:
    """A class folder that one split lacks would shift every later label, so both splits refuse."""
    shutil.rmtree(imagenet_root / "val" / "n02")
    with pytest.raises(DataError, match="n02") as caught:
        imagenet.load(imagenet_root, split, digests)
    assert str(imagenet_root / "train") in str(caught.value)
    assert str(imagenet_root / "val") in str(caught.value)


def test_an_empty_class_folder_is_named(imagenet_root: Path, digests: DigestMemo) -> None:
    """A class folder without images is an error."""
    (imagenet_root / "train" / "n03" / "n03_0.JPEG").unlink()
    with pytest.raises(DataError, match=r"n03: the class folder holds no image"):
        imagenet.load(imagenet_root, "train", digests)


def test_strangers_are_named_and_hidden_files_left_out(imagenet_root: Path, digests: DigestMemo) -> None:
    """What file browsers hide is no part of the set; any other file that is no image is an error, not skipped."""
    (imagenet_root / "train" / "n01" / ".DS_Store").write_bytes(b"x")
    assert len(imagenet.load(imagenet_root, "train", digests)) == 8
    (imagenet_root / "train" / "n01" / "n01_9.tar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"n01_9\.tar: only \.jpeg/\.jpg/\.png files are expected"):
        imagenet.load(imagenet_root, "train", digests)


def test_labels_file_must_name_every_class(imagenet_root: Path, digests: DigestMemo) -> None:
    """A class without a name, and a line without one, are errors that say which."""
    (imagenet_root / "labels.txt").write_text("n01,tench\nn03,kite\n")
    with pytest.raises(DataError, match=r"labels\.txt: no name for n02 \(1 of 3 classes\)"):
        imagenet.load(imagenet_root, "val", digests)
    (imagenet_root / "labels.txt").write_text("n01,tench\nn02\nn03,kite\n")
    with pytest.raises(DataError, match=r"labels\.txt, line 2: expected wnid,name, got 'n02'"):
        imagenet.load(imagenet_root, "val", digests)
    (imagenet_root / "labels.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="cannot be read as text"):
        imagenet.load(imagenet_root, "val", digests)
