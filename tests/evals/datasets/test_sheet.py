"""The contact sheet."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.context import Roots
from evals.datasets.sheet import CELL, class_colour, contact_sheet, depth_colours
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo


def _section(roots: Roots, name: str, columns: int = 8) -> Image.Image:
    alone = Roots({name: roots.folders[name]}, roots.world)
    return contact_sheet(alone, columns=columns, rows_per_set=1, digests=DigestMemo(None))


def test_one_section_for_each_set_that_is_there(roots: Roots) -> None:
    """The sheet is as high as its sections and as wide as its columns; an absent set leaves its section out."""
    whole = contact_sheet(roots, columns=4, rows_per_set=1, digests=DigestMemo(None))
    assert whole.mode == "RGB"
    assert 4 * CELL < whole.width < 5 * CELL
    parts = [_section(roots, name, columns=4).height for name in roots.folders]
    shutil.rmtree(roots.folders["nyu"])
    less = contact_sheet(roots, columns=4, rows_per_set=1, digests=DigestMemo(None))
    assert whole.height - less.height == pytest.approx(parts[2], abs=10)
    assert whole.height == pytest.approx(sum(parts), abs=40)


def test_the_sheet_is_reproducible_and_follows_the_images(roots: Roots, imagenet_root: Path) -> None:
    """The same folders give the same pixels; a changed image shows."""
    first = contact_sheet(roots, digests=DigestMemo(None))
    assert first == contact_sheet(roots, digests=DigestMemo(None))
    path = imagenet_root / "val" / "n01" / "ILSVRC2012_val_n010.JPEG"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(path)
    assert first != contact_sheet(roots, digests=DigestMemo(None))


def test_masks_and_key_points_are_drawn(roots: Roots) -> None:
    """Colours of classes, of the depth map and of key points stand on their sections."""
    ade = np.asarray(_section(roots, "ade20k")).reshape(-1, 3).tolist()
    assert list(class_colour(1)) in ade
    nyu = np.asarray(_section(roots, "nyu")).reshape(-1, 3).tolist()
    assert [253, 231, 37] in nyu
    pairs = np.asarray(_section(roots, "SPair-71k")).reshape(-1, 3).tolist()
    assert list(class_colour(3)) in pairs
    assert list(class_colour(6)) in pairs


def test_nothing_there(tmp_path: Path) -> None:
    """Without any set the first reason is raised."""
    with pytest.raises(UnavailableError, match="no folder is configured for 'imagenet'"):
        contact_sheet(Roots({}), digests=DigestMemo(None))
    with pytest.raises(UnavailableError, match=r"image-net\.org"):
        contact_sheet(Roots({"imagenet": tmp_path}), digests=DigestMemo(None))


def test_a_broken_image_stops_the_sheet(roots: Roots, imagenet_root: Path) -> None:
    """A damaged image is named, not left out."""
    path = imagenet_root / "val" / "n01" / "ILSVRC2012_val_n010.JPEG"
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=path.name):
        contact_sheet(roots, digests=DigestMemo(None))


def test_depth_colours() -> None:
    """Nearest dark, farthest yellow, brighter with distance, missing black."""
    colours = depth_colours(np.array([[0, 1, 2, 3, 4]], dtype=np.float32))[0].astype(int)
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[1].tolist() == [68, 1, 84]
    assert colours[4].tolist() == [253, 231, 37]
    brightness = colours[1:] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > 0).all()
    assert depth_colours(np.zeros((2, 2), dtype=np.float32)).max() == 0


def test_class_colours_differ() -> None:
    """150 classes have 150 colours; unlabelled is black."""
    assert class_colour(0) == (0, 0, 0)
    assert len({class_colour(index) for index in range(151)}) == 151
