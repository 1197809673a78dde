"""ADE20K of the scene-parsing challenge."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.datasets import ade20k
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo


def test_order_pairs_and_names(ade_root: Path, digests: DigestMemo) -> None:
    """Images are sorted, labels stand beside them, class names are the first synonyms."""
    split = ade20k.load(ade_root, "validation", digests)
    stems = [f"ADE_val_{index:08d}" for index in (1, 2, 3)]
    assert [path.stem for path in split.images.paths] == stems
    assert [path.stem for path in split.labels] == stems
    assert split.class_names is not None
    assert len(split.class_names) == 150
    assert split.class_names[1] == "thing2"
    assert (split.dataset, len(split), split.limited) == ("ade20k", 3, False)


def test_the_root_may_hold_the_set(ade_root: Path, digests: DigestMemo) -> None:
    """The folder above ADEChallengeData2016 gives the same split with the same fingerprints."""
    assert ade20k.load(ade_root.parent, "validation", digests) == ade20k.load(ade_root, "validation", digests)


def test_class_names_are_optional_and_checked(ade_root: Path, digests: DigestMemo) -> None:
    """No file, no names; a line out of order is an error with its number."""
    info = ade_root / "objectInfo150.txt"
    text = info.read_text()
    info.write_text(text.replace("\n2\t", "\n7\t"))
    with pytest.raises(DataError, match=r"objectInfo150\.txt, line 3: expected class 2"):
        ade20k.load(ade_root, "validation", digests)
    info.unlink()
    assert ade20k.load(ade_root, "validation", digests).class_names is None


def test_fingerprints(ade_root: Path, digests: DigestMemo) -> None:
    """A changed label changes the split, not its images."""
    before = ade20k.load(ade_root, "validation", digests)
    Image.fromarray(np.full((8, 8), 9, dtype=np.uint8)).save(before.labels[1])
    after = ade20k.load(ade_root, "validation", DigestMemo(None))
    assert after.images.fingerprint == before.images.fingerprint
    assert after.fingerprint != before.fingerprint


def test_limit(ade_root: Path, digests: DigestMemo) -> None:
    """Even parts keep images and labels together and have fingerprints of their own."""
    split = ade20k.load(ade_root, "validation", digests)
    part = split.limit(2)
    assert [path.stem[-1] for path in part.images.paths] == ["1", "2"]
    assert [path.stem[-1] for path in part.labels] == ["1", "2"]
    assert part.limited
    assert part.fingerprint != split.fingerprint
    assert part.images.fingerprint != split.images.fingerprint
    assert part == split.limit(2)
    assert split.limit(3) is split


def test_missing_data(tmp_path: Path, ade_root: Path, digests: DigestMemo) -> None:
    """An absent root, or absent annotations, give the tree and the name of the release."""
    with pytest.raises(UnavailableError, match=r"ADEChallengeData2016\.zip") as caught:
        ade20k.load(tmp_path / "nowhere", "training", digests)
    assert "annotations/{training,validation}/*.png" in str(caught.value)
    (ade_root / "annotations").rename(ade_root / "labels")
    with pytest.raises(UnavailableError, match=r"annotations/training is not there"):
        ade20k.load(ade_root, "training", digests)


def test_every_image_needs_its_label_and_the_reverse(ade_root: Path, digests: DigestMemo) -> None:
    """An image without a label map, and a label map without an image, are named."""
    label = ade_root / "annotations" / "training" / "ADE_train_00000002.png"
    content = label.read_bytes()
    label.unlink()
    with pytest.raises(DataError, match=r"00000002\.jpg: its label map .*00000002\.png does not exist"):
        ade20k.load(ade_root, "training", digests)
    label.write_bytes(content)
    (ade_root / "images" / "training" / "ADE_train_00000001.jpg").unlink()
    with pytest.raises(DataError, match=r"00000001\.png: its image .*00000001\.jpg does not exist"):
        ade20k.load(ade_root, "training", digests)


def test_read_label(ade_root: Path) -> None:
    """Raw values as they stand in the file, 0 included."""
    label = ade20k.read_label(ade_root / "annotations" / "validation" / "ADE_val_00000002.png", 150)
    assert label.dtype == np.uint8
    assert label.shape == (8, 8)
    assert (label[0] == 0).all()
    assert label[1].tolist() == [150, 2, 2, 2, 2, 2, 2, 2]


def test_palette_images_give_their_indices(tmp_path: Path) -> None:
    """A label map with a palette keeps its indices, not its colours."""
    image = Image.fromarray(np.array([[0, 3], [1, 2]], dtype=np.uint8))
    image.putpalette([255, 0, 0] * 256)
    image.save(tmp_path / "p.png")
    assert ade20k.read_label(tmp_path / "p.png", 3).tolist() == [[0, 3], [1, 2]]


def test_a_label_above_the_range(ade_root: Path) -> None:
    """The message names the file, the value and the likely causes."""
    path = ade_root / "annotations" / "validation" / "ADE_val_00000001.png"
    with pytest.raises(
        DataError, match=r"ADE_val_00000001\.png.*value 150, expected 0 \(unlabelled\) and 1\.\.149"
    ) as e:
        ade20k.read_label(path, 149)
    assert "full ADE20K" in str(e.value)


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_labels_need_one_8_bit_channel(tmp_path: Path, mode: str) -> None:
    """Coloured and 16-bit label maps are refused by name and mode."""
    dtype, shape = (np.uint8, (4, 4, 3)) if mode == "RGB" else (np.uint16, (4, 4))
    Image.fromarray(np.zeros(shape, dtype=dtype)).save(tmp_path / "seg.png")
    with pytest.raises(DataError, match=rf"seg\.png.*mode {mode}, expected one 8-bit channel"):
        ade20k.read_label(tmp_path / "seg.png", 150)


def test_damaged_labels_are_named(tmp_path: Path) -> None:
    """A missing and a damaged label map are errors of the data set."""
    with pytest.raises(DataError, match=r"label map .*none\.png does not exist"):
        ade20k.read_label(tmp_path / "none.png", 150)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"label map .*bad\.png cannot be decoded"):
        ade20k.read_label(tmp_path / "bad.png", 150)
