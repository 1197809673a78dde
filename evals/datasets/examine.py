"""What a check looks at in each data set: counts, pixels, labels, units, and what each deviation does to the score."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from evals.datasets import ade20k, imagenet, nyuv2, spair
from evals.datasets.base import read_rgb
from evals.datasets.layout import Problem, ProblemError, Report, home

T = TypeVar("T")
R = TypeVar("R")

_OTHER_DATA = "scores are those of another data set and not comparable with published ones"
_RESTORE = "Restore the files, or obtain the set again"
_ANNOTATIONS = "Put back the annotations of ADEChallengeData2016"


class Each(Protocol):
    """Applies a function to many items, in order, perhaps in several processes, under a progress bar."""

    def __call__(self, title: str, function: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
        """The results, in the order of the items."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What an examination works with."""

    root: Path
    real: bool
    """Published counts, classes and sizes apply; otherwise only what the set says about itself."""
    decode: bool
    """Read every image and label; otherwise names, lists and annotations alone."""
    each: Each
    report: Report


@dataclass(frozen=True, slots=True)
class Look:
    """What one image (with its label or depth map) turned out to be."""

    problem: Problem | None = None
    image_size: tuple[int, int] = (0, 0)
    map_size: tuple[int, int] = (0, 0)
    values_256: NDArray[np.bool_] | None = None
    """Which label values occur."""
    largest: int = 0
    """Largest raw depth."""


def examine_imagenet(desk: Desk, split: str) -> str:
    """Counts, class folders, names, images."""
    paths, labels, classes = imagenet.survey(desk.root, split, desk.report)
    imagenet.class_names(desk.root, classes, desk.report)
    where = str(desk.root / split)
    _counts(desk, where, "images", len(paths), imagenet.PUBLISHED[split])
    if desk.real:
        _counts(desk, where, "class folders", len(classes), imagenet.PUBLISHED_CLASSES)
    each, equal = Counter(labels), imagenet.PUBLISHED_VAL_PER_CLASS
    wrong = [name for label, name in enumerate(classes) if each[label] != equal]
    if desk.real and split == "val" and len(paths) == imagenet.PUBLISHED["val"] and wrong:
        what = f"{len(wrong)} classes have not {equal} images, the first is {wrong[0]}: the images were sorted wrongly"
        desk.report(Problem(where, what, "Sort them again", "images in a wrong folder count as wrong answers"))
    _images(desk, f"imagenet {split}", paths)
    return f"{len(paths):,} images in {len(classes):,} classes"


def examine_ade20k(desk: Desk, split: str) -> str:
    """Counts, images, label sizes, the range of labels and whether it is shifted."""
    paths, labels = ade20k.survey(desk.root, split, desk.report)
    listed = ade20k.class_names(desk.root, desk.report)
    if listed is None and split == "validation":
        _without_names(desk)
    where = str(labels[0].parent) if labels else str(desk.root)
    _counts(desk, where, "images with a label map", len(paths), ade20k.PUBLISHED[split])
    if desk.decode:
        looks = _looks(desk, f"ade20k {split}", look_at_label, list(zip(paths, labels, strict=True)))
        effect = "predictions would be compared with labels of other places, and the mIoU would be wrong"
        _same_sizes(desk, labels, looks, "label map", effect)
        found = [look.values_256 for look in looks if look.values_256 is not None]
        seen = np.any(found, axis=0) if found else np.zeros(256, dtype=bool)
        complete = desk.real and len(found) == ade20k.PUBLISHED[split]
        classes = ade20k.PUBLISHED_CLASSES if desk.real else len(listed or ()) or ade20k.PUBLISHED_CLASSES
        if not _beyond(desk, labels, looks, seen, classes):
            for problem in _label_range(where, seen, classes, complete):
                desk.report(problem)
    return f"{len(paths):,} images with label maps"


def _without_names(desk: Desk) -> None:
    """A warning for real data, whose 150 classes are known; a world has nothing else to count its classes by."""
    effect = "classes have numbers in place of names; scores do not change while ade20k-linear.classes is a number"
    where = home(desk.root, ade20k.INNER, "images") / "objectInfo150.txt"
    mend = "Restore the file from ADEChallengeData2016.zip, beside the folders images and annotations"
    if desk.real:
        desk.report(Problem(str(where), "is not there", mend, effect, "warning"))
    else:
        desk.report(Problem(str(where), "is not there", mend))


