"""Training and validation samples of NYUv2: border crop, rotation, flip, crop and colour.

Every draw has the distribution of EUPE's released evaluation. Lengths are in pixels of a 640 x 480 frame and scale
with frames of another size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from evals.datasets.base import read_rgb
from evals.datasets.nyuv2 import read_depth
from evals.errors import DataError
from evals.metrics.depth import FRAME, scaled
from evals.preprocess import to_tensor, to_unit

BORDER = (45, 472, 43, 608)
"""Rows 45 .. 471 and columns 43 .. 607 of a 480 x 640 frame hold valid pixels: first and one past the last."""
ROTATION = 2.5
"""Largest turn, in degrees, either way."""
GAMMA = (0.9, 1.1)
"""Exponent, applied on the 0 .. 255 scale."""
BRIGHTNESS = (0.75, 1.25)
TINT = (0.9, 1.1)
"""Factor of each channel."""


@dataclass(frozen=True, slots=True)
class TrainingFrames:
    """Makes training samples: RGB in [0, 1] of shape [3, y, x] and depth in metres [y, x], 0 = missing."""

    images: Sequence[Path]
    depths: Sequence[Path]
    crop: tuple[int, int]
    """Rows and columns of the crop, in pixels of the frame as it is."""

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The sample of frame `index` under the draws of `rng`. Raises DataError for a damaged or too small frame."""
        image, depth = read_frame(self.images[index], self.depths[index])
        image, depth = cut_border(image), cut_border(depth)
        if rng.random() < 0.5:
            image, depth = rotate(image, depth, rng.uniform(-ROTATION, ROTATION))
        if rng.random() < 0.5:
            image, depth = image.flip(-1), depth.flip(-1)
        (rows, columns), (height, width) = self.crop, depth.shape
        if rows > height or columns > width:
            raise DataError(
                f"{self.images[index]} has {height} x {width} pixels within its border, fewer than the crop of "
                f"{rows} x {columns}: frames of one set must have one size."
            )
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        window = slice(top, top + rows), slice(left, left + columns)
        image, depth = image[:, *window], depth[window].contiguous()
        return (recolour(image, rng) if rng.random() < 0.5 else image.contiguous()), depth


@dataclass(frozen=True, slots=True)
class ValidationFrames:
    """Validation items: the whole frame as RGB in [0, 1] and its depth in metres."""

    images: Sequence[Path]
    depths: Sequence[Path]

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """Item `index`. Raises DataError for a damaged file."""
        return read_frame(self.images[index], self.depths[index])


def read_frame(image_path: Path, depth_path: Path) -> tuple[Float[Tensor, "3 Y X"], Float[Tensor, "Y X"]]:
    """RGB in [0, 1] and depth in metres. Raises DataError for a damaged file or for two sizes."""
    image = to_unit(to_tensor(read_rgb(image_path)))
    depth = torch.from_numpy(read_depth(depth_path))
    if image.shape[1:] != depth.shape:
        raise DataError(
            f"{depth_path} is {depth.shape[1]} x {depth.shape[0]} and its image {image_path} is "
            f"{image.shape[2]} x {image.shape[1]}. Put back the two files of one release."
        )
    return image, depth


def crop_size(rows: int, columns: int, crop: tuple[int, int]) -> tuple[int, int]:
    """The training crop of frames of `rows` x `columns`, from its size in a 480 x 640 frame."""
    return scaled(crop[0], rows, FRAME[0]), scaled(crop[1], columns, FRAME[1])


def cut_border(values: Float[Tensor, "*C Y X"]) -> Float[Tensor, "*C y x"]:
    """Without the border in which the registered camera saw nothing: 427 x 565 of 480 x 640."""
    rows, columns = values.shape[-2:]
    top, bottom = (scaled(edge, rows, FRAME[0]) for edge in BORDER[:2])
    left, right = (scaled(edge, columns, FRAME[1]) for edge in BORDER[2:])
    return values[..., top:bottom, left:right]


def rotate(
    image_3YX: Float[Tensor, "3 Y X"], depth_YX: Float[Tensor, "Y X"], degrees: float
) -> tuple[Float[Tensor, "3 Y X"], Float[Tensor, "Y X"]]:
    """Both turned about the centre at the same size: colour bilinear, depth nearest, 0 where nothing was seen."""
    image: Tensor = vision.rotate(image_3YX, degrees, InterpolationMode.BILINEAR, fill=[0.0])
    depth: Tensor = vision.rotate(depth_YX[None], degrees, InterpolationMode.NEAREST, fill=[0.0])
    # Interpolated whites may exceed 1 by rounding, which no encoder takes.
    return image.clamp_(0, 1), depth[0]


def recolour(image_3YX: Float[Tensor, "3 Y X"], rng: np.random.Generator) -> Float[Tensor, "3 Y X"]:
    """Gamma, brightness and tint on the 0 .. 255 scale, then back to [0, 1]."""
    values = image_3YX.numpy() * np.float32(255)
    values = values ** np.float32(rng.uniform(*GAMMA))
    values = values * np.float32(rng.uniform(*BRIGHTNESS))
    tint = rng.uniform(*TINT, size=3)[:, None, None]  # float64, and so is the rest
    return torch.from_numpy((np.clip(values * tint, 0, 255) / 255).astype(np.float32))
