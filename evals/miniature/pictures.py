"""Files of pictures."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from evals.miniature.sizes import Size

_QUALITY = 92


def draw_shape(rng: np.random.Generator, size: Size) -> tuple[int, int]:
    """Draw the (height, width) of a picture."""
    return size.shapes[int(rng.integers(len(size.shapes)))]


def save_jpeg(path: Path, rgb: UInt8[np.ndarray, "Y X 3"]) -> None:
    """Write a JPEG; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, format="JPEG", quality=_QUALITY)


def save_png(path: Path, values: UInt8[np.ndarray, "Y X"] | UInt16[np.ndarray, "Y X"]) -> None:
    """Write a grey PNG of 8 or 16 bit; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, format="PNG")
