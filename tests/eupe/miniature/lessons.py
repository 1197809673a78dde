"""A very small world of lessons for the tests."""

from pathlib import Path

import pytest

from evals.miniature import sizes, world
from evals.miniature.sizes import Size

TINY = Size(20, 2, 1, 16, 2, 4, 2, 10, (4, 1, 2), (6, 1, 1), 64, 80, notices=128)


def make(folder: Path) -> Path:
    """A world that calls itself `lessons`, with a few pictures of everything."""
    with pytest.MonkeyPatch.context() as patch:
        small = {**sizes.SIZES, "lessons": TINY}
        patch.setattr(world, "SIZES", small)
        return world.make(folder / world.world_name("lessons", 1), size="lessons", seed=1, workers=1)
