"""Training and validation samples of ADE20K: scale, crop, flip and photometric distortion, in bytes.

Every draw has the distribution of EUPE's released evaluation (which seeds a global generator; here each sample has its
own). Images stay bytes of RGB, "Y X 3", until they are padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import functional as vision

from evals.datasets.ade20k import read_label
from evals.datasets.base import read_rgb
from evals.errors import DataError
from evals.metrics.segmentation import IGNORE
from evals.preprocess import to_tensor
from evals.types import Triple

SCALES = (0.5, 2.0)
"""Short side after scaling, in crops: uniform between these."""
LARGEST_SHARE = 0.75
"""A crop is accepted when its largest class has less than this share of the labelled pixels and there is another."""
REDRAWS = 10
"""Times that a crop is drawn again; the last one is taken as it is."""
BRIGHTNESS = 32
"""Largest shift, of 255."""
CONTRAST = SATURATION = (0.5, 1.5)
"""Factors."""
HUE = 0.5
"""Largest turn, in turns."""

Pixels = UInt8[np.ndarray, "Y X 3"]
Labels = UInt8[np.ndarray, "Y X"]


@dataclass(frozen=True, slots=True)
class TrainingScenes:
    """Makes training samples: RGB in [0, 1] of shape [3, crop, crop] and reduced labels [crop, crop]."""

    images: Sequence[Path]
    labels: Sequence[Path]
    classes: int
    crop: int
    fill: Triple
    """RGB in [0, 1] beyond the image: the encoder's mean, which is zero once normalised."""

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The sample of image `index` under the draws of `rng`. Raises DataError for a damaged file."""
        image, raw = read_scene(self.images[index], self.labels[index], self.classes)
        image = resize_short(image, draw_short_side(rng, self.crop))
        label = reduce_label(resize_nearest(raw, image.height, image.width))
        top, left = draw_crop(rng, label, self.crop)
        window = slice(top, top + self.crop), slice(left, left + self.crop)
        pixels, label = np.asarray(image)[window], label[window]
        if rng.random() < 0.5:
            pixels, label = pixels[:, ::-1], label[:, ::-1]
        return pad(distort(np.array(pixels), rng), np.array(label), self.crop, self.fill)


@dataclass(frozen=True, slots=True)
class ValidationScenes:
    """Validation items: bytes [3, Y, X] with the short side at `short`, and the reduced label at its own size."""

    images: Sequence[Path]
    labels: Sequence[Path]
    classes: int
    short: int

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """Item `index`. Raises DataError for a damaged file."""
        image, raw = read_scene(self.images[index], self.labels[index], self.classes)
        return to_tensor(resize_short(image, self.short)), torch.from_numpy(reduce_label(raw))


def read_scene(image_path: Path, label_path: Path, classes: int) -> tuple[Image.Image, Labels]:
    """Image and raw label map. Raises DataError for a damaged file or for two sizes."""
    image, raw = read_rgb(image_path), read_label(label_path, classes)
    if raw.shape != (image.height, image.width):
        raise DataError(
            f"{label_path} is {raw.shape[1]} x {raw.shape[0]} and its image {image_path} is "
            f"{image.width} x {image.height}. Put back the two files of one release."
        )
    return image, raw


def reduce_label(raw_YX: Labels) -> Labels:
    """0 (unlabelled) -> 255 (ignored), k -> k - 1, 255 -> 255."""
    return np.where((raw_YX == 0) | (raw_YX == IGNORE), np.uint8(IGNORE), raw_YX - np.uint8(1))


def short_side_size(width: int, height: int, short: int) -> tuple[int, int]:
    """(width, height) with the short side at `short`, the other rounded half up."""
    if height > width:
        return short, int(short * height / width + 0.5)
    return int(short * width / height + 0.5), short


def resize_short(image: Image.Image, short: int) -> Image.Image:
    """The image with its short side at `short` (Pillow's bilinear filter, which antialiases)."""
    return image.resize(short_side_size(*image.size, short), Image.Resampling.BILINEAR)


def resize_nearest(label_YX: Labels, rows: int, columns: int) -> UInt8[np.ndarray, "y x"]:
    """Labels at another size: pixel i takes the one at floor(i x scale)."""
    resized = functional.interpolate(torch.tensor(label_YX)[None, None], size=(rows, columns), mode="nearest")
    return np.asarray(resized[0, 0].numpy())


def draw_short_side(rng: np.random.Generator, crop: int) -> int:
    """Short side of the scaled image: half to twice the crop."""
    low, high = SCALES
    return int(crop * (rng.random() * (high - low) + low))


def draw_crop(rng: np.random.Generator, label_YX: Labels, crop: int) -> tuple[int, int]:
    """Top and left of a crop that shows several classes, if one of the first draws does."""
    rows, columns = label_YX.shape

    def offsets() -> tuple[int, int]:
        return int(rng.integers(max(rows - crop, 0) + 1)), int(rng.integers(max(columns - crop, 0) + 1))

    top, left = offsets()
    for _ in range(REDRAWS):
        if is_varied(label_YX[top : top + crop, left : left + crop]):
            break
        top, left = offsets()
    return top, left


def is_varied(label_YX: Labels) -> bool:
    """Among labelled pixels there is more than one class, and none has 3/4 of them or more."""
    counts = np.bincount(label_YX.ravel(), minlength=IGNORE + 1)[:IGNORE]
    return bool((counts > 0).sum() > 1 and counts.max() / counts.sum() < LARGEST_SHARE)


def distort(pixels_YX3: Pixels, rng: np.random.Generator) -> Pixels:
    """Brightness, saturation, hue, each on a coin's toss, and contrast before or after the last two.

    Each step is cut to 0 .. 255 and rounded down to bytes.
    """
    if rng.integers(2):
        pixels_YX3 = _affine(pixels_YX3, 1.0, rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    contrast_first = bool(rng.integers(2))
    if contrast_first:
        pixels_YX3 = _contrast(pixels_YX3, rng)
    if rng.integers(2):
        factor = rng.uniform(*SATURATION)
        pixels_YX3 = _last(vision.adjust_saturation(_first(pixels_YX3), factor))
    if rng.integers(2):
        pixels_YX3 = _last(vision.adjust_hue(_first(pixels_YX3), rng.uniform(-HUE, HUE)))
    if not contrast_first:
        pixels_YX3 = _contrast(pixels_YX3, rng)
    return pixels_YX3


def pad(
    pixels_YX3: Pixels, label_YX: Labels, side: int, fill: Triple
) -> tuple[Float[Tensor, "3 y y"], UInt8[Tensor, "y y"]]:
    """RGB in [0, 1] and labels, filled up at the right and bottom with `fill` and with the ignored label."""
    rows, columns = label_YX.shape
    image = np.empty((3, side, side), np.float32)
    image[:] = np.array(fill, np.float32)[:, None, None]
    image[:, :rows, :columns] = pixels_YX3.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    label = np.full((side, side), IGNORE, np.uint8)
    label[:rows, :columns] = label_YX
    return torch.from_numpy(image), torch.from_numpy(label)


def _contrast(pixels_YX3: Pixels, rng: np.random.Generator) -> Pixels:
    return _affine(pixels_YX3, rng.uniform(*CONTRAST), 0.0) if rng.integers(2) else pixels_YX3


def _affine(pixels_YX3: Pixels, factor: float, shift: float) -> Pixels:
    moved = pixels_YX3.astype(np.float32) * np.float32(factor) + np.float32(shift)
    return np.asarray(np.clip(moved, 0, 255).astype(np.uint8))


def _first(pixels_YX3: Pixels) -> UInt8[Tensor, "3 Y X"]:
    """Channels first, as torchvision wants them."""
    return torch.from_numpy(np.ascontiguousarray(pixels_YX3.transpose(2, 0, 1)))


def _last(image_3YX: UInt8[Tensor, "3 Y X"]) -> Pixels:
    return np.ascontiguousarray(image_3YX.permute(1, 2, 0).numpy())
