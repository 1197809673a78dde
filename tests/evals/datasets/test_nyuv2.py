"""NYU Depth V2 by lists."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.datasets import nyuv2
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo


def test_lines_are_sorted_and_slashes_stripped(nyu_root: Path, digests: DigestMemo) -> None:
    """Frames follow the sorted lines; their depth maps stand beside them."""
    split = nyuv2.load(nyu_root, "train", digests)
    names = [path.relative_to(nyu_root).as_posix() for path in split.images.paths]
    assert names == ["bath_1/rgb_9.jpg", "office_1/rgb_1.jpg", "office_1/rgb_2.jpg"]
    depths = [path.relative_to(nyu_root).as_posix() for path in split.depths]
    assert depths == ["bath_1/sync_depth_9.png", "office_1/sync_depth_1.png", "office_1/sync_depth_2.png"]
    assert [path.parent.name for path in nyuv2.load(nyu_root, "test", digests).images.paths] == ["bath_2", "kitchen"]
    assert (split.dataset, split.n_original) == ("nyuv2", 3)


def test_fingerprints(nyu_root: Path, digests: DigestMemo) -> None:
    """A changed depth map changes the split alone; the order of the lines changes nothing."""
    before = nyuv2.load(nyu_root, "train", digests)
    path = nyu_root / "nyu_train.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    assert nyuv2.load(nyu_root, "train", digests) == before
    Image.fromarray(np.full((8, 8), 5, dtype=np.uint16)).save(before.depths[0])
    after = nyuv2.load(nyu_root, "train", DigestMemo(None))
    assert after.images.fingerprint == before.images.fingerprint
    assert after.fingerprint != before.fingerprint


def test_limit(nyu_root: Path, digests: DigestMemo) -> None:
    """Even parts keep frames and depth maps together."""
    split = nyuv2.load(nyu_root, "train", digests)
    part = split.limit(2)
    assert [path.name for path in part.images.paths] == ["rgb_9.jpg", "rgb_1.jpg"]
    assert [path.name for path in part.depths] == ["sync_depth_9.png", "sync_depth_1.png"]
    assert part.limited
    assert len({split.fingerprint, part.fingerprint, split.limit(1).fingerprint}) == 3
    assert split.limit(3) is split


def test_missing_list(nyu_root: Path, digests: DigestMemo) -> None:
    """Without the list the set is unavailable, with the tree and the names under which others ship the list."""
    (nyu_root / "nyu_test.txt").unlink()
    with pytest.raises(UnavailableError, match=r"nyu_test\.txt is not there") as caught:
        nyuv2.load(nyu_root, "test", digests)
    assert "sync_depth_<n>.png" in str(caught.value)
    assert "nyudepthv2_test_files_with_gt.txt" in str(caught.value)


def test_three_fields(nyu_root: Path, digests: DigestMemo) -> None:
    """A line with another number of fields is named by list and number; an empty list is an error."""
    path = nyu_root / "nyu_test.txt"
    path.write_text(path.read_text() + "\nkitchen/rgb_5.jpg kitchen/sync_depth_5.png\n")
    with pytest.raises(DataError, match=r"nyu_test\.txt, line 4: 2 fields, expected three"):
        nyuv2.load(nyu_root, "test", digests)
    path.write_text("\n")
    with pytest.raises(DataError, match=r"nyu_test\.txt: the list names no frame"):
        nyuv2.load(nyu_root, "test", digests)


def test_missing_frame(nyu_root: Path, digests: DigestMemo) -> None:
    """A listed file that does not exist is named with the line that lists it."""
    (nyu_root / "bath_1" / "sync_depth_9.png").unlink()
    with pytest.raises(DataError, match=r"nyu_train\.txt, line 2: .*bath_1/sync_depth_9\.png does not exist"):
        nyuv2.load(nyu_root, "train", digests)


def test_depth_is_metres(nyu_root: Path) -> None:
    """16-bit millimetres become float32 metres; 0 stays 0."""
    depth = nyuv2.read_depth(nyu_root / "kitchen" / "sync_depth_5.png")
    assert depth.dtype == np.float32
    assert depth[0, 0] == 0
    assert depth[7, 7] == np.float32(6.3)


def test_8_bit_depth_is_refused(tmp_path: Path) -> None:
    """The message says what an 8-bit file would mean."""
    Image.fromarray(np.full((4, 4), 200, dtype=np.uint8)).save(tmp_path / "d.png")
    with pytest.raises(DataError, match=r"d\.png: 16-bit millimetres expected.*at most 0\.255 m"):
        nyuv2.read_depth(tmp_path / "d.png")


def test_other_depth_files_are_refused(tmp_path: Path) -> None:
    """Coloured, damaged and missing depth maps are named."""
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png: 16-bit millimetres in one channel expected, got Pillow mode RGB"):
        nyuv2.read_depth(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"depth map .*none\.png does not exist"):
        nyuv2.read_depth(tmp_path / "none.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 9999, (40, 40), dtype=np.uint16)).save(tmp_path / "t.png")
    (tmp_path / "t.png").write_bytes((tmp_path / "t.png").read_bytes()[:-500])
    with pytest.raises(DataError, match=r"depth map .*t\.png cannot be decoded"):
        nyuv2.read_depth(tmp_path / "t.png")
