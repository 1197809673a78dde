"""The picture of a record or a question -> what a frozen encoder sees of it, as LLaVA-1.5 prepares pictures.

All arithmetic is Pillow's, on bytes, with the encoder's own filter: the encoder's processor as transformers runs it on
CLIP. Mean and standard deviation are applied inside the encoder.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from evals.datasets.base import read_rgb
from evals.errors import DataError
from evals.preprocess import Geometry, to_tensor, to_unit
from evals.types import Filter, ImageSpec, Triple, nearest_multiple
from evals.vlm.recipe import Padding, View

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True, slots=True)
class CentreCrop(Geometry):
    """Short side to the side, then the centre square (alignment; halves are rounded down, as in transformers)."""

    interpolation: Filter = "bicubic"

    def apply(self, image: Image.Image, patch: int) -> UInt8[Tensor, "3 y y"]:
        """Resize, cut; the long side is rounded down."""
        side = nearest_multiple(self.side, patch)
        short, long = min(image.size), max(image.size)
        scaled = int(side * long / short)
        size = (side, scaled) if image.width <= image.height else (scaled, side)
        resized = image.resize(size, _FILTERS[self.interpolation])
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        return to_tensor(resized.crop((left, top, left + side, top + side)))


@dataclass(frozen=True, slots=True)
class MeanSquare(Geometry):
    """On a square canvas of the encoder's mean colour, centred, then to the side (instruction, evaluation)."""

    mean: Triple
    """Of the encoder, in [0, 1]; the colour is 255 times that, rounded down."""
    interpolation: Filter = "bicubic"

    def apply(self, image: Image.Image, patch: int) -> UInt8[Tensor, "3 y y"]:
        """Paste at half of the difference, rounded down; resize."""
        side, long = nearest_multiple(self.side, patch), max(image.size)
        red, green, blue = (int(channel * 255) for channel in self.mean)
        canvas = Image.new("RGB", (long, long), (red, green, blue))
        canvas.paste(image, ((long - image.width) // 2, (long - image.height) // 2))
        return to_tensor(canvas.resize((side, side), _FILTERS[self.interpolation]))


def geometry(padding: Padding, spec: ImageSpec, view: View) -> Geometry:
    """How pictures become squares for an encoder; `describe()` tells it to records."""
    if padding == "crop":
        return CentreCrop(view.side, spec.interpolation)
    return MeanSquare(view.side, spec.mean, spec.interpolation)


def picture(source: Path | bytes, way: Geometry, spec: ImageSpec) -> Float[Tensor, "3 y y"]:
    """An encoded image, in a file or in memory, as RGB in [0, 1].

    Raises DataError for one that is missing, truncated, oversized or no image.
    """
    return to_unit(way.apply(read_rgb(source) if isinstance(source, Path) else _decoded(source), spec.patch))


def _decoded(content: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # As for files: broken EXIF blocks and large photographs have whole pixels.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"the picture cannot be decoded: {str(error).rstrip('.')}. Fetch its data set again."
        ) from error