def examine_nyuv2(desk: Desk, split: str) -> str:
    """Counts, lists, images, sizes, the unit of depth, empty depth maps."""
    paths, depths = nyuv2.survey(desk.root, split, desk.report)
    where = str(desk.root / f"nyu_{split}.txt")
    _counts(desk, where, "frames", len(paths), nyuv2.PUBLISHED[split])
    for path, times in Counter(paths).items():
        if times > 1:
            what = f"{path.relative_to(desk.root)} is listed {times} times"
            effect = "the frame weighs as much as several, in training or in the mean over frames"
            desk.report(Problem(where, what, "Keep one line for each frame", effect))
    if desk.decode:
        looks = _looks(desk, f"nyu {split}", look_at_depth, list(zip(paths, depths, strict=True)))
        _same_sizes(desk, depths, looks, "depth map", "depths would be compared with those of other places")
        _frame_sizes(desk, paths, looks)
        _depth_unit(desk, depths, looks, split)
    return f"{len(paths):,} frames with depth maps"


def examine_spair(desk: Desk, split: str) -> str:
    """Counts for each category, annotations against images, images."""
    paths, pairs, files = spair.survey(desk.root, split, desk.report)
    where = str(files[0].parent)
    _counts(desk, where, "pairs", len(files), spair.PUBLISHED[split])
    each = Counter(pair.category for pair in pairs)
    if desk.real and split == "test":
        for category in sorted(each.keys() | spair.PUBLISHED_TEST.keys()):
            _counts(desk, where, f"pairs of {category}", each[category], spair.PUBLISHED_TEST.get(category, 0))
    _images(desk, f"SPair-71k {split}", paths)
    return f"{len(pairs):,} pairs of {len(paths):,} images in {len(each)} categories"


def _counts(desk: Desk, where: str, kind: str, found: int, published: int) -> None:
    if desk.real and found != published:
        desk.report(Problem(where, f"{found:,} {kind}, published are {published:,}", _RESTORE, _OTHER_DATA))


def _images(desk: Desk, title: str, paths: Sequence[Path]) -> None:
    if desk.decode:
        for look in desk.each(title, look_at_image, paths):
            if look.problem is not None:
                desk.report(look.problem)


def _looks(desk: Desk, title: str, function: Callable[[T], Look], items: Sequence[T]) -> list[Look]:
    looks = list(desk.each(title, function, items))
    for look in looks:
        if look.problem is not None:
            desk.report(look.problem)
    return looks


def look_at_image(path: Path) -> Look:
    """Decode an image."""
    try:
        return Look(image_size=read_rgb(path).size)
    except ProblemError as error:
        return Look(error.problem)


def look_at_label(pair: tuple[Path, Path]) -> Look:
    """Decode an image and its label map."""
    return _look_at_map(pair, ade20k.raw_label, lambda raw: {"values_256": np.bincount(raw.ravel(), minlength=256) > 0})


def look_at_depth(pair: tuple[Path, Path]) -> Look:
    """Decode a frame and its depth map."""
    return _look_at_map(pair, nyuv2.raw_depth, lambda raw: {"largest": int(raw.max(initial=0))})


def _look_at_map(
    pair: tuple[Path, Path],
    read: Callable[[Path], NDArray[Any]],
    measure: Callable[[NDArray[Any]], Mapping[str, Any]],
) -> Look:
    look = look_at_image(pair[0])
    if look.problem is not None:
        return look
    try:
        raw = read(pair[1])
    except ProblemError as error:
        return Look(error.problem)
    return Look(image_size=look.image_size, map_size=(raw.shape[1], raw.shape[0]), **measure(raw))


