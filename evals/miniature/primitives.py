"""Rays against unit primitives: where a ray enters and leaves, and which way the surface faces.

Every primitive lives in its own local frame; an affine map places it (so an ellipsoid is a sphere, a plank is a box,
a fin is a sheared wedge). A ray keeps its parameter t through affine maps, so directions need not have unit length.
Solids: sphere of radius 1; box [-1, 1]^3; frustum with radius 1 at z = -1 and `shape` at z = +1; wedge (roof) with
base z = -1 and its ridge along x at z = +1; torus in the xy plane with major radius 1 and minor radius `shape`.
"""

from enum import IntEnum

import numpy as np
from jaxtyping import Float32

Array = Float32[np.ndarray, "..."]
Triple = tuple[Array, Array, Array]

_TINY = np.float32(1e-12)
_INFINITY = np.float32(np.inf)
_TORUS_STEPS = 24
_WEDGE = (
    (1.0, 0.0, 0.0, 1.0),
    (-1.0, 0.0, 0.0, 1.0),
    (0.0, 0.0, -1.0, 1.0),
    (0.0, 2.0, 1.0, 1.0),
    (0.0, -2.0, 1.0, 1.0),
)


class Kind(IntEnum):
    """The unit primitives."""

    SPHERE = 0
    BOX = 1
    FRUSTUM = 2
    WEDGE = 3
    TORUS = 4


def bounds(kind: Kind, shape: float) -> Float32[np.ndarray, "3 8"]:
    """Corners of the local bounding box."""
    half = {Kind.TORUS: (1 + shape, 1 + shape, shape), Kind.FRUSTUM: (max(1.0, shape), max(1.0, shape), 1.0)}.get(
        kind, (1.0, 1.0, 1.0)
    )
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    return (signs * np.asarray(half, np.float32)).T


def intersect(
    kind: Kind, shape: float, origin: Triple, direction: Triple, after: float = -np.inf
) -> tuple[Array, Array]:
    """Ray parameters at which the rays enter and leave; a ray that misses has enter > leave.

    Shapes: any, origin and direction broadcast against each other. Parameters may be negative (behind the origin). Of
    the torus, the one solid that a ray can enter twice, the first entry past `after` is found, and "leave" is where
    the ray leaves its bounding sphere.
    """
    if kind is Kind.SPHERE:
        return _sphere(origin, direction)
    if kind is Kind.BOX:
        return _box(origin, direction)
    if kind is Kind.FRUSTUM:
        return _frustum(shape, origin, direction)
    if kind is Kind.WEDGE:
        return _wedge(origin, direction)
    return _torus(shape, origin, direction, after)


def _sphere(origin: Triple, direction: Triple, radius: float = 1.0) -> tuple[Array, Array]:
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - np.float32(radius * radius)
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0))
    enter = np.where(square > 0, (-b - root) / a, _INFINITY)
    leave = np.where(square > 0, (root - b) / a, -_INFINITY)
    return enter, leave


def _slab(o: Array, d: Array) -> tuple[Array, Array]:
    inverse = 1 / np.where(np.abs(d) < _TINY, _TINY, d)
    first, second = (-1 - o) * inverse, (1 - o) * inverse
    return np.minimum(first, second), np.maximum(first, second)


def _box(origin: Triple, direction: Triple) -> tuple[Array, Array]:
    enter, leave = _slab(origin[0], direction[0])
    for o, d in zip(origin[1:], direction[1:], strict=True):
        near, far = _slab(o, d)
        enter, leave = np.maximum(enter, near), np.minimum(leave, far)
    return enter, leave


def _frustum(top: float, origin: Triple, direction: Triple) -> tuple[Array, Array]:
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    middle, slope = np.float32((1 + top) / 2), np.float32((top - 1) / 2)
    radius, grow = middle + slope * oz, slope * dz
    a = dx * dx + dy * dy - grow * grow
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    b = ox * dx + oy * dy - radius * grow
    c = ox * ox + oy * oy - radius * radius
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0)) * np.sign(a)
    first, second = (-b - root) / a, (root - b) / a
    # a < 0: the ray is steeper than the cone and stays inside one nappe on one side of the roots; ours is where the
    # radius grows.
    steep, opening = a < 0, grow > 0
    enter = np.where(steep, np.where(opening, second, -_INFINITY), np.where(square > 0, first, _INFINITY))
    leave = np.where(steep, np.where(opening, _INFINITY, first), np.where(square > 0, second, -_INFINITY))
    low, high = _slab(oz, dz)
    return np.maximum(enter, low), np.minimum(leave, high)


def _wedge(origin: Triple, direction: Triple) -> tuple[Array, Array]:
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    enter, leave = np.float32(-np.inf) + 0 * dx, np.float32(np.inf) + 0 * dx
    for x, y, z, limit in _WEDGE:
        rate = np.float32(x) * dx + np.float32(y) * dy + np.float32(z) * dz
        gap = np.float32(limit) - (np.float32(x) * ox + np.float32(y) * oy + np.float32(z) * oz)
        t = gap / np.where(np.abs(rate) < _TINY, _TINY, rate)
        enter = np.where(rate < 0, np.maximum(enter, t), enter)
        leave = np.where(rate < 0, leave, np.minimum(leave, t))
    return enter, leave


def _torus(minor: float, origin: Triple, direction: Triple, after: float) -> tuple[Array, Array]:
    """Sphere tracing inside the bounding sphere."""
    near, far = _sphere(origin, direction, 1 + minor)
    enter = np.full(near.shape, _INFINITY, np.float32)
    inside = np.nonzero(near < far)
    ox, oy, oz, dx, dy, dz = (a[inside] for a in np.broadcast_arrays(*origin, *direction))
    speed = np.sqrt(dx * dx + dy * dy + dz * dz)
    t, end = np.maximum(near[inside], np.float32(after)), far[inside]
    distance = np.zeros_like(t)
    for _ in range(_TORUS_STEPS):
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        ring = np.sqrt(x * x + y * y) - 1
        distance = np.sqrt(ring * ring + z * z) - np.float32(minor)
        t = t + distance / speed
    hit = (distance < 0.02 * minor) & (t < end)
    enter[inside] = np.where(hit, t, _INFINITY)
    return enter, far


def normals(kind: Kind, shape: float, local: Float32[np.ndarray, "3 N"]) -> Float32[np.ndarray, "3 N"]:
    """Outward direction (any length) at local surface points."""
    x, y, z = local
    if kind is Kind.SPHERE:
        return local
    if kind is Kind.BOX:
        size = np.abs(local)
        facing: Float32[np.ndarray, "3 N"] = np.sign(local) * (size == size.max(axis=0))
        return facing
    if kind is Kind.FRUSTUM:
        slope = (shape - 1) / 2
        radius = (1 + shape) / 2 + slope * z
        cap = (np.abs(z) > 0.999) & (x * x + y * y < 0.995 * radius * radius)
        flat = np.where(cap, np.float32(0), np.float32(1))
        return np.stack([x * flat, y * flat, np.where(cap, np.sign(z), (-slope * radius).astype(np.float32))])
    if kind is Kind.WEDGE:
        excess = np.stack([a * x + b * y + c * z - limit for a, b, c, limit in _WEDGE])
        return np.asarray(_WEDGE, np.float32)[np.argmax(excess, axis=0), :3].T
    ring = np.sqrt(x * x + y * y)
    pull = 1 - 1 / np.maximum(ring, _TINY)
    return np.stack([x * pull, y * pull, z])
