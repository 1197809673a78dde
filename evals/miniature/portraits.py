"""Scenes with one main object and some clutter, for classification and correspondence."""

from dataclasses import replace

import numpy as np

from evals.miniature.render import Buffers, render
from evals.miniature.rooms import draw_light, draw_room
from evals.miniature.scene import Body, Camera, Scene, look_at, vector
from evals.miniature.things import FAMILIES, draw_object, draw_sign, draw_simple, draw_texture, facing

Rng = np.random.Generator

MAIN = 0
"""The main object is the first body of its scene."""

_LEAST_SEEN = 0.6  # share of the main object that its occluders must leave visible


def _clutter(rng: Rng, main: Body, eye: np.ndarray, family: str) -> list[Body]:
    """Other things beside, behind and a little in front of the main object."""
    bodies: list[Body] = []
    away = main.position[:2] - eye[:2]
    distance = float(np.linalg.norm(away))
    ahead = away / distance
    aside = np.array([-ahead[1], ahead[0]])
    others = [name for name in FAMILIES if name != family]
    for _ in range(int(rng.integers(2, 6))):
        if rng.random() < 0.35:
            thing = draw_object(rng, others[int(rng.integers(len(others)))], draw_texture(rng))
        else:
            thing = draw_simple(rng)
        in_front = rng.random() < 0.3
        scale = float(rng.uniform(0.15, 0.35) if in_front else rng.uniform(0.3, 0.8))
        along = rng.uniform(-0.5, -0.3) * distance if in_front else rng.uniform(0.1, 2.2)
        gap = main.radius() + 0.5 * scale + 0.1
        sideways = rng.uniform(0.0, 0.4) if in_front else gap * rng.uniform(0.9, 2.2)
        spot = main.position[:2] + along * ahead + rng.choice([-1.0, 1.0]) * sideways * aside
        if not in_front and float(np.linalg.norm(spot - main.position[:2])) < gap:
            continue
        if any(float(np.linalg.norm(spot - b.position[:2])) < b.radius() + 0.5 * scale for b in bodies):
            continue
        bodies.append(thing.placed(vector(*spot, 0), facing(rng.uniform(0, 2 * np.pi)), scale))
    if rng.random() < 0.3:
        sign = draw_sign(rng, float(rng.uniform(1.2, 2.0)), standing=float(rng.uniform(0.1, 0.7)))
        spot = (
            main.position[:2] + rng.uniform(1.0, 2.0) * ahead + rng.choice([-1.0, 1.0]) * rng.uniform(0.2, 1.1) * aside
        )
        yaw = float(np.arctan2(-ahead[1], -ahead[0]) + rng.uniform(-0.4, 0.4))
        bodies.append(sign.placed(vector(*spot, 0), facing(yaw)))
    return bodies


def draw_portrait(
    rng: Rng, family: str, texture: str, size: tuple[int, int], *, turn_range: float = np.pi
) -> tuple[Scene, Camera]:
    """Draw a scene around one object; `size` is (height, width), the object is seen at most `turn_range` radians from
    its front left or right quarter.
    """
    room = draw_room(rng, 8.0, 12.0, (3.5, 5.0))
    thing, scale = draw_object(rng, family, texture), float(rng.uniform(0.7, 1.2))
    spot = vector(room.size[0] * rng.uniform(0.42, 0.58), room.size[1] * rng.uniform(0.42, 0.58), 0)
    yaw = float(rng.uniform(0, 2 * np.pi))
    main = thing.placed(spot, facing(yaw, float(rng.normal(0, 0.03))), scale)
    low, high = main.extent()
    middle, reach = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    short = min(size)
    focal, fill = short * float(rng.uniform(1.1, 1.7)), float(rng.uniform(0.75, 1.25))
    distance = min(2 * reach * focal / (fill * short), 0.38 * float(room.size[:2].min()))
    angle = yaw + float(rng.choice([-1.0, 1.0])) * np.pi / 4 + float(rng.uniform(-turn_range, turn_range))
    height = float(rng.uniform(0.06, 0.75))
    eye = middle + distance * vector(np.cos(angle) * np.cos(height), np.sin(angle) * np.cos(height), np.sin(height))
    wander = (0.5 - 0.36 * min(fill, 1.2)) * 2 * reach * rng.uniform(-0.5, 0.5, 3)
    camera = look_at(eye, middle + wander, roll=float(rng.normal(0, 0.08)), focal=focal, size=size)
    bodies = [main, *_clutter(rng, main, eye, family)]
    return Scene(room, tuple(bodies), draw_light(rng, room)), camera


def draw_and_render(
    rng: Rng, family: str, texture: str, size: tuple[int, int], *, turn_range: float = np.pi
) -> tuple[Scene, Camera, Buffers]:
    """Draw a portrait and render it; occluders that hide too much of the main object are taken away."""
    scene, camera = draw_portrait(rng, family, texture, size, turn_range=turn_range)
    buffers = render(scene, camera, rng)
    if buffers.seen(MAIN) < _LEAST_SEEN * float(buffers.alone[MAIN]):
        behind = [b for b in scene.bodies[1:] if _depth(camera, b) > _depth(camera, scene.bodies[MAIN])]
        scene = replace(scene, bodies=(scene.bodies[MAIN], *behind))
        buffers = render(scene, camera, rng)
    return scene, camera, buffers


def _depth(camera: Camera, body: Body) -> float:
    return float(camera.axes[2] @ (body.position - camera.position))
