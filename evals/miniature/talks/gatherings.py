"""Scenes with one thing, or two side by side, one before the other or on a table."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from evals.miniature.rooms import draw_light, draw_room
from evals.miniature.scene import Body, Camera, Scene, look_at, vector
from evals.miniature.things import (
    FAMILIES,
    Thing,
    draw_object,
    draw_rug,
    draw_sign,
    draw_simple,
    draw_table,
    draw_texture,
    facing,
)

Rng = np.random.Generator

COMPANIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "household": ("mug", "teapot", "chair", "lamp", "mug", "lamp"),
        "toys": ("robot", "rocket", "ball", "block", "ball", "robot"),
        "outdoors": ("car", "house", "bird", "aeroplane", "car", "bird"),
    }
)
"""What is found together, and (by the repetitions) what more often than others."""

_FAITHFUL = 0.75
"""Share of things that come from the company of their scene; the others are anything."""
_TABLES, _RUGS, _SIGNS = 0.25, 0.2, 0.2
"""Shares of scenes with these."""
_COLUMN, _ROW = 0.5, 1.1
"""Metres from the middle to either side, and from one row to the next."""


def draw_thing(rng: Rng, label: str) -> Thing:
    """Draw a thing that stands about, of this label."""
    if label in FAMILIES:
        return draw_object(rng, label, draw_texture(rng))
    while True:
        thing = draw_simple(rng)
        if thing.label == label:
            return thing


def draw_labels(rng: Rng, count: int) -> list[str]:
    """Draw what meets; in half of the scenes one kind of thing is there several times."""
    company = tuple(COMPANIES.values())[int(rng.integers(len(COMPANIES)))]
    anything = ("ball", "block", *FAMILIES)
    labels = []
    for _ in range(count):
        among = company if rng.random() < _FAITHFUL else anything
        labels.append(among[int(rng.integers(len(among)))])
    if count > 1 and rng.random() < 0.5:
        again = int(rng.integers(1, count))
        labels[1 : again + 1] = [labels[0]] * again
    return labels


def _stand(rng: Rng, middle: np.ndarray, ahead: np.ndarray) -> list[Body]:
    """One thing in front, or two at two of four places: two columns, two rows."""
    aside = np.array([ahead[1], -ahead[0]])
    places = [(column, row) for row in (0, 1) for column in (-1, 1)]
    order = rng.permutation(len(places)).tolist()
    bodies: list[Body] = []

    def spot(index: int) -> np.ndarray:
        column, row = places[order[index]]
        jitter = rng.uniform(-0.12, 0.12, 2)
        # The back row stands between the columns of the front row.
        across = (column + (0.35 if row else 0.0)) * _COLUMN + jitter[0]
        return np.asarray(middle[:2] + across * aside + (row * _ROW + jitter[1]) * ahead)

    labels = draw_labels(rng, int(rng.integers(1, 3)))
    with_table = rng.random() < _TABLES
    if len(labels) == 1 and not with_table:
        places, order = [(0, 0)], [0]
    first = 0
    yaw = float(np.arctan2(-ahead[1], -ahead[0]))
    if with_table:
        table = draw_table(rng, (float(rng.uniform(0.35, 0.5)), float(rng.uniform(0.3, 0.4))), 0.5)
        at = spot(0)
        bodies.append(table.placed(vector(*at, 0), facing(yaw + float(rng.uniform(-0.5, 0.5)))))
        top = float(bodies[0].extent()[1][2])
        thing = draw_thing(rng, labels.pop())
        bodies.append(
            thing.placed(vector(*at, top), facing(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.5, 0.65)), on=0)
        )
        first = 1
    for index, label in enumerate(labels, first):
        scale = float(rng.uniform(0.8, 1.05))
        turned = facing(rng.uniform(0, 2 * np.pi))
        bodies.append(draw_thing(rng, label).placed(vector(*spot(index), 0), turned, scale))
    if rng.random() < _RUGS:
        rug = draw_rug(rng, (float(rng.uniform(0.7, 1.0)), float(rng.uniform(1.0, 1.5))))
        at = middle[:2] + 0.3 * _ROW * ahead
        bodies.append(rug.placed(vector(*at, 0), facing(yaw + float(rng.uniform(-0.2, 0.2))), surface=True))
    if rng.random() < _SIGNS:
        far = middle[:2] + (2.2 * _ROW) * ahead + float(rng.uniform(-0.8, 0.8)) * aside
        sign = draw_sign(rng, float(rng.uniform(1.6, 2.0)), standing=float(rng.uniform(0.8, 1.1)))
        bodies.append(sign.placed(vector(*far, 0), facing(yaw + float(rng.uniform(-0.2, 0.2)))))
    return bodies


def draw_gathering(rng: Rng, shape: tuple[int, int]) -> tuple[Scene, Camera]:
    """Draw one or two things, each as large as many visual tokens, and a camera before them.

    `shape` is (height, width).
    """
    room = draw_room(rng, 9.0, 12.0, (3.5, 5.0))
    middle = vector(room.size[0] * rng.uniform(0.45, 0.55), room.size[1] * rng.uniform(0.45, 0.55), 0)
    angle = float(rng.uniform(0, 2 * np.pi))
    ahead = np.array([np.cos(angle), np.sin(angle)])
    bodies = _stand(rng, middle, ahead)
    distance, height = float(rng.uniform(1.5, 1.8)), float(rng.uniform(1.1, 1.6))
    eye = vector(*(middle[:2] - distance * ahead), height)
    target = vector(*(middle[:2] + 0.45 * ahead), float(rng.uniform(0.3, 0.5)))
    focal = min(shape) * float(rng.uniform(0.95, 1.1))
    camera = look_at(eye, target, roll=float(rng.normal(0, 0.03)), focal=focal, size=shape)
    return Scene(room, tuple(bodies), draw_light(rng, room)), camera
