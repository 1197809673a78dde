"""The training pictures of the embedded world in memory, and random crops of them together with what belongs to them.

Only worlds of the size `lessons` are read, and never the seed that the benchmarks use: their pictures stay unseen.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from evals.datasets import ade20k, imagenet, nyuv2, spair
from evals.datasets.base import read_rgb
from evals.files import DigestMemo
from evals.miniature.notices import FOLDER as NOTICES
from evals.miniature.signs import WORDS, letter_centres
from evals.miniature.sizes import SIZES
from evals.miniature.world import SCENES

CANVAS = SIZES["lessons"].long
"""Longest side of a picture."""
_TALLER = 1.1
"""Seen aslant, a board is less wide, and as high as ever."""
_HELD_OUT = 8
"""Of every this many pictures one is kept for measuring skills."""


@dataclass(frozen=True, slots=True)
class Points:
    """Key points of a picture: number of each among all of all categories, and its place (x, y) in pixels."""

    ids_K: NDArray[np.int64]
    places_K2: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures as bytes in the corner of a black square, with whatever belongs to each."""

    pixels_N3SS: UInt8[Tensor, "N 3 S S"]
    sizes_N2: NDArray[np.float64]
    """Width and height."""
    targets: Any
    """By picture: class numbers, maps on the same canvas, or key points."""
    boxes_N4: NDArray[np.float64] | None = None
    """Where its subject is: left, top, right, bottom."""

    def __len__(self) -> int:
        return len(self.sizes_N2)

    def part(self, held_out: bool) -> "Pictures":
        """The pictures to learn from, or those that are kept for measuring."""
        at = np.array([n for n in range(len(self)) if (n % _HELD_OUT == _HELD_OUT - 1) == held_out])
        targets = [self.targets[n] for n in at] if isinstance(self.targets, list) else self.targets[at]
        boxes = None if self.boxes_N4 is None else self.boxes_N4[at]
        return Pictures(self.pixels_N3SS[at], self.sizes_N2[at], targets, boxes)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where crops lie in their pictures: centre (x, y) in pixels, magnification, and -1 for mirrored ones."""

    centre_B2: NDArray[np.float64]
    scale_B: NDArray[np.float64]
    mirror_B: NDArray[np.float64]
    rows: int
    columns: int

    def apply(self, canvas_BCSS: Tensor, mode: str = "bilinear") -> Float[Tensor, "B C Y X"]:
        """The crops; 0 where they leave the canvas."""
        x = np.arange(self.columns) + 0.5 - self.columns / 2
        y = np.arange(self.rows) + 0.5 - self.rows / 2
        at_x = self.centre_B2[:, :1] + self.mirror_B[:, None] * x / self.scale_B[:, None]
        at_y = self.centre_B2[:, 1:] + y / self.scale_B[:, None]
        shape = len(at_x), self.rows, self.columns
        grid = np.stack([np.broadcast_to(at_x[:, None], shape), np.broadcast_to(at_y[:, :, None], shape)], -1)
        grid_BYX2 = torch.from_numpy(2 * grid / canvas_BCSS.shape[-1] - 1).float()
        return functional.grid_sample(canvas_BCSS.float(), grid_BYX2, mode=mode, align_corners=False)

    def place(self, index: int, points_K2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of a picture in pixels of its crop."""
        factors_2 = self.scale_B[index] * np.array([self.mirror_B[index], 1.0])
        middle_2 = np.array([self.columns / 2, self.rows / 2])
        moved: NDArray[np.float64] = (points_K2 - self.centre_B2[index]) * factors_2 + middle_2
        return moved


def draw_cut(
    draws: np.random.Generator,
    sizes_B2: NDArray[np.float64],
    scales: tuple[float, float],
    sides: tuple[int, int],
    *,
    mirror: bool,
    stray: float,
) -> Cut:
    """Crops of (rows, columns), magnified log-uniformly within `scales`, off the centre by `stray` of the slack."""
    rows, columns = sides
    scale_B = np.exp(draws.uniform(np.log(scales[0]), np.log(scales[1]), len(sizes_B2)))
    slack = np.abs(sizes_B2 - np.array([columns, rows]) / scale_B[:, None]) / 2
    centre = sizes_B2 / 2 + stray * slack * draws.uniform(-1, 1, sizes_B2.shape)
    signs = draws.choice([-1.0, 1.0], len(sizes_B2)) if mirror else np.ones(len(sizes_B2))
    return Cut(centre, scale_B, signs, rows, columns)


def recolour(images_B3YX: Float[Tensor, "B 3 Y X"], draws: np.random.Generator) -> Float[Tensor, "B 3 Y X"]:
    """Bytes of crops under another light, in [0, 1]."""
    tint = torch.from_numpy(draws.uniform(0.75, 1.25, (len(images_B3YX), 3, 1, 1))).float()
    gamma = torch.from_numpy(draws.uniform(0.75, 1.33, (len(images_B3YX), 1, 1, 1))).float()
    return ((images_B3YX / 255).clamp(0, 1).pow(gamma) * tint).clamp(0, 1)


