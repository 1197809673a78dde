"""Maps of a frozen encoder at sizes that its patch does not divide."""

import pytest
import torch

from evals.errors import NumericsError
from evals.probes.frozen import FrozenMaps, encoder_size, fit_to_patch


def test_maps_are_channels_first(toy: type) -> None:
    """Mean colours of 16-pixel patches."""
    images = torch.zeros(1, 3, 16, 32)
    images[0, 1, :, 16:] = 1
    maps = FrozenMaps(toy(), "cpu", "fp32")(images, ["a"])
    assert maps.shape == (1, 3, 1, 2) and maps[0, :, 0, 1].tolist() == [0, 1, 0]


def test_other_sizes_go_to_the_nearest_multiple(toy: type) -> None:
    """512 becomes 518 for a patch of 14 (30 becomes 28), and both sizes are for the record."""
    encoder = toy(patch=14)
    maps = FrozenMaps(encoder, "cpu", "fp32")(torch.rand(2, 3, 30, 36, generator=torch.Generator()), ["a", "b"])
    assert encoder.sizes == [(2, 3, 28, 42)] and maps.shape == (2, 3, 2, 3)
    assert encoder_size(512, 640, 14) == {"protocol": [512, 640], "encoder": [518, 644]}


def test_resized_images_stay_in_range_and_fitting_ones_are_untouched() -> None:
    """White stays white."""
    white = torch.ones(1, 3, 30, 30)
    assert fit_to_patch(white, 14).amax() <= 1 and fit_to_patch(white, 14).amin() > 0.999
    assert fit_to_patch(white, 15) is white


def test_bad_features_name_encoder_image_and_moment(toy: type) -> None:
    """The second image is the bright one."""
    images = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    with pytest.raises(NumericsError, match=r"toy .*not finite for two \(step 7\)"):
        FrozenMaps(toy(spoil=0.5), "cpu", "fp32")(images, ["one", "two"], during="step 7")


def test_scales_reach_the_encoder(toy: type) -> None:
    """One factor a block."""
    encoder = toy()
    scales = torch.tensor([0.5, 2.0])
    FrozenMaps(encoder, "cpu", "fp32")(torch.zeros(1, 3, 16, 16), ["a"], rope_scales_L=scales)
    assert encoder.scales[0] is not None and encoder.scales[0].tolist() == [0.5, 2.0]
