"""The depth set in the NYUv2 layout of BTS: lists of frames, depth as 16-bit PNG in millimetres, 0 = missing."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from evals.miniature.describe import describe
from evals.miniature.pictures import save_jpeg, save_png
from evals.miniature.render import Buffers, render
from evals.miniature.rooms import draw_indoor, draw_view
from evals.miniature.scene import Scene
from evals.miniature.sizes import Size

FOLDER = "nyu"
FOCAL = 518.8579
"""Focal length in pixels of the real camera at a width of 640; every frame has its field of view."""

_SET_ID, _ROOM_SET_ID = 3, 103
_NEAREST, _FARTHEST = 0.7, 9.5
_GRAZING, _SHINY, _DARK = 0.07, 0.7, 22
_FADE = 0.4  # share of pixels lost at the farthest distance
_JUMP = 0.04  # relative range of depth within a pixel that makes the sensor lose it


def count(size: Size) -> int:
    """Number of frames."""
    return size.dense_train + size.dense_val


def sensor_depth(scene: Scene, buffers: Buffers, rng: np.random.Generator) -> UInt16[np.ndarray, "Y X"]:
    """Depth in millimetres as a structured-light sensor gives it: nothing at jumps and in the shadow beside them, on
    glass, sky, grazing and many dark surfaces, too near or far.
    """
    jump = buffers.mixed & (buffers.spread > _JUMP * buffers.depth)
    shadow = np.zeros_like(jump)
    shadow[:, :-1] |= jump[:, 1:]
    chance = rng.random(jump.shape)
    lost = jump | (shadow & (chance < 0.6)) | ((buffers.facing < _GRAZING) & (chance < 0.8))
    lost |= (buffers.rgb.max(axis=-1) < _DARK) & (chance < 0.4)
    lost |= (buffers.shine > _SHINY) | (chance < _FADE * (buffers.depth / _FARTHEST) ** 4)
    sky = [index for index, body in enumerate(scene.bodies) if body.label is None]
    lost |= np.isin(buffers.body, sky) | (buffers.depth < _NEAREST) | (buffers.depth > _FARTHEST)
    return np.where(lost, 0, np.rint(1000 * buffers.depth)).astype(np.uint16)


def write(root: Path, size: Size, seed: int, index: int) -> dict[str, Any]:
    """Render and write frame `index`, return its description; frames of one room come one after another."""
    if index < size.dense_train:
        split, (room, view) = "train", divmod(index, size.views_train)
    else:
        split, (room, view) = "test", divmod(index - size.dense_train, size.views_val)
        room += -(-size.dense_train // size.views_train)
    scene = draw_indoor(np.random.default_rng([seed, _ROOM_SET_ID, room]))
    rng = np.random.default_rng([seed, _SET_ID, index])
    width = size.long
    camera = draw_view(rng, scene, FOCAL * width / 640, (width * 3 // 4, width))
    buffers = render(scene, camera, rng)
    folder = f"{FOLDER}/{scene.room.kind.replace(' ', '_')}_{room:04d}"
    path = f"{folder}/rgb_{view:05d}.jpg"
    save_jpeg(root / path, buffers.rgb)
    save_png(root / f"{folder}/sync_depth_{view:05d}.png", sensor_depth(scene, buffers, rng))
    return {"image": path, "split": split, **describe(scene, camera, buffers)}


def finish(root: Path, size: Size, seed: int, records: list[dict[str, Any]]) -> None:
    """Write the two lists."""
    for split in ("train", "test"):
        frames = sorted(r["image"].removeprefix(FOLDER) for r in records if r["split"] == split)
        lines = [f"{rgb} {_depth_path(rgb)} {FOCAL}\n" for rgb in frames]
        (root / FOLDER / f"nyu_{split}.txt").write_text("".join(lines), encoding="utf-8")


def _depth_path(rgb: str) -> str:
    return rgb.replace("/rgb_", "/sync_depth_").replace(".jpg", ".png")
