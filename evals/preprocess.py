"""Pixels -> what a protocol and an encoder ask: the only place where images change their geometry.

uint8 is resized before the conversion to float. Mean and standard deviation belong to the encoder and are not here.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from evals.types import Filter, nearest_multiple


def to_tensor(image: Image.Image) -> UInt8[Tensor, "3 Y X"]:
    """An RGB picture as bytes, channels first."""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()


def to_unit(images: UInt8[Tensor, "*B 3 Y X"]) -> Float[Tensor, "*B 3 Y X"]:
    """Bytes -> RGB in [0, 1]."""
    return images.float().div_(255)


def resize_bytes(
    image_3YX: UInt8[Tensor, "3 Y X"], rows: int, columns: int, interpolation: Filter, antialias: bool = True
) -> UInt8[Tensor, "3 y x"]:
    """Resize bytes to bytes, as torchvision's v2 transforms do on uint8 tensors."""
    if (rows, columns) == tuple(image_3YX.shape[1:]):
        return image_3YX
    resized: Tensor = functional.interpolate(
        image_3YX[None], size=(rows, columns), mode=interpolation, antialias=antialias, align_corners=False
    )
    return resized[0]


@dataclass(frozen=True, slots=True)
class Geometry(ABC):
    """A named way from a decoded image to the square that a protocol wants. Equal geometries share forward passes."""

    side: int
    """The protocol's side in pixels."""

    @abstractmethod
    def apply(self, image: Image.Image, patch: int) -> UInt8[Tensor, "3 y y"]:
        """The square for an encoder with this patch: its side is the multiple of `patch` nearest to the protocol's."""

    def describe(self) -> dict[str, object]:
        """Everything that moves pixels, for cache keys and records."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"geometry": type(self).__name__, **fields}


@dataclass(frozen=True, slots=True)
class ShortSideCrop(Geometry):
    """Short side to `short`, then the centre square of `side` (k-NN: 256, 224; torchvision's rounding)."""

    short: int
    interpolation: Filter = "bicubic"

    def apply(self, image: Image.Image, patch: int) -> UInt8[Tensor, "3 y y"]:
        """Resize bytes with antialias, then crop; for a side that is no multiple of the patch both sizes scale."""
        crop = nearest_multiple(self.side, patch)
        short = round(self.short * crop / self.side)
        pixels = to_tensor(image)
        rows, columns = pixels.shape[1:]
        scaled = int(short * max(rows, columns) / min(rows, columns))
        size = (short, scaled) if rows <= columns else (scaled, short)
        pixels = resize_bytes(pixels, *size, self.interpolation)
        top, left = round((size[0] - crop) / 2), round((size[1] - crop) / 2)
        return pixels[:, top : top + crop, left : left + crop].contiguous()


@dataclass(frozen=True, slots=True)
class Squash(Geometry):
    """Both sides to `side` at once, ignoring the aspect."""

    interpolation: Filter
    antialias: bool = True

    def apply(self, image: Image.Image, patch: int) -> UInt8[Tensor, "3 y y"]:
        """Resize bytes."""
        side = nearest_multiple(self.side, patch)
        return resize_bytes(to_tensor(image), side, side, self.interpolation, self.antialias)


@dataclass(frozen=True, slots=True)
class Letterbox(Geometry):
    """Long side to `side` with a Lanczos filter, pasted centred on a black square (SPair; Pillow's arithmetic)."""

    def apply(self, image: Image.Image, patch: int) -> UInt8[Tensor, "3 y y"]:
        """Resize, paste; the black is a pixel value, so it is normalised like any other."""
        side = nearest_multiple(self.side, patch)
        width, height = image.size
        size = letterbox_size(width, height, side)
        canvas = Image.new("RGB", (side, side))
        canvas.paste(image.resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2))
        return to_tensor(canvas)


def letterbox_size(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) after the long side became `side`."""
    if width >= height:
        return side, round(side * height / width)
    return round(side * width / height), side
