"""Scenes with two signs, one above the other, near enough to read both."""

import numpy as np

from evals.miniature.rooms import draw_light, draw_room
from evals.miniature.scene import Body, Camera, Scene, look_at, vector
from evals.miniature.things import Thing, draw_sign, facing

Rng = np.random.Generator

_GAP = 0.18
"""Metres between the boards."""
_TURN, _LIFT = 0.35, 0.15
"""Largest angles (radians) from which the signs are seen, aside and from above or below."""


def _height(sign: Thing) -> float:
    """Height of a board in metres; the other parts of the sign are its posts."""
    return 2 * float(sign.model.parts[0].linear[2, 2])


def draw_boards(rng: Rng, words: tuple[str, str], shape: tuple[int, int]) -> tuple[Scene, Camera]:
    """Draw the signs of the upper and the lower word so that both span most of a picture of that (height, width)."""
    room = draw_room(rng, 8.0, 12.0, (3.5, 5.0))
    wide = float(rng.uniform(1.2, 1.6))
    low = float(rng.uniform(0.5, 1.0))
    lower = draw_sign(rng, wide * float(rng.uniform(0.85, 1.0)), standing=low, text=words[1])
    high = low + _height(lower) + _GAP
    upper = _other(rng, lower, wide * float(rng.uniform(0.85, 1.0)), high, words[0])
    spot = vector(room.size[0] * rng.uniform(0.4, 0.6), room.size[1] * rng.uniform(0.4, 0.6), 0)
    yaw = float(rng.uniform(0, 2 * np.pi))
    front = vector(np.cos(yaw), np.sin(yaw), 0)
    # The posts of the upper sign pass behind the lower one.
    bodies: tuple[Body, ...] = (
        upper.placed(spot - np.float32(0.07) * front, facing(yaw)),
        lower.placed(spot, facing(yaw)),
    )
    middle = vector(*spot[:2], (low + high + _height(upper)) / 2)
    tall = high + _height(upper) - low
    focal = min(shape) * float(rng.uniform(1.0, 1.4))
    fill = float(rng.uniform(0.78, 0.9))
    distance = max(wide * focal / (shape[1] * fill), tall * focal / (shape[0] * fill))
    side, lift = yaw + float(rng.uniform(-_TURN, _TURN)), float(rng.uniform(-_LIFT, _LIFT))
    away = vector(np.cos(side) * np.cos(lift), np.sin(side) * np.cos(lift), np.sin(lift))
    eye = middle + np.float32(distance) * away
    eye[2] = max(float(eye[2]), 0.1)
    camera = look_at(eye, middle, roll=float(rng.normal(0, 0.05)), focal=focal, size=shape)
    return Scene(room, bodies, draw_light(rng, room)), camera


def _other(rng: Rng, first: Thing, wide: float, standing: float, text: str) -> Thing:
    """Draw a sign whose board has another colour than the first one's."""
    while True:
        sign = draw_sign(rng, wide, standing=standing, text=text)
        if sign.colours[0] != first.colours[0]:
            return sign
