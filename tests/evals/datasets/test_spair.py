"""SPair-71k: pair annotations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.datasets import spair
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo

Edit = Callable[..., Path]


def _load(root: Path) -> spair.PairSplit:
    return spair.load(root, "test", DigestMemo(None))


def test_pairs(spair_root: Path) -> None:
    """Pairs follow their file names, images are sorted and unique, positions point at the right files."""
    split = _load(spair_root)
    names = [path.relative_to(spair_root / "JPEGImages").as_posix() for path in split.images.paths]
    assert names == ["cat/2008_0.jpg", "cat/2008_1.jpg", "dog/2008_0.jpg", "dog/2008_1.jpg", "dog/2008_2.jpg"]
    assert [(pair.category, pair.source, pair.target) for pair in split.pairs] == [
        ("dog", 4, 2),
        ("cat", 1, 0),
        ("dog", 2, 3),
        ("cat", 0, 1),
        ("dog", 3, 4),
    ]
    first = split.pairs[0]
    assert first.source_points_K2.tolist() == [[1, 2], [3, 4.5]]
    assert first.target_points_K2.tolist() == [[5, 6], [7, 8]]
    assert first.point_ids == ("0", "4")
    assert (first.source_size, first.target_size, first.target_box) == ((8, 10), (8, 10), (1, 2, 6, 9))
    assert first.name == "000001-2008_2-2008_0:dog"
    assert split.categories == ("cat", "dog")
    assert (split.dataset, len(split), split.n_original, split.limited) == ("spair-71k", 5, 5, False)


def test_the_root_may_hold_the_set(spair_root: Path) -> None:
    """The folder above SPair-71k gives the same split."""
    assert _load(spair_root.parent) == _load(spair_root)


def test_names_with_underscores(spair_root: Path) -> None:
    """An unpacking with '_' for ':' gives the same pairs under the same names; the category comes from the JSON."""
    before = _load(spair_root)
    for path in (spair_root / "PairAnnotation" / "test").iterdir():
        path.rename(path.with_name(path.name.replace(":", "_")))
    after = _load(spair_root)
    assert after.pairs == before.pairs
    assert after.images == before.images


def test_fingerprints(spair_root: Path, edit_pair: Edit) -> None:
    """A changed annotation changes the split, not its images."""
    before = _load(spair_root)
    edit_pair(trg_bndbox=[1, 2, 6, 8])
    after = _load(spair_root)
    assert after.images.fingerprint == before.images.fingerprint
    assert after.fingerprint != before.fingerprint


def test_limit_reduces_pairs_by_category_and_images_to_those_used(spair_root: Path) -> None:
    """Two of five pairs: one of each category, with positions among the images that are left."""
    split = _load(spair_root)
    part = split.limit(2)
    names = [path.relative_to(spair_root / "JPEGImages").as_posix() for path in part.images.paths]
    assert names == ["cat/2008_0.jpg", "cat/2008_1.jpg", "dog/2008_0.jpg", "dog/2008_2.jpg"]
    assert [(pair.category, pair.source, pair.target) for pair in part.pairs] == [("dog", 3, 2), ("cat", 1, 0)]
    assert (len(part), part.n_original, part.limited) == (2, 5, True)
    assert part.images.fingerprint != split.images.fingerprint
    assert part.fingerprint != split.fingerprint
    assert part == split.limit(2)
    assert split.limit(1).categories == ("cat",)
    assert split.limit(5) is split


def test_limit_that_keeps_every_image_is_still_limited(spair_root: Path) -> None:
    """The items are pairs: dropping a pair limits the split even if every image stays."""
    part = _load(spair_root).limit(4)
    assert len(part.images.paths) == 5
    assert part.limited


def test_missing_data(tmp_path: Path, spair_root: Path, digests: DigestMemo) -> None:
    """An absent root, split or image folder gives the tree and the name of the archive."""
    for root, split in ((tmp_path / "nowhere", "test"), (spair_root, "trn")):
        with pytest.raises(UnavailableError, match=rf"PairAnnotation/{split}/\*\.json is not there") as caught:
            spair.load(root, split, digests)  # type: ignore[arg-type]
        assert "SPair-71k.tar.gz" in str(caught.value)
    (spair_root / "JPEGImages").rename(spair_root / "images")
    with pytest.raises(UnavailableError, match=r"JPEGImages is not there"):
        spair.load(spair_root, "test", digests)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"src_kps": [[1, 2], [8.5, 3]]}, r"key src_kps: key point \(8\.5, 3\) lies outside its image of 8 x 10"),
        ({"trg_kps": [[1, 2], [3, -1]]}, r"key trg_kps: key point \(3, -1\) lies outside"),
        ({"trg_kps": [[1, 2], [3, float("nan")]]}, r"key trg_kps: key point \(3, nan\) lies outside"),
        ({"trg_kps": [[1, 2]]}, r"keys src_kps, trg_kps, kps_ids: 2 source points, 1 target points, 2 names"),
        ({"kps_ids": ["0"]}, r"2 source points, 2 target points, 1 names"),
        ({"src_kps": [], "trg_kps": [], "kps_ids": []}, r"expected equal counts above 0"),
        ({"trg_bndbox": [6, 2, 1, 9]}, r"key trg_bndbox: the box \[6, 2, 1, 9\] is inverted or empty"),
        ({"trg_bndbox": [1, 2, 3]}, r"no pair annotation \(key trg_bndbox: expected \[x0, y0, x1, y1\]"),
        ({"src_kps": "none"}, r"key src_kps: expected \[\[x, y\], \.\.\.\]"),
        ({"src_imsize": [8, 12, 3]}, r"key src_imsize: says 8 x 12, but .*2008_2\.jpg has 8 x 10 pixels"),
        ({"kps_ids": None}, r"key kps_ids: the key is missing"),
        ({"category": "cow"}, r"cow/2008_2\.jpg: the image does not exist"),
    ],
)
def test_contradictions(spair_root: Path, edit_pair: Edit, changes: dict[str, Any], message: str) -> None:
    """Every contradiction of an annotation is an error that names the file, the key and what was expected."""
    path = edit_pair(**changes)
    with pytest.raises(DataError, match=message) as caught:
        _load(spair_root)
    if "category" not in changes:
        assert path.name in str(caught.value)
    assert "Restore the" in str(caught.value)


def test_points_on_the_edge_are_inside(spair_root: Path, edit_pair: Edit) -> None:
    """Annotations that count from 1 reach the full width and height."""
    edit_pair(src_kps=[[0, 0], [8, 10]])
    assert _load(spair_root).pairs[0].source_points_K2.tolist() == [[0, 0], [8, 10]]


@pytest.mark.parametrize("content", ["{", "[1, 2]", "7"])
def test_broken_json(spair_root: Path, edit_pair: Edit, content: str) -> None:
    """A file that is no annotation is named."""
    path = edit_pair()
    path.write_text(content)
    with pytest.raises(DataError, match=r"this is no pair annotation") as caught:
        _load(spair_root)
    assert path.name in str(caught.value)


def test_an_image_that_is_none(spair_root: Path) -> None:
    """An image whose header cannot be read is named."""
    (spair_root / "JPEGImages" / "cat" / "2008_0.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cat/2008_0\.jpg: the image cannot be decoded"):
        _load(spair_root)


def test_only_used_images_belong_to_the_split(spair_root: Path) -> None:
    """Without the pairs of a category its images are no part of the split."""
    for path in (spair_root / "PairAnnotation" / "test").glob("*:dog.json"):
        assert json.loads(path.read_text())["category"] == "dog"
        path.unlink()
    assert [path.parent.name for path in _load(spair_root).images.paths] == ["cat", "cat"]
