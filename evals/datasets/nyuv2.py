"""NYU Depth V2 in the subset of BTS and BinsFormer: lists of colour frames and 16-bit depth maps."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from evals.datasets.base import Images, Split, evenly, fingerprint, sub_fingerprint
from evals.datasets.layout import Problem, Report, read_map, read_text, stop, unavailable
from evals.files import DigestMemo

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")
PUBLISHED: dict[str, int] = {"train": 24_231, "test": 654}
"""Frames a split (lists of the public BTS and BinsFormer releases)."""
PUBLISHED_SIZE = (640, 480)
"""Width and height of every frame, in pixels."""
UNITS_A_METRE = 1000
"""Depth files count millimetres."""

_TREE = """
{root}/
  nyu_train.txt    24,231 lines: <scene>/rgb_<n>.jpg <scene>/sync_depth_<n>.png <focal length>
  nyu_test.txt     654 lines
  <scene>/rgb_<n>.jpg           640 x 480
  <scene>/sync_depth_<n>.png    16 bit, millimetres, 0 = missing
"""
_SOURCE = (
    "the NYUv2 subset of BTS (From Big to Small): its repository links the training frames (sync.zip) and cuts the\n"
    "test frames from nyu_depth_v2_labeled.mat of the official site (cs.nyu.edu, NYU Depth V2). The lists come with\n"
    "the Monocular Depth Estimation Toolbox (BinsFormer) as nyu_train.txt and nyu_test.txt, or with BTS as\n"
    "nyudepthv2_train_files_with_gt.txt and nyudepthv2_test_files_with_gt.txt: rename those."
)


@dataclass(frozen=True, slots=True)
class DepthSplit(Split):
    """Colour frames with a depth map each, in the order of the sorted list."""

    depths: tuple[Path, ...]

    def limit(self, n: int) -> Self:
        """At most `n` frames, spread evenly."""
        if n >= len(self):
            return self
        kept = evenly(len(self), n)
        return replace(
            self,
            images=self.images.part(kept),
            fingerprint=sub_fingerprint(self.fingerprint, kept),
            depths=tuple(self.depths[i] for i in kept),
        )


def load(root: Path, split: Part, digests: DigestMemo) -> DepthSplit:
    """The split named by nyu_<split>.txt in `root`; no image is opened.

    Raises UnavailableError without the list, DataError for a line without exactly three fields or with a missing file.
    """
    paths, depths = survey(root, split, stop)
    images = Images(f"nyuv2/{split}", tuple(paths), fingerprint(paths, root, digests))
    return DepthSplit(
        dataset="nyuv2",
        split=split,
        images=images,
        fingerprint=fingerprint(depths, root, digests, extra=images.fingerprint),
        n_original=len(paths),
        depths=tuple(depths),
    )


def survey(root: Path, split: str, report: Report) -> tuple[list[Path], list[Path]]:
    """Frames and depth maps of a list's sorted lines, only those that exist; every problem goes to `report`."""
    path = root / f"nyu_{split}.txt"
    if not path.is_file():
        raise unavailable("NYUv2", path, _TREE.format(root=root), _SOURCE)
    lines = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if len(fields) == 3:
            lines.append(([field.lstrip("/") for field in fields], number))
        elif fields:
            what = f"{len(fields)} fields, expected three (image, depth map, focal length): {line.strip()!r}"
            report(Problem(f"{path}, line {number}", what, "Restore the list"))
    if not lines:
        report(Problem(str(path), "the list names no frame", "Restore the list"))
    frames, depths = [], []
    for (colour, depth, _), number in sorted(lines):
        missing = [name for name in (colour, depth) if not (root / name).is_file()]
        for name in missing:
            what = f"{root / name} does not exist"
            report(
                Problem(f"{path}, line {number}", what, "Restore the file; the lists belong beside the scene folders")
            )
        if not missing:
            frames.append(root / colour)
            depths.append(root / depth)
    return frames, depths


def read_depth(path: Path) -> NDArray[np.float32]:
    """Depth (Y, X) in metres, 0 = missing. Raises DataError for a damaged file or one that is not 16-bit."""
    return raw_depth(path).astype(np.float32) / np.float32(UNITS_A_METRE)


def raw_depth(path: Path) -> NDArray[np.uint16]:
    """The depth map's own integers (Y, X). Raises DataError unless it has one 16-bit channel."""
    mode, values = read_map(path, "depth map")
    if mode in ("L", "P", "1"):
        what = (
            f"16-bit millimetres expected, got an 8-bit file (Pillow mode {mode}); an 8-bit file would give depths of "
            "at most 0.255 m"
        )
        raise Problem(str(path), what, "Put back the original depth map: 8-bit copies have lost the depth").error()
    if mode not in ("I;16", "I;16B", "I"):
        what = f"16-bit millimetres in one channel expected, got Pillow mode {mode}"
        raise Problem(str(path), what, "Put back the original depth map: coloured copies have lost the depth").error()
    return values.astype(np.uint16)
