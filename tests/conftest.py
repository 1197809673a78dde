"""What every test shares: annotated shapes that are checked, few threads, and one small embedded world."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

import tests.checker

# Before anything of ours is imported: what is imported already is not checked. `types` is left out, because its public
# door answers a wrong dtype or rank with an error of its own, which tests ask for.
CHECKED = ("doctor", "encoders", "features", "metrics", "preprocess", "probes", "vlm")
install_import_hook([f"evals.{name}" for name in CHECKED], f"{tests.checker.__name__}.checked")

import torch  # noqa: E402

from evals.context import Roots  # noqa: E402
from evals.miniature import world  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what the user's own runs remember."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("own-cache")))


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
