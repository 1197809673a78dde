"""Tiny stand-ins of the tests: a folder of pictures, a stage whose teachers and students cost next to nothing."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eupe.config import Stage, read

SIDE = 64


def pictures(folder: Path, count: int = 40) -> Path:
    """Noise with coloured bars, of several sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    for number in range(count):
        rows, columns = draws.integers(70, 110, 2)
        pixels = draws.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        pixels[:, : int(columns) // 2] = draws.integers(0, 256, 3)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


def raw_stage(root: Path, **changes: Any) -> dict[str, Any]:
    """A stage as a configuration would give it: two teachers (one without class token), two students."""
    return {
        "name": "tiny",
        "teachers": {
            "vit": {"encoder": "timm:test_vit.r160_in1k", "side": SIDE, "weights": "random"},
            "pixels": {"encoder": "pixels", "side": SIDE, "cls": "none"},
        },
        "students": {
            "vit": {
                "model": "vit_tiny_patch16_dinov3_qkvb",
                "options": {"embed_dim": 48, "depth": 2, "num_heads": 3},
            },
            "convnext": {"model": "convnext_atto", "options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}},
        },
        "sources": {"noise": {"kind": "folder", "root": str(root)}},
        "rate": {"base": 1e-3, "steps": 20, "warmup": 2},
        "batch": 8,
        "sides": [SIDE],
        "hidden": 64,
        "statistics": {"batches": 3, "batch": 8},
        "saving": {"every": 10, "keep": 2},
        "dtype": "fp32",
        "workers": 0,
        "log_every": 1,
        "peak": None,
        **changes,
    }


def stage(root: Path, **changes: Any) -> Stage:
    """The same, read."""
    made: Stage = read(Stage, raw_stage(root, **changes), "stage")
    return made
