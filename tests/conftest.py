"""What every test shares: few threads, and one small embedded world."""

from pathlib import Path

import pytest
import torch

from evals.context import Roots
from evals.miniature import world

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded world in its `tiny` size."""
    folder = tmp_path_factory.mktemp("cache") / "miniature" / world.world_name("tiny", 0)
    return world.make(folder, size="tiny", workers=1)


@pytest.fixture(scope="session")
def tiny_roots(tiny_world: Path) -> Roots:
    """Its data folders."""
    return Roots(
        {name: tiny_world / name for name in ("imagenet", "ade20k", "nyu", "SPair-71k")}, world.world_name("tiny", 0)
    )
