"""Flip averaging at the resolution of the map."""

import pytest
import torch
from torch import Tensor, nn

from evals.probes import flips as module
from evals.probes.flips import predict_depth, unflipped_mean
from evals.probes.frozen import FrozenMaps
from evals.probes.heads import upsample


class FirstChannel(nn.Module):
    """Depth is red."""

    def forward(self, maps: Tensor) -> Tensor:
        """One channel."""
        return maps[:, :1]


def test_the_mirror_is_turned_back() -> None:
    """(1, 2, 3) and the mirror's (5, 4, 9) -> (9, 4, 5): the mean is (5, 3, 4)."""
    depth = torch.tensor([[[[1.0, 2.0, 3.0]]], [[[5.0, 4.0, 9.0]]]])
    assert unflipped_mean(depth).tolist() == [[5.0, 3.0, 4.0]]


def test_a_symmetric_encoder_gives_its_own_depth(toy: type) -> None:
    """The mean over an image and its mirror is the image's depth, upsampled without aligned corners."""
    image = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    encoder = toy()
    depth = predict_depth(image, (32, 48), FirstChannel(), FrozenMaps(encoder, "cpu", "fp32"), name="a")
    low = torch.nn.functional.avg_pool2d(image[None, :1], 16)
    torch.testing.assert_close(depth, upsample(low, 32, 48)[0, 0])
    assert encoder.sizes == [(2, 3, 32, 48)]


class Clipped(nn.Module):
    """A head that answers by the place in the batch: the mirror's depth is its own."""

    def forward(self, maps: Tensor) -> Tensor:
        """Ramps for the image, zero for the mirror."""
        ramp = torch.tensor([0.0, 8.0]).view(1, 1, 1, 2)
        return torch.cat([ramp, torch.zeros_like(ramp)])


def test_the_mean_is_taken_before_upsampling(toy: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """The map is upsampled once, after the mean: its size then is [1, 1, H, W] and not [2, 1, Y, X]."""
    seen = []

    def spy(maps: Tensor, rows: int, columns: int) -> Tensor:
        seen.append(tuple(maps.shape))
        return upsample(maps, rows, columns)

    monkeypatch.setattr(module, "upsample", spy)
    image = torch.rand(3, 16, 32, generator=torch.Generator().manual_seed(0))
    depth = predict_depth(image, (1, 5), Clipped(), FrozenMaps(toy(), "cpu", "fp32"), name="a")
    assert seen == [(1, 1, 1, 2)]
    torch.testing.assert_close(depth, torch.tensor([[0.0, 0.4, 2.0, 3.6, 4.0]]))
