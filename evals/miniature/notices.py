"""Pictures of signs with one word each, from near enough to read it: a folder a word. For training only."""

from pathlib import Path
from typing import Any

import numpy as np

from evals.miniature.describe import describe
from evals.miniature.pictures import draw_shape, save_jpeg
from evals.miniature.render import render
from evals.miniature.rooms import draw_light, draw_room
from evals.miniature.scene import Body, Camera, Scene, look_at, vector
from evals.miniature.signs import WORDS
from evals.miniature.sizes import Size
from evals.miniature.things import FAMILIES, draw_object, draw_sign, draw_simple, draw_texture, facing

FOLDER = "notices"
_SET_ID = 5
_TURN, _LIFT = 0.6, 0.25
"""Largest angles (radians) from which a sign is seen, aside and from above or below."""


def count(size: Size) -> int:
    """Number of images."""
    return size.notices


def draw_notice(rng: np.random.Generator, word: str, shape: tuple[int, int]) -> tuple[Scene, Camera]:
    """Draw a sign that spans about half to all of a picture of that (height, width), with things behind it."""
    room = draw_room(rng, 8.0, 12.0, (3.5, 5.0))
    wide = float(rng.uniform(1.2, 2.0))
    sign = draw_sign(rng, wide, standing=float(rng.uniform(0.4, 1.4)), text=word)
    spot = vector(room.size[0] * rng.uniform(0.4, 0.6), room.size[1] * rng.uniform(0.4, 0.6), 0)
    yaw = float(rng.uniform(0, 2 * np.pi))
    board = sign.placed(spot, facing(yaw))
    low, high = board.extent()
    # The board is the upper part of the body: the lower one is its posts.
    tall = wide * float(sign.model.parts[0].linear[2, 2] / sign.model.parts[0].linear[1, 1])
    middle = vector(*((low + high) / 2)[:2], float(high[2]) - tall / 2)
    focal = min(shape) * float(rng.uniform(1.0, 1.5))
    distance = wide * focal / (shape[1] * float(rng.uniform(0.5, 0.95)))
    side, lift = yaw + float(rng.uniform(-_TURN, _TURN)), float(rng.uniform(-_LIFT, _LIFT))
    away = vector(np.cos(side) * np.cos(lift), np.sin(side) * np.cos(lift), np.sin(lift))
    eye = middle + distance * away
    eye[2] = max(float(eye[2]), 0.1)
    camera = look_at(
        eye, middle + wide * rng.uniform(-0.06, 0.06, 3), roll=float(rng.normal(0, 0.06)), focal=focal, size=shape
    )
    return Scene(room, (board, *_behind(rng, board, away)), draw_light(rng, room)), camera


def write(root: Path, size: Size, seed: int, index: int) -> dict[str, Any]:
    """Render and write image `index`, return its description."""
    rng = np.random.default_rng([seed, _SET_ID, index])
    word = WORDS[index % len(WORDS)]
    scene, camera = draw_notice(rng, word, draw_shape(rng, size))
    buffers = render(scene, camera, rng)
    path = f"{FOLDER}/{word}/{index // len(WORDS):06d}.jpg"
    save_jpeg(root / path, buffers.rgb)
    return {"image": path, "text": word, **describe(scene, camera, buffers)}


def finish(root: Path, size: Size, seed: int, records: list[dict[str, Any]]) -> None:
    """Nothing is left to write: the folders are the words."""


def _behind(rng: np.random.Generator, board: Body, away: np.ndarray) -> list[Body]:
    """Things on the far side of the sign, so that none hides it."""
    bodies = []
    ahead = -away[:2] / float(np.linalg.norm(away[:2]))
    aside = np.array([-ahead[1], ahead[0]])
    for _ in range(int(rng.integers(1, 4))):
        family = list(FAMILIES)[int(rng.integers(len(FAMILIES)))]
        thing = draw_simple(rng) if rng.random() < 0.4 else draw_object(rng, family, draw_texture(rng))
        spot = board.position[:2] + rng.uniform(0.8, 2.2) * ahead + rng.uniform(-1.6, 1.6) * aside
        bodies.append(thing.placed(vector(*spot, 0), facing(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.4, 1.0))))
    return bodies
