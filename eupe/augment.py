"""The augmentation that student and teachers share: one crop and one set of colour changes an image.

The parameters are those of the only DINO view with both blur and solarisation; the frequencies are what they say (the
blur of the public DINO code runs with one minus its probability). Every draw comes from the generator of the sample.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as tv
from torchvision.transforms.v2.functional import InterpolationMode

_TRIES = 10
"""Crops that are tried before the largest that fits is taken."""


@dataclass(frozen=True, slots=True)
class Augment:
    """What may happen to an image, and how often."""

    scale: tuple[float, float] = (0.32, 1.0)
    """Share of the area that a crop keeps."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of a crop."""
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    gray: float = 0.2
    blur: float = 0.1
    blur_kernel: int = 9
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.2
    solarize_from: int = 128
    teacher: Literal["shared", "clean"] = "shared"
    """`clean`: teachers see the same crop without changes of colour (row 13)."""

    def __call__(
        self, image_3YX: UInt8[Tensor, "3 Y X"], side: int, draws: torch.Generator
    ) -> tuple[UInt8[Tensor, "3 S S"], UInt8[Tensor, "3 S S"] | None]:
        """A square of `side` pixels, and what teachers see in its place; None where they see the same."""
        made = self._placed(image_3YX, side, draws)
        return self._coloured(made, draws), made if self.teacher == "clean" else None

    def _placed(self, image_3YX: Tensor, side: int, draws: torch.Generator) -> Tensor:
        """A crop, maybe mirrored."""
        top, left, rows, columns = self.crop(image_3YX.shape[1], image_3YX.shape[2], draws)
        made: Tensor = tv.resized_crop(
            image_3YX, top, left, rows, columns, [side, side], InterpolationMode.BICUBIC, antialias=True
        )
        if _happens(self.flip, draws):
            made = tv.horizontal_flip(made)
        return made

    def _coloured(self, made: Tensor, draws: torch.Generator) -> Tensor:
        """The changes of colour that happen to it."""
        if _happens(self.jitter, draws):
            made = self._jittered(made, draws)
        if _happens(self.gray, draws):
            made = tv.rgb_to_grayscale(made, num_output_channels=3)
        if _happens(self.blur, draws):
            sigma = _uniform(*self.blur_sigma, draws)
            made = tv.gaussian_blur(made, [self.blur_kernel, self.blur_kernel], [sigma, sigma])
        if _happens(self.solarize, draws):
            made = tv.solarize(made, float(self.solarize_from))
        return made

    def crop(self, rows: int, columns: int, draws: torch.Generator) -> tuple[int, int, int, int]:
        """(top, left, rows, columns) of a random crop inside an image."""
        for _ in range(_TRIES):
            area = rows * columns * _uniform(*self.scale, draws)
            shape = math.exp(_uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), draws))
            width, height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < width <= columns and 0 < height <= rows:
                return _below(rows - height, draws), _below(columns - width, draws), height, width
        width = min(columns, round(rows * self.ratio[1]))
        height = min(rows, round(columns / self.ratio[0]))
        return (rows - height) // 2, (columns - width) // 2, height, width

    def _jittered(self, image: Tensor, draws: torch.Generator) -> Tensor:
        """Brightness, contrast, saturation and hue, in a random order."""
        order = torch.randperm(4, generator=draws).tolist()
        for which in order:
            if which == 0:
                image = tv.adjust_brightness(image, _uniform(1 - self.brightness, 1 + self.brightness, draws))
            elif which == 1:
                image = tv.adjust_contrast(image, _uniform(1 - self.contrast, 1 + self.contrast, draws))
            elif which == 2:
                image = tv.adjust_saturation(image, _uniform(1 - self.saturation, 1 + self.saturation, draws))
            else:
                image = tv.adjust_hue(image, _uniform(-self.hue, self.hue, draws))
        return image


def shrink(images_B3YX: Float[Tensor, "B 3 Y X"], side: int) -> Float[Tensor, "B 3 S S"]:
    """Square images in [0, 1] at another side (bicubic, antialias); nothing is done at their own.

    Crops are made at the largest side that any model of the step needs, so this never enlarges.
    """
    if images_B3YX.shape[-1] == side:
        return images_B3YX
    assert images_B3YX.shape[-1] > side, "crops must be as large as the largest model input"
    resized: Tensor = tv.resize(images_B3YX, [side, side], InterpolationMode.BICUBIC, antialias=True)
    return resized.clamp(0, 1)


def _uniform(low: float, high: float, draws: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=draws, dtype=torch.float64))


def _happens(chance: float, draws: torch.Generator) -> bool:
    return _uniform(0, 1, draws) < chance


def _below(count: int, draws: torch.Generator) -> int:
    return int(torch.randint(count + 1, (), generator=draws))
