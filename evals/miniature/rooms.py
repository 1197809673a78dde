"""Furnished rooms and cameras in them, for the dense sets."""

import numpy as np

from evals.miniature.scene import Body, Camera, Light, Room, Scene, look_at, vector
from evals.miniature.things import (
    FAMILIES,
    Thing,
    draw_door,
    draw_object,
    draw_picture,
    draw_rug,
    draw_sign,
    draw_simple,
    draw_surface,
    draw_table,
    draw_texture,
    draw_window,
    facing,
)

Rng = np.random.Generator

ROOM_KINDS = ("dining room", "playroom", "gallery", "shop", "studio", "store room")
"""Scene categories; they set how much of what stands in a room."""

_TRIES = 25


def draw_room(rng: Rng, low: float, high: float, height: tuple[float, float], kind: str = "room") -> Room:
    """Draw a room whose sides are between `low` and `high` metres."""
    size = vector(rng.uniform(low, high), rng.uniform(low, high), rng.uniform(*height))
    paper = ("plain", "plain", "striped", "bricks", "speckled", "tiles")
    common = draw_surface(rng, paper, 2.0)
    walls = tuple(draw_surface(rng, paper, 2.0) if rng.random() < 0.35 else common for _ in range(4))
    floor = draw_surface(rng, ("plain", "planks", "tiles", "speckled", "checked"), 1.5)
    return Room(size, (walls[0], walls[1], walls[2], walls[3]), floor, draw_surface(rng, ("plain", "tiles"), 1.0), kind)


def draw_light(rng: Rng, room: Room) -> Light:
    """Draw a lamp under the ceiling, warm to cold."""
    share = rng.uniform(0.15, 0.85, 2)
    position = vector(room.size[0] * share[0], room.size[1] * share[1], room.size[2] * rng.uniform(0.85, 0.98))
    warm = rng.uniform(-1, 1)
    tint = np.array([1 + 0.14 * warm, 1.0, 1 - 0.14 * warm])
    return Light(
        position,
        (tint * rng.uniform(0.35, 0.8)).astype(np.float32),
        (rng.uniform(0.95, 1.05, 3) * rng.uniform(0.3, 0.5)).astype(np.float32),
    )


class _Floor:
    """Free places on a rectangle: discs that do not touch."""

    def __init__(self, low: tuple[float, float], high: tuple[float, float]) -> None:
        self.low, self.high = np.array(low), np.array(high)
        self.taken: list[tuple[float, float, float]] = []

    def find(self, rng: Rng, radius: float) -> tuple[float, float] | None:
        """A place for a disc, or None when none was found."""
        low, high = self.low + radius, self.high - radius
        if (low >= high).any():
            return None
        for _ in range(_TRIES):
            x, y = rng.uniform(low, high).tolist()
            if all((x - a) ** 2 + (y - b) ** 2 >= (radius + r) ** 2 for a, b, r in self.taken):
                self.taken.append((x, y, radius))
                return x, y
        return None


def _draw_any(rng: Rng) -> Thing:
    if rng.random() < 0.2:
        return draw_simple(rng)
    names = list(FAMILIES)
    return draw_object(rng, names[int(rng.integers(len(names)))], draw_texture(rng))


def _fit_walls(rng: Rng, room: Room, signs: int) -> list[Body]:
    """Windows, doors, pictures and signs; at most one or two on a wall, side by side."""
    bodies: list[Body] = []
    width, depth, height = room.size.tolist()
    yaw = (0.0, np.pi, np.pi / 2, -np.pi / 2)
    wanted = (
        ["sign"] * signs
        + ["window"] * int(rng.integers(1, 3))
        + ["picture"] * int(rng.integers(0, 3))
        + ["door"] * int(rng.integers(0, 2))
    )
    slots = [(wall, part) for wall in range(4) for part in range(2)]
    order = rng.permutation(len(slots)).tolist()
    for kind, slot in zip(wanted, order, strict=False):
        wall, part = slots[slot]
        side = depth if wall < 2 else width
        along = side * (0.27 + 0.46 * part) + rng.uniform(-0.03, 0.03) * side
        most = 0.2 * side
        half = (float(rng.uniform(0.6, 1.0)) * most, float(rng.uniform(0.35, 0.6)))
        level = height * float(rng.uniform(0.52, 0.62))
        place = {
            0: vector(0, along, level),
            1: vector(width, along, level),
            2: vector(along, 0, level),
            3: vector(along, depth, level),
        }[wall]
        turned = facing(yaw[wall])
        if kind == "sign":
            bodies.append(draw_sign(rng, 2 * most * float(rng.uniform(0.8, 1.0))).placed(place, turned, surface=True))
        elif kind == "window":
            bodies += [thing.placed(place, turned, surface=True) for thing in draw_window(rng, half)]
        elif kind == "picture":
            bodies.append(draw_picture(rng, (min(half[0], 0.6), half[1])).placed(place, turned, surface=True))
        else:
            place[2] = 1.0
            bodies.append(draw_door(rng, (min(most, 0.45), 1.0)).placed(place, turned, surface=True))
    return bodies