def draw_close(draws: np.random.Generator, boxes_B4: NDArray[np.float64], side: int, spans: tuple[float, float]) -> Cut:
    """Square crops around the boards at the top of boxes; they take a share of the side within `spans`, whole."""
    width_B = boxes_B4[:, 2] - boxes_B4[:, 0] + 1
    # Boards are two to three times as wide as high; below them are posts.
    centre = np.stack([(boxes_B4[:, 0] + boxes_B4[:, 2]) / 2, boxes_B4[:, 1] + 0.2 * width_B], 1)
    span_B = draws.uniform(*spans, len(boxes_B4))
    slack_B1 = ((1 - span_B) / span_B * width_B / 2)[:, None]
    moved = centre + slack_B1 * draws.uniform(-1, 1, centre.shape)
    return Cut(moved, side * span_B / width_B, np.ones(len(boxes_B4)), side, side)


def objects(world: Path) -> tuple[Pictures, tuple[str, ...]]:
    """Pictures of one object each with their class, and the names of the classes."""
    split = imagenet.load(world / "imagenet", "train", DigestMemo(None))
    assert split.names is not None, "the world names its classes"
    return _read(split.images.paths, split.labels_N.astype(np.int64)), tuple(split.names)


def scenes(world: Path) -> tuple[Pictures, int]:
    """Rooms with label maps (1 + class, 0 unlabelled), and the number of classes."""
    split = ade20k.load(world / "ade20k", "training", DigestMemo(None))
    count = len(split.class_names or ())
    maps = [torch.from_numpy(ade20k.read_label(path, count).astype(np.uint8)) for path in split.labels]
    return _read(split.images.paths, torch.stack([_on_canvas(each[None]) for each in maps])), count


def rooms(world: Path) -> Pictures:
    """Rooms with depth maps in metres (0: missing)."""
    split = nyuv2.load(world / "nyu", "train", DigestMemo(None))
    maps = [torch.from_numpy(nyuv2.read_depth(path)).half() for path in split.depths]
    return _read(split.images.paths, torch.stack([_on_canvas(each[None]) for each in maps]))


def portraits(world: Path) -> tuple[Pictures, int]:
    """Objects with key points, and the number of different points."""
    split = spair.load(world / "SPair-71k", "trn", DigestMemo(None))
    numbers: dict[tuple[str, str], int] = {}
    found: list[dict[int, NDArray[np.float64]]] = [{} for _ in split.images.paths]
    for pair in split.pairs:
        for image, places_K2 in ((pair.source, pair.source_points_K2), (pair.target, pair.target_points_K2)):
            for name, place in zip(pair.point_ids, places_K2, strict=True):
                found[image][numbers.setdefault((pair.category, name), len(numbers))] = place
    # A picture that shares too few points with every other one is in no pair, and teaches nothing.
    shown = [at for at, each in enumerate(found) if each]
    points = [Points(np.array(list(found[at])), np.stack(list(found[at].values()))) for at in shown]
    return _read([split.images.paths[at] for at in shown], points), len(numbers)


def notices(world: Path) -> tuple[Pictures, tuple[str, ...]]:
    """Pictures of signs with the number of their word and the box of the sign, and the words."""
    listed = [
        (number, path) for number, word in enumerate(WORDS) for path in sorted((world / NOTICES / word).iterdir())
    ]
    found = _read([path for _, path in listed], np.array([number for number, _ in listed]))
    boxes = _boxes(world)
    places = np.array([boxes[path.relative_to(world).as_posix()] for _, path in listed], np.float64)
    return replace(found, boxes_N4=places), WORDS


def letters(word: str, box_4: NDArray[np.float64]) -> Points:
    """The letters (0: A) of a sign seen nearly from the front, by the box of its board and posts."""
    wide = box_4[2] - box_4[0] + 1
    places = [(box_4[0] + x * wide, box_4[1] + _TALLER * y * wide) for x, y in letter_centres(word)]
    return Points(np.array([ord(letter) - ord("A") for letter in word]), np.array(places))


def _boxes(world: Path) -> dict[str, list[int]]:
    """Path of a notice -> box of its sign, which comes first."""
    with (world / SCENES).open(encoding="utf-8") as lines:
        described = (json.loads(line) for line in lines)
        return {each["image"]: each["objects"][0]["box"] for each in described if each["image"].startswith(NOTICES)}


def _read(paths: Sequence[Any], targets: Any) -> Pictures:
    images = [torch.from_numpy(np.array(read_rgb(path))).permute(2, 0, 1) for path in paths]
    sizes = np.array([(image.shape[2], image.shape[1]) for image in images], np.float64)
    return Pictures(torch.stack([_on_canvas(image) for image in images]), sizes, targets)


def _on_canvas(image: Tensor) -> Tensor:
    rows, columns = image.shape[-2:]
    return functional.pad(image, (0, CANVAS - columns, 0, CANVAS - rows))
