"""Linear heads on frozen patch maps. They hold no randomness: initialisation and dropout take their generator."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from evals.metrics.depth import FARTHEST, NEAREST

INIT_STD = 0.01
"""Standard deviation of every head weight at the start (EUPE's released evaluation)."""
BINS = 256
"""Depth bins, from the nearest to the farthest scored depth (EUPE's released evaluation, NYUv2)."""
WEIGHT_FLOOR = 0.1
"""Added to every bin's rectified response, so that their sum is never zero (EUPE's released evaluation, NYUv2)."""


class SegmentationHead(nn.Module):
    """A linear classifier of patches: a 1 x 1 convolution, after batch normalisation if asked for."""

    def __init__(self, dim: int, classes: int, *, batch_norm: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dim) if batch_norm else nn.Identity()
        self.classify = _pointwise(dim, classes)
        _start(self.classify, generator)

    def forward(self, maps_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B C H W"]:
        """Logits of every class at the resolution of the map."""
        logits: Tensor = self.classify(self.norm(maps_BDHW))
        return logits


class DepthHead(nn.Module):
    """A linear classifier of patches into depth bins, read as the expected depth under normalised weights."""

    bins_K: Tensor

    def __init__(self, dim: int, *, seed: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dim)
        self.classify = _pointwise(dim, BINS)
        generator = torch.Generator().manual_seed(seed)
        # The released start is a default convolution after `torch.manual_seed`, its weights then drawn again: the
        # default draws move the stream on.
        for parameter in (self.classify.weight, self.classify.bias):
            assert parameter is not None
            torch.empty_like(parameter, device="cpu").uniform_(generator=generator)
        _start(self.classify, generator)
        self.register_buffer("bins_K", torch.linspace(NEAREST, FARTHEST, BINS), persistent=False)

    def forward(self, maps_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B 1 H W"]:
        """Depth in metres at the resolution of the map."""
        weights_BKHW = torch.relu(self.classify(self.norm(maps_BDHW))) + WEIGHT_FLOOR
        weights_BKHW = weights_BKHW / weights_BKHW.sum(1, keepdim=True)
        return torch.einsum("bkhw,k->bhw", weights_BKHW, self.bins_K)[:, None]


def drop_channels(
    maps_BDHW: Float[Tensor, "B D H W"], share: float, generator: torch.Generator
) -> Float[Tensor, "B D H W"]:
    """Zero whole channels of single images with probability `share`, scale the others up to keep the mean."""
    chances_BD = torch.rand(maps_BDHW.shape[:2], generator=generator)
    kept_BD = (chances_BD >= share).float() / (1 - share)
    return maps_BDHW * kept_BD.to(maps_BDHW.device)[:, :, None, None]


def upsample(maps_BCHW: Float[Tensor, "B C H W"], rows: int, columns: int) -> Float[Tensor, "B C Y X"]:
    """Bilinear, corners not aligned, no antialias: the only way the protocols bring maps back to pixels."""
    return functional.interpolate(maps_BCHW, size=(rows, columns), mode="bilinear", align_corners=False)


def _pointwise(dim: int, channels: int) -> nn.Conv2d:
    """A 1 x 1 convolution without values: its own initialisation would draw from the global generator."""
    return nn.Conv2d(dim, channels, 1, device="meta").to_empty(device="cpu")


@torch.no_grad()
def _start(convolution: nn.Conv2d, generator: torch.Generator) -> None:
    assert convolution.bias is not None
    convolution.weight.normal_(0, INIT_STD, generator=generator)
    convolution.bias.zero_()
