"""The training of a vision-language model on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evals.__main__ import app
from evals.vlm import obtain, stock
from evals.vlm.recipe import MANIFEST, Recipe


def call(*words: str) -> Any:
    """`train-vlm` on raw pixels."""
    return CliRunner().invoke(app, ["train-vlm", "pixels", *words, "--quiet"])


@pytest.fixture
def cache(tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the tiny world; no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "cache" / "miniature").mkdir(parents=True)
    (tmp_path / "cache" / "miniature" / tiny_world.name).symlink_to(tiny_world)
    return tmp_path / "cache"


def test_the_recipe_follows_the_data(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LLaVA-1.5 as published on its records, the small one on the embedded world; what is named is taken."""

    def name(recipe: Recipe, *_: object) -> str:
        return recipe.name

    monkeypatch.setattr(obtain, "ensure", name)
    monkeypatch.setattr(stock, "stock_of", name)
    (tmp_path / "data" / "llava").mkdir(parents=True)
    real, drawn = (["--data", data, "--cache", str(cache)] for data in (str(tmp_path / "data"), "miniature-tiny"))
    assert call(*real).stdout == "llava-1.5\n"
    assert call(*drawn).stdout == "miniature\n"
    assert call(*real, "--recipe", "vlm-proxy").stdout == "vlm-proxy\n"


@pytest.mark.slow
def test_the_embedded_world_needs_nothing_else(cache: Path) -> None:
    """A model is trained in both stages; the second call finds it."""
    first, again = (call("--data", "miniature-tiny", "--cache", str(cache)) for _ in range(2))
    assert first.exit_code == again.exit_code == 0, first.output
    assert first.stdout == again.stdout
    told = json.loads((Path(first.stdout.strip()) / MANIFEST).read_text())
    assert told["recipe"]["name"] == told["recipe"]["language"] == "miniature"
    assert set(told["losses"]) == {"alignment", "instruction"}
