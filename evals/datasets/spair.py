"""SPair-71k: pairs of images of one category with key points that match."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from evals.datasets.base import Images, Split, evenly_by_group, fingerprint, sub_fingerprint
from evals.datasets.layout import Problem, ProblemError, Report, home, image_size, names, stop, unavailable
from evals.files import DigestMemo

Part = Literal["trn", "val", "test"]
PARTS: tuple[Part, ...] = ("trn", "val", "test")
PUBLISHED: dict[str, int] = {"trn": 53_340, "val": 5_384, "test": 12_234}
"""Pairs a split (SPair-71k, POSTECH)."""
PUBLISHED_TEST: dict[str, int] = {
    "aeroplane": 690, "bicycle": 650, "bird": 702, "boat": 702, "bottle": 870, "bus": 644, "car": 564, "cat": 600,
    "chair": 646, "cow": 640, "dog": 600, "horse": 600, "motorbike": 702, "person": 650, "pottedplant": 862,
    "sheep": 664, "train": 756, "tvmonitor": 692,
}  # fmt: skip
"""Test pairs a category."""
INNER = "SPair-71k"

_TREE = """
{root}/    (or the folder SPair-71k inside it)
  JPEGImages/<category>/*.jpg      1,800 images in 18 categories
  PairAnnotation/{{trn,val,test}}/<n>-<source>-<target>:<category>.json     53,340, 5,384 and 12,234 pairs
"""
_SOURCE = (
    "SPair-71k.tar.gz of the Computer Vision Lab at POSTECH (cvlab.postech.ac.kr, SPair-71k); its images are from\n"
    "PASCAL VOC 2012 and PASCAL 3D+ and under the terms of Flickr. Where ':' is not allowed in file names, unpack it\n"
    "with '_' in its place."
)
_RESTORE = "Restore the file from SPair-71k.tar.gz"

Size = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and a target image of one category, with the key points that both show."""

    category: str
    source: int
    """Position in the split's images; so is `target`."""
    target: int
    source_size: Size
    """Width and height in pixels; so is `target_size`."""
    target_size: Size
    source_points_K2: NDArray[np.float64] = field(compare=False)
    """(x, y) in pixels of the image; row i of both arrays is the same point of the object."""
    target_points_K2: NDArray[np.float64] = field(compare=False)
    point_ids: tuple[str, ...]
    target_box: Box
    """x0, y0, x1, y1 of the object in the target image, in pixels."""
    name: str
    """`<n>-<source>-<target>:<category>`, the same in unpackings with ':' and with '_'."""


@dataclass(frozen=True, slots=True)
class PairSplit(Split):
    """Pairs in the order of their file names; `images` are those used, sorted. Its items are pairs."""

    pairs: tuple[Pair, ...]
    categories: tuple[str, ...]
    """Categories of the pairs, sorted."""

    def __len__(self) -> int:
        return len(self.pairs)

    def limit(self, n: int) -> Self:
        """At most `n` pairs: categories take turns, and inside a category the pairs are spread evenly."""
        if n >= len(self):
            return self
        positions = {name: at for at, name in enumerate(self.categories)}
        kept = evenly_by_group([positions[pair.category] for pair in self.pairs], n)
        used, pairs = _compact([self.pairs[i] for i in kept])
        return replace(
            self,
            images=self.images.part(used),
            fingerprint=sub_fingerprint(self.fingerprint, kept),
            pairs=tuple(pairs),
            categories=tuple(sorted({pair.category for pair in pairs})),
        )


def load(root: Path, split: Part, digests: DigestMemo) -> PairSplit:
    """The split, from SPair-71k itself or from the folder that holds it; of images only the headers are read.

    Raises UnavailableError when the split is not there, DataError naming file and key for an annotation that
    contradicts itself or its images.
    """
    base = home(root, INNER, "PairAnnotation")
    paths, pairs, files = survey(root, split, stop)
    images = Images(f"spair-71k/{split}", tuple(paths), fingerprint(paths, base, digests))
    return PairSplit(
        dataset="spair-71k",
        split=split,
        images=images,
        fingerprint=fingerprint(files, base, digests, extra=images.fingerprint),
        n_original=len(pairs),
        pairs=tuple(pairs),
        categories=tuple(sorted({pair.category for pair in pairs})),
    )


def survey(root: Path, split: str, report: Report) -> tuple[list[Path], list[Pair], list[Path]]:
    """Images used, sorted; sound pairs in the order of their file names; all annotation files.

    Every problem goes to `report`.
    """
    base = home(root, INNER, "PairAnnotation")
    folder = base / "PairAnnotation" / split
    found = names(folder, (".json",), report) if folder.is_dir() else []
    if not found or not (base / "JPEGImages").is_dir():
        lacking = base / "JPEGImages" if found else folder / "*.json"
        raise unavailable("SPair-71k", lacking, _TREE.format(root=root), _SOURCE)
    reader = _Reader(base / "JPEGImages", report)
    files = [folder / name for name in found]
    pairs = [pair for pair in map(reader.pair, files) if pair is not None]
    seen = list(reader.images)
    used, pairs = _compact(pairs, key=seen.__getitem__)
    return [seen[index] for index in used], pairs, files


def _compact(pairs: Sequence[Pair], key: Callable[[int], Any] | None = None) -> tuple[list[int], list[Pair]]:
    """Images that the pairs use, sorted by `key` (default: as they stand), and the pairs with positions among these."""
    used = sorted({index for pair in pairs for index in (pair.source, pair.target)}, key=key)
    place = {index: at for at, index in enumerate(used)}
    return used, [replace(pair, source=place[pair.source], target=place[pair.target]) for pair in pairs]


@dataclass(frozen=True, slots=True)
class _Side:
    """One image of an annotation, as the annotation describes it."""

    key: str
    """Prefix of its keys: src or trg."""
    index: int
    file: Path
    stated: Size
    points_K2: NDArray[np.float64]


class _Reader:
    """Reads pair annotations against their images, whose sizes it remembers."""

    def __init__(self, pictures: Path, report: Report) -> None:
        self.images: dict[Path, int] = {}
        """Images in the order of their first mention."""
        self._sizes: list[Size | None] = []
        self._pictures = pictures
        self._report = report

    def pair(self, path: Path) -> Pair | None:
        """The pair of one file, with positions in `images`; None after its problems were reported."""
        try:
            raw = json.loads(path.read_bytes())
            category = str(raw["category"])
            source, target = (self._side(raw, key, category) for key in ("src", "trg"))
            box = _numbers(raw, "trg_bndbox", (4,))
            ids = tuple(str(name) for name in raw["kps_ids"])
        except KeyError as error:
            self._report(Problem(f"{path}, key {error.args[0]}", "the key is missing", _RESTORE))
            return None
        except (OSError, ValueError, TypeError) as error:
            self._report(Problem(str(path), f"this is no pair annotation ({error})", _RESTORE))
            return None
        problems = [*self._against_file(path, source), *self._against_file(path, target)]
        problems += _contradictions(path, source, target, box, ids)
        for problem in problems:
            self._report(problem)
        if problems or self._sizes[source.index] is None or self._sizes[target.index] is None:
            return None
        return Pair(
            category=category,
            source=source.index,
            target=target.index,
            source_size=source.stated,
            target_size=target.stated,
            source_points_K2=source.points_K2,
            target_points_K2=target.points_K2,
            point_ids=ids,
            target_box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            name=path.stem if ":" in path.stem else f"{path.stem.removesuffix('_' + category)}:{category}",
        )

    def _side(self, raw: dict[str, Any], key: str, category: str) -> _Side:
        name = f"{category}/{raw[f'{key}_imname']}"
        # JSON can spell what no file name can be; the error says so.
        name.encode()
        file = self._pictures / name
        width, height, *_ = raw[f"{key}_imsize"]
        points = _numbers(raw, f"{key}_kps", (-1, 2))
        return _Side(key, self._index(file), file, (int(width), int(height)), points)

    def _index(self, file: Path) -> int:
        """Position of an image; one that cannot be opened is reported at its first mention."""
        if file not in self.images:
            self.images[file] = len(self._sizes)
            try:
                self._sizes.append(image_size(file))
            except ProblemError as error:
                self._sizes.append(None)
                self._report(error.problem or Problem(str(file), str(error), _RESTORE))
        return self.images[file]

    def _against_file(self, path: Path, side: _Side) -> list[Problem]:
        size = self._sizes[side.index]
        if size is None or size == side.stated:
            return []
        what = f"says {side.stated[0]} x {side.stated[1]}, but {side.file} has {size[0]} x {size[1]} pixels"
        effect = (
            "key points and thresholds would be scaled by the wrong size, and the PCK of these pairs would be wrong"
        )
        return [Problem(f"{path}, key {side.key}_imsize", what, "Restore the original image and annotation", effect)]


def _numbers(raw: dict[str, Any], key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """An array of numbers. Raises ValueError naming the key for one of another shape."""
    try:
        return np.asarray(raw[key], dtype=np.float64).reshape(shape)
    except (ValueError, TypeError) as error:
        wanted = "[x0, y0, x1, y1]" if shape == (4,) else "[[x, y], ...]"
        raise ValueError(f"key {key}: expected {wanted}, got {raw[key]!r}") from error


def _contradictions(
    path: Path, source: _Side, target: _Side, box: NDArray[np.float64], ids: tuple[str, ...]
) -> list[Problem]:
    """What an annotation says against itself."""
    found = []
    counts = len(source.points_K2), len(target.points_K2), len(ids)
    if len(set(counts)) > 1 or not counts[0]:
        what = f"{counts[0]} source points, {counts[1]} target points, {counts[2]} names; expected equal counts above 0"
        effect = "points would be compared with points of another part of the object"
        found.append(Problem(f"{path}, keys src_kps, trg_kps, kps_ids", what, _RESTORE, effect))
    for side in (source, target):
        for point in side.points_K2:
            # The edges themselves are inside: annotations that count from 1 reach the full width.
            if not ((point >= 0) & (point <= side.stated)).all():
                x, y = (f"{value:g}" for value in point)
                what = f"key point ({x}, {y}) lies outside its image of {side.stated[0]} x {side.stated[1]} pixels"
                effect = "the point can never be found, and the PCK of its category falls"
                found.append(Problem(f"{path}, key {side.key}_kps", what, _RESTORE, effect))
    if not (box[0] < box[2] and box[1] < box[3]):
        shown = ", ".join(f"{value:g}" for value in box)
        what = f"the box [{shown}] is inverted or empty; expected [x0, y0, x1, y1] with x0 < x1 and y0 < y1"
        effect = "the threshold, a share of the box, would be wrong"
        found.append(Problem(f"{path}, key trg_bndbox", what, _RESTORE, effect))
    return found
