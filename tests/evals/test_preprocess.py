"""Geometry equals the libraries that the protocols were run with."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from evals.preprocess import Letterbox, ShortSideCrop, Squash, letterbox_size, to_tensor, to_unit


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise over a ramp: sharp and smooth content at once."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return Image.fromarray((ramp + rng.integers(0, 55, (height, width, 3))).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (256, 256), (640, 123), (97, 211)])
def test_short_side_crop_equals_torchvision(width: int, height: int) -> None:
    """Byte for byte the k-NN transform of section B: resize bytes with antialias, centre crop."""
    image = picture(width, height)
    reference = v2.Compose(
        [v2.PILToTensor(), v2.Resize(256, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(224)]
    )
    assert torch.equal(reference(image), ShortSideCrop(side=224, short=256).apply(image, 16))


def test_squash_equals_torchvision() -> None:
    """Both sides at once."""
    image = picture(300, 200)
    reference = v2.Compose([v2.PILToTensor(), v2.Resize((224, 224), v2.InterpolationMode.BILINEAR, antialias=True)])
    assert torch.equal(reference(image), Squash(side=224, interpolation="bilinear").apply(image, 16))


def test_other_patches_get_the_nearest_multiple() -> None:
    """512 becomes 518 for patch 14, and 224 stays."""
    image = picture(300, 200)
    assert Letterbox(side=512).apply(image, 14).shape == (3, 518, 518)
    assert ShortSideCrop(side=224, short=256).apply(image, 14).shape == (3, 224, 224)


def test_letterbox_is_centred_on_black() -> None:
    """A 300 x 200 picture in 96: 96 x 64 between 16 black rows above and below."""
    padded = Letterbox(side=96).apply(picture(300, 200), 16)
    assert padded[:, :16].max() == 0
    assert padded[:, 80:].max() == 0
    inside = to_tensor(picture(300, 200).resize((96, 64), Image.Resampling.LANCZOS))
    assert torch.equal(padded[:, 16:80], inside)
    assert letterbox_size(200, 300, 96) == (64, 96)


def test_unit_range() -> None:
    """0 and 255 are 0 and 1."""
    assert to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1)).flatten().tolist() == pytest.approx(
        [0, 0.2, 1]
    )
