"""Pictures become what LLaVA-1.5 shows an encoder, pixel for pixel."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from evals.encoders.entry import NORMALISATIONS
from evals.errors import DataError
from evals.types import Filter, ImageSpec
from evals.vlm.pictures import CentreCrop, MeanSquare, geometry, picture
from evals.vlm.recipe import Padding, SideRule

SIZES = [(500, 375), (375, 500), (336, 336), (640, 123), (97, 211), (337, 400), (401, 338)]


def spec(normalise: str = "clip", patch: int = 14, interpolation: Filter = "bicubic") -> ImageSpec:
    """What an encoder wants."""
    return ImageSpec(224, patch, interpolation, True, "crop", *NORMALISATIONS[normalise])


def noise(width: int, height: int) -> Image.Image:
    """Noise over a ramp: sharp and smooth content at once."""
    rng = np.random.default_rng(width)
    ramp = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return Image.fromarray((ramp + rng.integers(0, 55, (height, width, 3))).astype(np.uint8))


def encoded(image: Image.Image) -> bytes:
    """As a PNG file, which loses nothing."""
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def seen(image: Image.Image, padding: Padding, its: ImageSpec) -> Tensor:
    """As an encoder is shown it under the published sides."""
    view = SideRule().view(its.patch, convolutional=False)
    return picture(encoded(image), geometry(padding, its, view), its)


def processed(image: Image.Image, side: int) -> Tensor:
    """CLIP's own processor of transformers, without the normalisation."""
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_normalize=False
    )
    return torch.from_numpy(np.stack(processor(image)["pixel_values"]))[0]


@pytest.mark.parametrize("size", SIZES)
def test_crop_equals_the_processor_of_clip(size: tuple[int, int]) -> None:
    """Short side to 336 with Pillow's bicubic filter, centre square."""
    image = noise(*size)
    torch.testing.assert_close(seen(image, "crop", spec()), processed(image, 336), rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("normalise", "colour"), [("clip", (122, 116, 104)), ("imagenet", (123, 116, 103))])
def test_pad_equals_pillow(size: tuple[int, int], normalise: str, colour: tuple[int, int, int]) -> None:
    """Centred on a square of the mean colour, half of the difference rounded down, then CLIP's processor."""
    image = noise(*size)
    rows = np.full((max(size), max(size), 3), colour, dtype=np.uint8)
    top, left = (max(size) - size[1]) // 2, (max(size) - size[0]) // 2
    rows[top : top + size[1], left : left + size[0]] = np.asarray(image)
    expected = processed(Image.fromarray(rows), 336)
    torch.testing.assert_close(seen(image, "pad", spec(normalise)), expected, rtol=0, atol=1e-7)


def test_bytes_are_exact() -> None:
    """The values are the bytes of Pillow's own resize, divided by 255."""
    image = noise(300, 200).resize((384, 384), Image.Resampling.BILINEAR)
    square = noise(300, 200)
    its = spec("half", 16, "bilinear")
    way = CentreCrop(384, "bilinear")
    large = np.asarray(square.resize((576, 384), Image.Resampling.BILINEAR))[:, 96:480]
    assert torch.equal(picture(encoded(square), way, its), torch.from_numpy(large.copy()).permute(2, 0, 1) / 255)
    assert torch.equal(
        picture(encoded(image), way, its), torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    )


@pytest.mark.parametrize(("normalise", "value"), [("half", 127), ("raw", 0)])
def test_the_canvas_has_the_encoders_mean(normalise: str, value: int) -> None:
    """A white picture of 100 x 50 in 336: 84 rows of the mean above and below, but for the filter's width."""
    pixels = seen(Image.new("RGB", (100, 50), (255, 255, 255)), "pad", spec(normalise)) * 255
    assert pixels[:, :75].unique().tolist() == pytest.approx([value])
    assert pixels[:, 261:].unique().tolist() == pytest.approx([value])
    assert pixels[:, 93:243].unique().tolist() == pytest.approx([255])


@pytest.mark.parametrize(("patch", "side"), [(14, 336), (16, 384), (32, 384), (15, 390)])
def test_sides_follow_the_patch(patch: int, side: int) -> None:
    """Both ways give the side of the view."""
    for padding in ("crop", "pad"):
        assert seen(noise(90, 60), padding, spec(patch=patch)).shape == (3, side, side)  # type: ignore[arg-type]


def test_records_tell_the_geometry() -> None:
    """Everything that moves pixels."""
    view = SideRule().view(14, convolutional=False)
    assert geometry("crop", spec(), view).describe() == {
        "geometry": "CentreCrop",
        "side": 336,
        "interpolation": "bicubic",
    }
    assert geometry("pad", spec("half"), view) == MeanSquare(336, (0.5, 0.5, 0.5), "bicubic")


def test_files_and_other_modes(tmp_path: Path) -> None:
    """A grey picture in a file is read as RGB."""
    path = tmp_path / "grey.png"
    noise(80, 60).convert("L").save(path)
    way, its = CentreCrop(336), spec()
    pixels = picture(path, way, its)
    assert torch.equal(pixels[0], pixels[2])
    assert torch.equal(pixels, picture(path.read_bytes(), way, its))


def test_damaged_pictures_are_told(tmp_path: Path) -> None:
    """In memory and in a file."""
    broken = encoded(noise(80, 60))[:200]
    with pytest.raises(DataError, match="the picture cannot be decoded"):
        picture(broken, CentreCrop(336), spec())
    (tmp_path / "broken.png").write_bytes(broken)
    with pytest.raises(DataError, match=r"broken\.png cannot be decoded"):
        picture(tmp_path / "broken.png", CentreCrop(336), spec())
    with pytest.raises(DataError, match="the picture cannot be decoded"):
        picture(b"", CentreCrop(336), spec())
