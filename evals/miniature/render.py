"""Ray casting of a scene: colour, depth along the optical axis, and which body is seen.

Colours are computed once a sample, for the surface that `casting` has found.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int16, UInt8

from evals.miniature.casting import SUPERSAMPLING, Placed, cast, directions, place, ray_slopes
from evals.miniature.primitives import intersect, normals
from evals.miniature.scene import Camera, Room, Scene
from evals.miniature.textures import Material, albedo, decal_mix

Points = Float32[np.ndarray, "3 N"]

SHELL = ("wall", "wall", "wall", "wall", "floor", "ceiling")
"""Labels of the faces of a room: -x, +x, -y, +y, floor, ceiling. In `Buffers.body` face k is -1 - k."""

_LIFT = 2e-3  # metres: start of shadow rays above the surface


@dataclass(frozen=True, slots=True)
class Buffers:
    """What a camera sees, per pixel.

    `depth` is in metres; `body` indexes the scene's bodies (negative: room faces); `mixed` marks pixels whose samples
    see different bodies; `spread` is the range of their depths (metres); `facing` is the cosine between view ray and
    surface; `shine` the specular share. `alone` counts a body's pixels if nothing hid it.
    """

    rgb: UInt8[np.ndarray, "Y X 3"]
    depth: Float32[np.ndarray, "Y X"]
    body: Int16[np.ndarray, "Y X"]
    mixed: Bool[np.ndarray, "Y X"]
    spread: Float32[np.ndarray, "Y X"]
    facing: Float32[np.ndarray, "Y X"]
    shine: Float32[np.ndarray, "Y X"]
    alone: Float32[np.ndarray, " bodies"]

    def seen(self, index: int) -> int:
        """Number of pixels in which the body is seen."""
        return int((self.body == index).sum())


def _apply(matrix: Float32[np.ndarray, "3 3"], points: Points) -> Points:
    # Written out: the same bits whatever the linear-algebra library and its threads.
    x, y, z = points
    return np.stack([a * x + b * y + c * z for a, b, c in matrix])


def _unit(points: Points) -> Points:
    x, y, z = points
    unit: Points = points / np.sqrt(np.maximum(x * x + y * y + z * z, np.float32(1e-20)))
    return unit


@dataclass(slots=True)
class _Surface:
    """Per sample, sorted by part."""

    points: Points
    normals: Points
    colours: Points
    shine: Float32[np.ndarray, " N"]


def _shade_parts(scene: Scene, placed: Placed, points: Points, starts: list[int], surface: _Surface) -> None:
    """Fill normals, colours and shine of the samples of every part; samples of part i are starts[i]:starts[i + 1]."""
    index = -1
    for body in scene.bodies:
        rotation = body.rotation
        for part in body.model.parts:
            index += 1
            run = slice(starts[index], starts[index + 1])
            if run.start == run.stop:
                continue
            material = body.model.materials[part.material]
            local = _apply(placed.inverse[index], points[:, run] - placed.centre[index][:, None])
            facing = _unit(_apply((placed.inverse[index] @ rotation).T, normals(part.kind, part.shape, local)))
            surface.normals[:, run] = _apply(rotation, facing)
            own = points[:, run]
            if material.pattern != "plain":
                own = _apply(rotation.T / np.float32(body.scale), points[:, run] - body.position[:, None])
            colour = albedo(material, own, facing)
            if material.decal is not None and material.second is not None:
                mix = decal_mix(material.decal, local)
                colour = colour + (material.second[:, None] - colour) * mix
            surface.colours[:, run] = colour
            surface.shine[run] = material.specular


def _shade_room(room: Room, points: Points, starts: list[int], surface: _Surface) -> None:
    """As `_shade_parts`, for the six faces."""
    materials: list[Material] = [*room.walls, room.floor, room.ceiling]
    for face, material in enumerate(materials):
        run = slice(starts[face], starts[face + 1])
        inward = np.zeros((3, 1), np.float32)
        inward[face // 2] = -1 if face % 2 else 1
        surface.normals[:, run] = inward
        surface.colours[:, run] = albedo(material, points[:, run], surface.normals[:, run])
        surface.shine[run] = material.specular


def _shadows(scene: Scene, placed: Placed, points: Points, towards: Points, lit: Bool[np.ndarray, " N"]) -> None:
    """Clear `lit` where a body stands between a point and the light; `towards` is the vector to the light."""
    length = (towards * towards).sum(axis=0)
    index = 0
    for body in scene.bodies:
        first, index = index, index + len(body.model.parts)
        if body.surface:
            continue
        low, high = body.extent()
        middle, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
        x, y, z = middle[:, None] - points
        along = x * towards[0] + y * towards[1] + z * towards[2]
        share = np.clip(along / length, 0, 1)
        away = x * x + y * y + z * z - share * (2 * along - share * length)
        near = np.nonzero((away < np.float32(radius * radius)) & lit)[0]
        start, ray = points[:, near], towards[:, near]
        for offset, part in enumerate(body.model.parts):
            if not len(near):
                break
            inverse = placed.inverse[first + offset]
            origin = _apply(inverse, start - placed.centre[first + offset][:, None])
            enter, leave = intersect(part.kind, part.shape, tuple(origin), tuple(_apply(inverse, ray)), after=0.0)
            blocked = (enter < leave) & (leave > 0) & (enter < 0.999)
            lit[near[blocked]] = False


def _light(scene: Scene, camera: Camera, placed: Placed, surface: _Surface) -> Points:
    """Lambert, ambient and specular light with shadows."""
    view = _unit(camera.position[:, None] - surface.points)
    towards = scene.light.position[:, None] - surface.points
    aim = _unit(towards)
    lambert = (surface.normals * aim).sum(axis=0)
    lit = lambert > 0
    _shadows(scene, placed, surface.points + np.float32(_LIFT) * surface.normals, towards, lit)
    lambert = np.where(lit, lambert, np.float32(0))
    glint = np.maximum((surface.normals * _unit(aim + view)).sum(axis=0), 0)
    for _ in range(5):
        glint = glint * glint
    glint = np.where(lit, glint, np.float32(0)) * surface.shine
    sky = scene.light.ambient[:, None] * (np.float32(0.8) + np.float32(0.2) * surface.normals[2])
    # A weak lamp at the camera shapes what lies in the shadow.
    head = np.float32(0.12) * np.abs((surface.normals * view).sum(axis=0))
    diffuse = sky + scene.light.colour[:, None] * lambert + head
    shaded: Points = surface.colours * diffuse + scene.light.colour[:, None] * glint
    return shaded


def _blocks(values: np.ndarray) -> np.ndarray:
    """Samples of each pixel: (y, x) -> (samples, Y, X)."""
    s = SUPERSAMPLING
    rows, columns = values.shape
    return values.reshape(rows // s, s, columns // s, s).transpose(1, 3, 0, 2).reshape(s * s, rows // s, columns // s)


def render(scene: Scene, camera: Camera, rng: np.random.Generator) -> Buffers:
    """Draw the scene; `rng` draws the sensor noise and nothing else."""
    placed = place(scene.bodies)
    depth, number, alone = cast(scene, placed, camera)
    u, v = ray_slopes(camera)
    rays = directions(camera.axes, u, v).reshape(3, -1)
    order = np.argsort(number.ravel(), kind="stable")
    parts = len(placed.owner)
    starts = np.searchsorted(number.ravel()[order], np.arange(parts + 7)).tolist()
    points = camera.position[:, None] + rays[:, order] * depth.ravel()[order]
    surface = _Surface(points, np.zeros_like(points), np.zeros_like(points), np.zeros(len(order), np.float32))
    _shade_parts(scene, placed, points, starts, surface)
    _shade_room(scene.room, points, starts[parts:], surface)
    sorted_colour = _light(scene, camera, placed, surface)

    colour = np.empty_like(sorted_colour)
    colour[:, order] = sorted_colour
    extra = np.empty((2, len(order)), np.float32)
    extra[0, order] = np.abs((surface.normals * _unit(rays[:, order])).sum(axis=0))
    extra[1, order] = surface.shine
    rgb = np.stack([_blocks(np.clip(c, 0, 1).reshape(depth.shape)).mean(axis=0) for c in colour], axis=-1)
    rgb = 255 * rgb + rng.normal(0, rng.uniform(0.5, 3.0), rgb.shape)
    owner = np.concatenate([placed.owner, np.arange(-1, -7, -1, dtype=np.int16)])[number]
    return _collect(np.clip(np.rint(rgb), 0, 255).astype(np.uint8), depth, owner, extra.reshape(2, *depth.shape), alone)


def _collect(
    rgb: UInt8[np.ndarray, "Y X 3"],
    depth: Float32[np.ndarray, "y x"],
    owner: Int16[np.ndarray, "y x"],
    extra: Float32[np.ndarray, "2 y x"],
    alone: Float32[np.ndarray, " bodies"],
) -> Buffers:
    """Samples -> pixels: the body that three samples see, else that of the first, and the mean depth of its samples."""
    samples, depths = _blocks(owner), _blocks(depth)
    ranked = np.sort(samples, axis=0)
    agree = (ranked[1] == ranked[2]) & ((ranked[0] == ranked[1]) | (ranked[2] == ranked[3]))
    body = np.where(agree, ranked[1], samples[0])
    mine = samples == body
    return Buffers(
        rgb=rgb,
        depth=((depths * mine).sum(axis=0) / mine.sum(axis=0)).astype(np.float32),
        body=body,
        mixed=~agree,
        spread=depths.max(axis=0) - depths.min(axis=0),
        facing=_blocks(extra[0]).mean(axis=0),
        shine=_blocks(extra[1]).mean(axis=0),
        alone=alone,
    )
