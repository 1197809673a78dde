"""ADE20K of the scene-parsing challenge (ADEChallengeData2016): images and label maps of 150 classes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from evals.datasets.base import Images, Split, evenly, fingerprint, sub_fingerprint
from evals.datasets.layout import Problem, Report, home, names, read_map, read_text, stop, unavailable
from evals.files import DigestMemo

Part = Literal["training", "validation"]
PARTS: tuple[Part, ...] = ("training", "validation")
PUBLISHED: dict[str, int] = {"training": 20_210, "validation": 2_000}
"""Images a split (ADEChallengeData2016, MIT Scene Parsing Benchmark)."""
PUBLISHED_CLASSES = 150
INNER = "ADEChallengeData2016"

_TREE = """
{root}/    (or the folder ADEChallengeData2016 inside it)
  images/{{training,validation}}/*.jpg        20,210 and 2,000 images
  annotations/{{training,validation}}/*.png   8-bit labels: 0 = unlabelled, 1..150
  objectInfo150.txt                         optional: class names
"""
_SOURCE = (
    "ADEChallengeData2016.zip of the MIT Scene Parsing Benchmark (sceneparsing.csail.mit.edu, about 1 GB; images for\n"
    "non-commercial research and education). The full ADE20K data set, with its <name>_seg.png files, is another one."
)


@dataclass(frozen=True, slots=True)
class SegmentationSplit(Split):
    """Images with a label map each, sorted by file name."""

    labels: tuple[Path, ...]
    """Label maps; values 0 (unlabelled) and 1 .. number of classes."""
    class_names: tuple[str, ...] | None
    """Name of label k at position k - 1, from objectInfo150.txt; None without that file."""

    def limit(self, n: int) -> Self:
        """At most `n` images, spread evenly."""
        if n >= len(self):
            return self
        kept = evenly(len(self), n)
        return replace(
            self,
            images=self.images.part(kept),
            fingerprint=sub_fingerprint(self.fingerprint, kept),
            labels=tuple(self.labels[i] for i in kept),
        )


def load(root: Path, split: Part, digests: DigestMemo) -> SegmentationSplit:
    """The split, from ADEChallengeData2016 itself or from the folder that holds it; no image is opened.

    Raises UnavailableError when the split is not there, DataError when an image has no label map or the reverse.
    """
    base = home(root, INNER, "images")
    paths, labels = survey(root, split, stop)
    readable = class_names(root, stop)
    images = Images(f"ade20k/{split}", tuple(paths), fingerprint(paths, base, digests))
    listed = [base / "objectInfo150.txt"] if readable is not None else []
    return SegmentationSplit(
        dataset="ade20k",
        split=split,
        images=images,
        fingerprint=fingerprint([*labels, *listed], base, digests, extra=images.fingerprint),
        n_original=len(paths),
        labels=tuple(labels),
        class_names=readable,
    )


def survey(root: Path, split: str, report: Report) -> tuple[list[Path], list[Path]]:
    """Images of a split and their label maps, only those that have both; every problem goes to `report`."""
    base = home(root, INNER, "images")
    pictures, maps = base / "images" / split, base / "annotations" / split
    for folder in (pictures, maps):
        if not folder.is_dir():
            raise unavailable("ADE20K", folder, _TREE.format(root=root), _SOURCE)
    images = {Path(name).stem: name for name in names(pictures, (".jpg",), report)}
    labels = {Path(name).stem: name for name in names(maps, (".png",), report)}
    if not images and not labels:
        raise unavailable("ADE20K", pictures / "*.jpg", _TREE.format(root=root), _SOURCE)
    for stem in sorted(images.keys() - labels.keys()):
        what = f"its label map {maps / stem}.png does not exist"
        report(Problem(str(pictures / images[stem]), what, "Restore the label map, or remove the image"))
    for stem in sorted(labels.keys() - images.keys()):
        what = f"its image {pictures / stem}.jpg does not exist"
        report(Problem(str(maps / labels[stem]), what, "Restore the image, or remove the label map"))
    both = sorted(images.keys() & labels.keys(), key=lambda stem: images[stem])
    return [pictures / images[stem] for stem in both], [maps / labels[stem] for stem in both]


def class_names(root: Path, report: Report) -> tuple[str, ...] | None:
    """First name of every class from objectInfo150.txt (tabs; number first, names last); None without the file."""
    path = home(root, INNER, "images") / "objectInfo150.txt"
    if not path.exists():
        return None
    found: list[str] = []
    for number, line in enumerate(read_text(path).splitlines()[1:], start=2):
        cells = line.strip().split("\t")
        if cells == [""]:
            continue
        if len(cells) < 2 or cells[0].strip() != str(len(found) + 1):
            what = f"expected class {len(found) + 1} in the first of several columns, got {line!r}"
            effect = "class names would not stand beside their classes; scores do not change"
            report(Problem(f"{path}, line {number}", what, "Restore the file, or remove it", effect))
        found.append(cells[-1].replace(";", ",").split(",")[0].strip())
    return tuple(found)


def read_label(path: Path, num_classes: int) -> NDArray[np.uint8]:
    """Raw labels (Y, X): 0 = unlabelled, 1 .. num_classes.

    Raises DataError for a damaged file, one with several channels, or a value above `num_classes`.
    """
    label = raw_label(path)
    largest = int(label.max(initial=0))
    if largest > num_classes:
        raise Problem(
            str(path),
            f"the label map holds the value {largest}, expected 0 (unlabelled) and 1..{num_classes}. Either the "
            "annotations folder is another one, or they come from the full ADE20K data set instead of the challenge "
            "release ADEChallengeData2016, or they were already reduced (0..149 with 255 = ignore)",
            "Put back the original annotations",
        ).error()
    return label


def raw_label(path: Path) -> NDArray[np.uint8]:
    """The label map's own values (Y, X), whatever they are. Raises DataError unless it has one 8-bit channel."""
    mode, values = read_map(path, "label map")
    if mode not in ("L", "P"):
        raise Problem(
            str(path),
            f"the label map has Pillow mode {mode}, expected one 8-bit channel. It may be a coloured picture of the "
            "labels, or come from the full ADE20K data set",
            "Put back the annotations of ADEChallengeData2016",
        ).error()
    return values.astype(np.uint8, copy=False)