def _same_sizes(desk: Desk, maps: Sequence[Path], looks: Sequence[Look], kind: str, effect: str) -> None:
    for path, look in zip(maps, looks, strict=True):
        if look.problem is None and look.image_size != look.map_size:
            sizes = "{} x {} pixels, its image {} x {}".format(*look.map_size, *look.image_size)
            desk.report(Problem(str(path), f"the {kind} has {sizes}", "Restore both files", effect))


def _reduced(seen: NDArray[np.bool_], classes: int) -> bool:
    return bool(seen[255] and not seen[classes:255].any())


def _beyond(desk: Desk, labels: Sequence[Path], looks: Sequence[Look], seen: NDArray[np.bool_], classes: int) -> bool:
    """Report every label map with a value above `classes`; none when the whole set was reduced, which is told once."""
    if _reduced(seen, classes) or not seen[classes + 1 :].any():
        return False
    for path, look in zip(labels, looks, strict=True):
        if look.values_256 is not None and look.values_256[classes + 1 :].any():
            largest = int(np.flatnonzero(look.values_256)[-1])
            what = (
                f"the largest value is {largest}, expected 0 (unlabelled) and 1..{classes}: this is another label set"
            )
            desk.report(Problem(str(path), what, _ANNOTATIONS))
    return True


def _label_range(where: str, seen: NDArray[np.bool_], classes: int, complete: bool) -> Iterable[Problem]:
    """Labels must be 0 (unlabelled) and 1 .. classes; recognises sets that were already reduced."""
    largest = int(np.flatnonzero(seen)[-1]) if seen.any() else 0
    mend = _ANNOTATIONS
    shifted = "every class would be scored under its neighbour's name and one class as unlabelled, so the mIoU is wrong"
    if _reduced(seen, classes):
        what = f"values 0..{classes - 1} and 255, but no {classes}: the labels were already reduced (255 = ignore)"
        yield Problem(where, what, f"{mend}: the benchmark reduces them itself", shifted)
    elif complete and largest < classes:
        what = f"no pixel has the value {classes}, which occurs in the published split: labels may count from 0"
        yield Problem(where, what, mend, shifted)
    elif complete and not seen[0]:
        what = (
            "no pixel has the value 0 (unlabelled), which occurs in the published split: labels may be shifted by one"
        )
        yield Problem(where, what, mend, shifted)


def _frame_sizes(desk: Desk, paths: Sequence[Path], looks: Sequence[Look]) -> None:
    for path, look in zip(paths, looks, strict=True):
        if desk.real and look.problem is None and look.image_size != nyuv2.PUBLISHED_SIZE:
            what = "{} x {} pixels, published frames have 640 x 480".format(*look.image_size)
            effect = "the crop of the protocol would cut another part of the frame; RMSE is not comparable"
            desk.report(Problem(str(path), what, "Restore the original frames", effect))


def _depth_unit(desk: Desk, depths: Sequence[Path], looks: Sequence[Look], split: str) -> None:
    """Depth files count millimetres up to 10 m; other units show in the largest value of a typical map."""
    for path, look in zip(depths, looks, strict=True):
        if look.problem is None and look.largest == 0:
            effect = "the frame teaches nothing" if split == "train" else "the frame has no RMSE, and the mean fails"
            desk.report(Problem(str(path), "every pixel is missing (0)", "Restore the depth map", effect))
    largest = [look.largest for look in looks if look.largest]
    typical = float(np.median(largest)) if largest else 5000.0
    unit = "metres" if typical <= 20 else "centimetres" if typical <= 1100 else "tenths of a millimetre"
    if 1100 < typical <= 10_500:
        far = [(path, look.largest) for path, look in zip(depths, looks, strict=True) if look.largest > 10_500]
        for path, value in far:
            what = f"the largest depth is {value / 1000:g} m, beyond the 10 m of the protocol"
            effect = "these pixels are left out of the test and teach wrong depths in training"
            desk.report(Problem(str(path), what, "Compare the file with the original", effect, "warning"))
        return
    what = f"the largest value of a typical map is {typical:g}, as if depth were in {unit}; millimetres expected"
    effect = "depths would be wrong by a constant factor, which gives an RMSE that may still look plausible"
    desk.report(Problem(str(desk.root / f"nyu_{split}.txt"), what, "Convert depth to 16-bit millimetres", effect))
