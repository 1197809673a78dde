"""Which part each ray meets first: the geometry half of the renderer.

Parts are drawn one by one into a depth buffer, each only within the rectangle that its bounding box covers.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16

from evals.miniature.primitives import bounds, intersect
from evals.miniature.scene import Body, Camera, Room, Scene

SUPERSAMPLING = 2
"""Samples a pixel along either side."""

_NEAR = 0.05  # metres: nothing nearer is drawn


@dataclass(frozen=True, slots=True)
class Placed:
    """All parts of a scene in world coordinates, P in all."""

    owner: Int16[np.ndarray, " P"]
    linear: Float32[np.ndarray, "P 3 3"]
    inverse: Float32[np.ndarray, "P 3 3"]
    centre: Float32[np.ndarray, "P 3"]


def place(bodies: tuple[Body, ...]) -> Placed:
    """All parts in world coordinates."""
    owner, linear, centre = [], [], []
    for index, body in enumerate(bodies):
        frame = body.scale * body.rotation.astype(np.float64)
        for part in body.model.parts:
            owner.append(index)
            linear.append(frame @ part.linear)
            centre.append(frame @ part.centre + body.position)
    matrices = np.array(linear, np.float64).reshape(-1, 3, 3)
    return Placed(
        np.array(owner, np.int16),
        matrices.astype(np.float32),
        np.linalg.inv(matrices).astype(np.float32),
        np.array(centre, np.float32).reshape(-1, 3),
    )


def ray_slopes(camera: Camera) -> tuple[Float32[np.ndarray, " x"], Float32[np.ndarray, " y"]]:
    """Camera-frame x and y of every sample's ray, whose z is 1."""
    u = (np.arange(camera.width * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - camera.width / 2
    v = (np.arange(camera.height * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - camera.height / 2
    return (u / camera.focal).astype(np.float32), (v / camera.focal).astype(np.float32)


def directions(
    axes: Float32[np.ndarray, "3 3"], u: Float32[np.ndarray, " x"], v: Float32[np.ndarray, " y"]
) -> Float32[np.ndarray, "3 y x"]:
    """Ray directions in a frame in which right, down and forward are the rows of `axes`."""
    return np.stack([(u * axes[0, k])[None, :] + (v * axes[1, k] + axes[2, k])[:, None] for k in range(3)])


def _room_hit(
    room: Room, origin: Float32[np.ndarray, "3"], rays: Float32[np.ndarray, "3 y x"]
) -> tuple[Float32[np.ndarray, "y x"], Int16[np.ndarray, "y x"]]:
    depth = np.full(rays.shape[1:], np.inf, np.float32)
    face = np.zeros(rays.shape[1:], np.int16)
    for axis in range(3):
        d = rays[axis]
        level = np.abs(d) < 1e-6  # such a ray meets another face long before
        t = np.where(d > 0, room.size[axis] - origin[axis], -origin[axis]) / np.where(level, np.float32(1), d)
        t = np.where(level, np.float32(np.inf), t)
        closer = t < depth
        depth = np.where(closer, t, depth)
        face = np.where(closer, (2 * axis + (d > 0)).astype(np.int16), face)
    return depth, face


def _tile(camera: Camera, corners: Float32[np.ndarray, "3 8"]) -> tuple[slice, slice] | None:
    """Rows and columns of samples that a part can cover."""
    u, v, z = camera.project(corners)
    if z.max() <= _NEAR:
        return None
    rows, columns = camera.height * SUPERSAMPLING, camera.width * SUPERSAMPLING
    if z.min() <= _NEAR:
        return slice(0, rows), slice(0, columns)
    top, bottom = np.floor(v.min() * SUPERSAMPLING) - 1, np.ceil(v.max() * SUPERSAMPLING) + 1
    left, right = np.floor(u.min() * SUPERSAMPLING) - 1, np.ceil(u.max() * SUPERSAMPLING) + 1
    if bottom <= 0 or right <= 0 or top >= rows or left >= columns:
        return None
    return slice(max(0, int(top)), min(rows, int(bottom))), slice(max(0, int(left)), min(columns, int(right)))


def cast(
    scene: Scene, placed: Placed, camera: Camera
) -> tuple[Float32[np.ndarray, "y x"], Int16[np.ndarray, "y x"], Float32[np.ndarray, " bodies"]]:
    """Depth and part number of every sample (P + k: face k of the room), and each body's pixels without its
    occluders.
    """
    u, v = ray_slopes(camera)
    depth, face = _room_hit(scene.room, camera.position, directions(camera.axes, u, v))
    parts = [part for body in scene.bodies for part in body.model.parts]
    number = face + np.int16(len(parts))
    covered = np.zeros((len(scene.bodies), *depth.shape), bool)
    for index, part in enumerate(parts):
        linear, centre, inverse = placed.linear[index], placed.centre[index], placed.inverse[index]
        tile = _tile(camera, linear @ bounds(part.kind, part.shape) + centre[:, None])
        if tile is None:
            continue
        d = directions((inverse @ camera.axes.T).T, u[tile[1]], v[tile[0]])
        # Rays start near the part: float32 would lose small parts seen from afar.
        start = np.float32(max(0.0, float(camera.axes[2] @ (centre - camera.position))))
        base = inverse @ (camera.position - centre)
        origin = base[:, None, None] + start * d
        enter, leave = intersect(part.kind, part.shape, tuple(origin), tuple(d))
        enter = enter + start
        hit = (enter - start < leave) & (enter > _NEAR)
        covered[placed.owner[index]][tile] |= hit
        seen = hit & (enter < depth[tile])
        depth[tile] = np.where(seen, enter, depth[tile])
        number[tile] = np.where(seen, np.int16(index), number[tile])
    alone = covered.sum(axis=(1, 2)).astype(np.float32) / SUPERSAMPLING**2
    return depth, number, alone
