"""A small encoder whose patch features are the mean colours, and contexts that count."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from evals.context import Context, Roots
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, ImageSpec


class Toy(Encoder):
    """Mean RGB of each patch; notes the rotary scales and the sizes that it is called with."""

    def __init__(self, patch: int = 16, rope_blocks: int = 2, spoil: float | None = None) -> None:
        card = EncoderCard("toy", "toy", "toy", "none", "0" * 64, "none", patch, 32, "none", text=False)
        spec = ImageSpec(32, patch, "bilinear", True, "crop", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        super().__init__(card, spec, dim=3, depth=1, rope_blocks=rope_blocks)
        self.scales: list[Tensor | None] = []
        self.sizes: list[tuple[int, ...]] = []
        self._spoil = spoil

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """Mean colours in [0, 1]; NaN for images that are brighter than `spoil` on average."""
        self.scales.append(ask.rope_scales_L)
        self.sizes.append(tuple(images_B3YX.shape))
        colours_B3YX = images_B3YX * self.std + self.mean
        maps = functional.avg_pool2d(colours_B3YX, self.spec.patch)
        if self._spoil is not None:
            maps[colours_B3YX.mean((1, 2, 3)) > self._spoil] = torch.nan
        return Features(None, maps.permute(0, 2, 3, 1))


@pytest.fixture
def toy() -> Callable[..., Toy]:
    """Makes toy encoders."""
    return Toy


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A context without data."""
    return Context(Roots({}), tmp_path / "results", tmp_path / "cache", seed=3)
