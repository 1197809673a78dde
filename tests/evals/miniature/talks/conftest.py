"""What the tests of the vision-language part share: a rendered world, and shelves of pictures that are only told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.miniature import world
from evals.miniature.talks.asking import asks
from evals.miniature.talks.imagine import imagine
from evals.miniature.talks.maps import SIDE
from evals.miniature.talks.shelf import Stock


@pytest.fixture(scope="session")
def tiny_talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded world in its size `talks-tiny`."""
    return world.make(tmp_path_factory.mktemp("talks") / "world", size="talks-tiny", workers=1)


@pytest.fixture(scope="session")
def records(tiny_talks: Path) -> list[dict[str, Any]]:
    """The descriptions of its pictures."""
    return [json.loads(line) for line in (tiny_talks / world.SCENES).read_text().splitlines()]


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Stock]]:
    """Pictures that were never drawn: a folder with one grey file, and a shelf of many sights that share it."""
    root = tmp_path_factory.mktemp("told")
    Image.new("RGB", (16, 16), "grey").save(root / "grey.jpg")
    rng = np.random.default_rng(5)
    camera = {"width": 16, "height": 16}
    shelf = []
    for number in range(300):
        sight = imagine(rng)
        cells = [item.id for item in sight.items][:1] * SIDE**2
        record = {"image": "grey.jpg", "kind": f"{sight.kind}{number}", "camera": camera, "cells": cells}
        shelf.append(Stock(record, sight, tuple(asks(sight, rng))))
    return root, shelf
