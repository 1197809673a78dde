"""The probes behind the gate: against scikit-learn, and on features that know or do not know."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn import functional

from eupe.miniature import skills
from tests.eupe.miniature.lessons import make


def test_ridge_is_scikit_learns() -> None:
    """On standardised inputs, with the penalty as a share of the samples."""
    draws = torch.Generator().manual_seed(0)
    inputs, asked = torch.randn(50, 7, generator=draws) * 3 + 1, torch.randn(9, 7, generator=draws)
    targets = torch.randn(50, 3, generator=draws)
    mean, std = inputs.double().mean(0), inputs.double().std(0)
    peer = Ridge(alpha=0.01 * 50).fit(((inputs - mean) / std).numpy(), targets.double().numpy())
    said = skills.ridge(inputs, targets, asked)
    np.testing.assert_allclose(said, peer.predict(((asked - mean) / std).numpy()), rtol=1e-8, atol=1e-10)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures of everything."""
    return make(tmp_path_factory.mktemp("lessons"))


def test_what_sees_knows_more_than_what_does_not(world: Path) -> None:
    """Thumbnails tell of depth and labels; constant features are worth a guess, so nothing."""

    def thumbnails(images: Tensor) -> tuple[Tensor, Tensor]:
        maps = functional.avg_pool2d(images, 16).permute(0, 2, 3, 1)
        rows = torch.linspace(-1, 1, 8).view(1, 8, 1, 1).expand(len(images), 8, 8, 1)
        maps = torch.cat([maps, rows, rows**2], -1)
        return maps.flatten(1), maps

    def blind(images: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(images), 4), torch.zeros(len(images), 8, 8, 4)

    seeing, nothing = skills.measure(thumbnails, world), skills.measure(blind, world)
    assert set(seeing) == {"semantic", "reading", "labels", "depth"}
    assert seeing["labels"] > 0.1
    assert seeing["depth"] > 0.05
    assert nothing["labels"] <= 0
    assert abs(nothing["depth"]) < 0.2
    assert abs(nothing["reading"]) < 0.1