def _furnish(rng: Rng, room: Room, bodies: list[Body], tables: int, standing: int, lying: int) -> None:
    """Tables with things on them, things on the floor."""
    width, depth = room.size[:2].tolist()
    floor = _Floor((0.15, 0.15), (width - 0.15, depth - 0.15))
    for _ in range(tables):
        half = (float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.3, 0.5)))
        table = draw_table(rng, half, float(rng.uniform(0.45, 0.8)))
        spot = floor.find(rng, float(np.hypot(*half)))
        if spot is None:
            continue
        yaw = float(rng.uniform(0, 2 * np.pi))
        bodies.append(table.placed(vector(*spot, 0), facing(yaw)))
        own, top = len(bodies) - 1, bodies[-1].extent()[1][2]
        board = _Floor((-half[0], -half[1]), half)
        for _ in range(lying):
            thing, scale = _draw_any(rng), float(rng.uniform(0.25, 0.5))
            place = board.find(rng, scale * _radius(thing))
            if place is not None:
                offset = facing(yaw) @ vector(*place, 0)
                position = vector(spot[0] + offset[0], spot[1] + offset[1], top)
                bodies.append(thing.placed(position, facing(rng.uniform(0, 2 * np.pi)), scale, on=own))
    for _ in range(standing):
        thing, scale = _draw_any(rng), float(rng.uniform(0.5, 1.15))
        spot = floor.find(rng, scale * _radius(thing))
        if spot is not None:
            bodies.append(thing.placed(vector(*spot, 0), facing(rng.uniform(0, 2 * np.pi)), scale))


def _radius(thing: Thing) -> float:
    corners = thing.model.corners()[:2]
    return float(np.sqrt((corners * corners).sum(axis=0)).max())


def draw_indoor(rng: Rng) -> Scene:
    """Draw a furnished room."""
    kind = ROOM_KINDS[int(rng.integers(len(ROOM_KINDS)))]
    room = draw_room(rng, 3.2, 8.5, (2.4, 3.4), kind)
    signs = int(rng.random() < 0.8) + (kind == "shop") + (kind == "gallery")
    bodies = _fit_walls(rng, room, signs)
    width, depth = room.size[:2].tolist()
    if rng.random() < 0.6:
        half = (float(rng.uniform(0.7, 1.4)), float(rng.uniform(0.5, 1.0)))
        place = vector(width * rng.uniform(0.35, 0.65), depth * rng.uniform(0.35, 0.65), 0)
        bodies.append(draw_rug(rng, half).placed(place, facing(rng.uniform(0, np.pi)), surface=True))
    tables = int(rng.integers(1, 3)) + (kind == "dining room") - (kind == "gallery")
    standing = int(rng.integers(2, 6)) + 2 * (kind in ("playroom", "store room"))
    _furnish(rng, room, bodies, tables, standing, 2 + (kind == "studio"))
    return Scene(room, tuple(bodies), draw_light(rng, room))


def draw_view(rng: Rng, scene: Scene, focal: float, size: tuple[int, int]) -> Camera:
    """Draw a camera in the room that looks across it at the things; `size` is (height, width)."""
    width, depth, height = scene.room.size.tolist()
    things = [body for body in scene.bodies if not body.surface]
    best, most = vector(width / 2, depth / 2, 1.5), -np.inf
    for _ in range(6):
        place = vector(rng.uniform(0.25, width - 0.25), rng.uniform(0.25, depth - 0.25), rng.uniform(0.9, 1.9))
        clear = min((float(np.linalg.norm(place[:2] - b.position[:2])) - b.radius() for b in things), default=9.0)
        # Far from the middle of the room, so that the view crosses it, but not inside a body.
        reach = float(np.hypot(place[0] - width / 2, place[1] - depth / 2))
        value = reach + 4 * min(clear - 0.6, 0.0)
        if value > most:
            best, most = place, value
    middle = vector(width * rng.uniform(0.35, 0.65), depth * rng.uniform(0.35, 0.65), height * rng.uniform(0.1, 0.45))
    signs = [body for body in scene.bodies if body.label == "sign"]
    if signs and rng.random() < 0.3:
        middle = (middle + signs[int(rng.integers(len(signs)))].position) / 2
    elif things and rng.random() < 0.5:
        middle = (middle + things[int(rng.integers(len(things)))].position) / 2
    return look_at(best, middle, roll=float(rng.normal(0, 0.04)), focal=focal, size=size)
