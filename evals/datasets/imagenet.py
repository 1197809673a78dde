"""ImageNet-1k as class folders: root/{train,val}/<class>/<image>."""

import csv
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from evals.datasets.base import Images, Split, evenly_by_group, fingerprint, sub_fingerprint
from evals.datasets.layout import Problem, Report, names, read_text, shown, stop, unavailable
from evals.files import DigestMemo

Part = Literal["train", "val"]
PARTS: tuple[Part, ...] = ("train", "val")
PUBLISHED: dict[str, int] = {"train": 1_281_167, "val": 50_000}
"""Images a split (ILSVRC 2012 classification task, image-net.org)."""
PUBLISHED_CLASSES = 1000
PUBLISHED_VAL_PER_CLASS = 50
ENDINGS = (".jpeg", ".jpg", ".png")

_TREE = """
{root}/
  train/<wnid>/<wnid>_<n>.JPEG             1,281,167 images in 1000 class folders
  val/<wnid>/ILSVRC2012_val_<n>.JPEG       50,000 images in the same class folders
  labels.txt                               optional: one line a class, wnid,name
"""
_SOURCE = (
    "register at image-net.org and accept its terms (research and education only); take the archives\n"
    "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar. The train archive holds one archive a class: unpack each\n"
    "into its class folder; sort val into the same folders. Kaggle's copy has this tree under ILSVRC/Data/CLS-LOC."
)
_SORTING = (
    "Move every image into a folder named after its class (wnid): line i of ILSVRC2012_validation_ground_truth.txt in "
    "the development kit is the class of image i, and meta.mat gives its wnid. torchvision.datasets.ImageNet(root, "
    "'val') does it from the archives ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz"
)


@dataclass(frozen=True, slots=True)
class ClassificationSplit(Split):
    """Images with one class each, sorted by class, then by file name."""

    labels_N: NDArray[np.int64] = field(compare=False)
    """Positions in `classes`."""
    classes: tuple[str, ...]
    """Names of the class folders (WordNet ids), sorted."""
    names: tuple[str, ...] | None
    """Readable names in the order of `classes`, from labels.txt; None without that file."""

    def limit(self, n: int) -> Self:
        """At most `n` images: classes take turns, and inside a class the images are spread evenly."""
        if n >= len(self):
            return self
        kept = evenly_by_group(self.labels_N.tolist(), n)
        return replace(
            self,
            images=self.images.part(kept),
            fingerprint=sub_fingerprint(self.fingerprint, kept),
            labels_N=self.labels_N[kept],
        )


def load(root: Path, split: Part, digests: DigestMemo) -> ClassificationSplit:
    """The split in class-folder order; no image is opened.

    Raises UnavailableError when the split is not there, DataError for a flat folder, stray or empty class folders,
    or classes that differ between train and val.
    """
    paths, labels, classes = survey(root, split, stop)
    readable = class_names(root, classes, stop)
    images = Images(f"imagenet-1k/{split}", tuple(paths), fingerprint(paths, root, digests))
    listed = [root / "labels.txt"] if readable is not None else []
    return ClassificationSplit(
        dataset="imagenet-1k",
        split=split,
        images=images,
        fingerprint=fingerprint(listed, root, digests, extra=images.fingerprint),
        n_original=len(paths),
        labels_N=np.asarray(labels, dtype=np.int64),
        classes=classes,
        names=readable,
    )


def survey(root: Path, split: str, report: Report) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Image paths, their labels and the classes of a split; every problem goes to `report`."""
    folder = root / split
    if not folder.is_dir():
        raise unavailable("ImageNet-1k", folder, _TREE.format(root=root), _SOURCE)
    classes, loose = _folders(folder, report)
    if not classes and not loose:
        raise unavailable("ImageNet-1k", folder / "<wnid>", _TREE.format(root=root), _SOURCE)
    if loose:
        what = f"{len(loose)} images lie beside the class folders, the first is {loose[0]}; expected {split}/<wnid>/"
        report(Problem(str(folder), what, _SORTING))
    _compare(root, split, classes, report)
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = names(folder / name, ENDINGS, report)
        if not found:
            report(Problem(str(folder / name), "the class folder holds no image", "Restore its images, or remove it"))
        within = folder / name
        paths.extend(within / file for file in found)
        labels.extend([label] * len(found))
    return paths, labels, tuple(classes)


def _folders(folder: Path, report: Report) -> tuple[list[str], list[str]]:
    """Class folders, and images that lie beside them."""
    entries = shown(folder, report)
    classes = sorted(entry.name for entry in entries if entry.is_dir())
    return classes, sorted(entry.name for entry in entries if entry.name.lower().endswith(ENDINGS) and entry.is_file())


def _compare(root: Path, split: str, classes: list[str], report: Report) -> None:
    other = root / next(part for part in PARTS if part != split)
    # What is wrong with the other split is told when it is read itself.
    theirs = _folders(other, lambda problem: None)[0] if other.is_dir() else []
    if not theirs or theirs == classes:
        return
    lacking, extra = sorted(set(theirs) - set(classes)), sorted(set(classes) - set(theirs))
    parts = [f"lacks {', '.join(lacking[:3])} ({len(lacking)} in all)"] if lacking else []
    parts += [f"has {', '.join(extra[:3])} besides ({len(extra)} in all)"] if extra else []
    what = f"its class folders are not those of {other}: it {' and '.join(parts)}"
    effect = (
        "labels are positions in the sorted class folders, so every class after the first difference would be wrong"
    )
    report(Problem(str(root / split), what, "Restore or remove class folders until both splits agree", effect))


def class_names(root: Path, classes: tuple[str, ...], report: Report) -> tuple[str, ...] | None:
    """Readable names from root/labels.txt (lines `wnid,name`), in the order of `classes`; None without the file."""
    path = root / "labels.txt"
    if not path.exists():
        return None
    known: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(read_text(path)), skipinitialspace=True), start=1):
        name = ", ".join(cell.strip() for cell in row[1:] if cell.strip())
        if name:
            known[row[0].strip()] = name
        elif row:
            report(Problem(f"{path}, line {number}", f"expected wnid,name, got {','.join(row)!r}", "Mend the line"))
    lacking = [name for name in classes if name not in known]
    if lacking:
        what = f"no name for {', '.join(lacking[:3])} ({len(lacking)} of {len(classes)} classes)"
        effect = "zero-shot classification would have no prompt for these classes"
        report(Problem(str(path), what, "Add a line wnid,name for each class, or remove the file", effect))
    return tuple(known.get(name, name) for name in classes)
