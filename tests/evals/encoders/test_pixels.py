"""The floor: pixels as features."""

import torch

from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.files import DigestMemo


def test_features_are_the_pixels_and_their_means() -> None:
    """On a 32 x 48 image: cells of 2 x 3 px averaged, and patches of 16 px as they are, channel first."""
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    features = load(resolve("pixels"), DigestMemo(None))(image)
    assert features.pooled_BD is not None
    pooled = features.pooled_BD.reshape(3, 16, 16)
    torch.testing.assert_close(pooled[1, 5, 7], image[0, 1, 10:12, 21:24].mean())
    assert torch.equal(features.patches_BHWD[0, 1, 2], image[0, :, 16:32, 32:48].flatten())
    assert features.patches_BHWD.shape == (1, 2, 3, 768)


def test_a_16_pixel_image_is_its_own_global_feature() -> None:
    """At 16 x 16 nothing is averaged: the 768 numbers are the pixels, bit for bit."""
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    pooled = load(resolve("pixels"), DigestMemo(None))(image).pooled_BD
    assert pooled is not None
    assert torch.equal(pooled, image.flatten(1))
