"""Where training images come from: what every source gives, and how an image of one becomes pixels.

A source is a list of images by number, in an order that its content fixes, with a digest of that order: a resumed run
refuses another one.
"""

import hashlib
import io
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from evals.errors import DataError


class Source(Protocol):
    """Images by number."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def digest(self) -> str:
        """Of what stands at which number."""
        ...

    def __len__(self) -> int: ...

    def read(self, item: int) -> bytes:
        """The content of an image's file. Raises OSError where it cannot be read."""
        ...

    def where(self, item: int) -> str:
        """The name of an image, for messages."""
        ...


def digest_of(names: Iterable[str]) -> str:
    """sha256 of names in their order."""
    total = hashlib.sha256()
    for name in names:
        total.update(f"{name}\n".encode())
    return total.hexdigest()


def pixels(source: Source, item: int) -> UInt8[Tensor, "3 Y X"]:
    """RGB bytes of an image. Raises DataError naming it where it is broken."""
    try:
        with Image.open(io.BytesIO(source.read(item))) as image:
            values = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{source.where(item)} is no image that can be read: {error}") from error
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()
