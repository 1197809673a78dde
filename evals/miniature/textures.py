"""Procedural solid textures: colour as a function of a surface point and its normal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Float32

Field = Float32[np.ndarray, " N"]
Points = Float32[np.ndarray, "3 N"]

TEXTURES = ("striped", "dotted", "checked", "marbled", "plain")
"""The texture families of objects; part of the class names."""

_TWO_PI = float(2 * np.pi)


@dataclass(frozen=True, slots=True)
class Material:
    """How a surface looks.

    `frequency` counts periods per unit of the frame in which the texture lives, `axis` is the direction across
    stripes, `phase` shifts the pattern, `waves` (M x 4: direction times frequency, phase) are the sinusoids of the
    noise. `decal` is a grey picture "Y X" in [0, 1] that mixes `base` and `second` on the +x face of a box.
    """

    base: Float[np.ndarray, "3"]
    second: Float[np.ndarray, "3"] | None = None
    pattern: str = "plain"
    frequency: float = 4.0
    axis: Float[np.ndarray, "3"] = field(default_factory=lambda: np.array([0, 0, 1], np.float32))
    phase: Float[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3, np.float32))
    waves: Float[np.ndarray, "M 4"] | None = None
    specular: float = 0.15
    decal: Float32[np.ndarray, "Y X"] | None = None


def draw_waves(rng: np.random.Generator, frequency: float) -> Float32[np.ndarray, "5 4"]:
    """Draw the five sinusoids of a smooth noise with about `frequency` periods a unit."""
    direction = rng.normal(size=(5, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    scale = frequency * rng.uniform(0.6, 1.7, (5, 1)) * _TWO_PI
    return np.concatenate([direction * scale, rng.uniform(0, _TWO_PI, (5, 1))], axis=1).astype(np.float32)


def draw_material(
    rng: np.random.Generator,
    pattern: str,
    base: Float[np.ndarray, "3"],
    second: Float[np.ndarray, "3"],
    frequency: float = 1.0,
) -> Material:
    """Draw scale, phase and direction of one object texture; `frequency` scales the family's typical period."""
    low, high = {"striped": (3.5, 6.5), "dotted": (4.0, 6.5), "checked": (2.6, 4.4), "marbled": (0.8, 1.3)}.get(
        pattern, (1.0, 1.0)
    )
    periods = frequency * float(rng.uniform(low, high))
    axis = np.array([0, 0, 1.0]) + rng.normal(0, 0.25, 3)
    return Material(
        base=base,
        second=second,
        pattern=pattern,
        frequency=periods,
        axis=(axis / np.linalg.norm(axis)).astype(np.float32),
        phase=rng.uniform(0, 1, 3).astype(np.float32),
        waves=draw_waves(rng, periods) if pattern == "marbled" else None,
        specular=float(rng.uniform(0.05, 0.5)),
    )


def noise(waves: Float[np.ndarray, "M 4"], points: Points) -> Field:
    """Smooth noise in about [-1, 1]: a mean of sinusoids in random directions."""
    total = np.zeros(points.shape[1], np.float32)
    for x, y, z, phase in waves.tolist():
        total += np.sin(x * points[0] + y * points[1] + z * points[2] + phase)
    return total * np.float32(1.6 / len(waves))


def _face_coordinates(points: Points, normals: Points) -> tuple[Field, Field]:
    """The two coordinates in the plane that the normal faces most."""
    size = np.abs(normals)
    facing_x = (size[0] >= size[1]) & (size[0] >= size[2])
    facing_z = ~facing_x & (size[2] > size[1])
    u = np.where(facing_x, points[1], points[0])
    v = np.where(facing_z, points[1], points[2])
    return u, v


def _striped(material: Material, points: Points, normals: Points) -> Field:
    x, y, z = (material.axis * material.frequency).tolist()
    where = x * points[0] + y * points[1] + z * points[2] + float(material.phase[0])
    mix: Field = (where - np.floor(where) < 0.5).astype(np.float32)
    return mix


def _dotted(material: Material, points: Points, normals: Points) -> Field:
    u, v = _face_coordinates(points, normals)
    u = u * material.frequency + float(material.phase[0])
    v = v * material.frequency + float(material.phase[1])
    row = np.floor(v)
    u = u + 0.5 * row
    du, dv = u - np.floor(u) - 0.5, v - row - 0.5
    return (du * du + dv * dv < 0.105).astype(np.float32)


def _checked(material: Material, points: Points, normals: Points) -> Field:
    u, v = _face_coordinates(points, normals)
    u = np.floor(u * (2 * material.frequency) + float(material.phase[0]))
    v = np.floor(v * (2 * material.frequency) + float(material.phase[1]))
    mix: Field = np.mod(u + v, 2).astype(np.float32)
    return mix


def _marbled(material: Material, points: Points, normals: Points) -> Field:
    assert material.waves is not None
    turbulence = noise(material.waves, points)
    x, y, z = (material.axis * (_TWO_PI * 1.4 * material.frequency)).tolist()
    vein = np.abs(np.sin(x * points[0] + y * points[1] + z * points[2] + 3.2 * turbulence))
    mix: Field = np.clip((0.62 - vein) * 2.2, 0, 1)
    return mix


def _speckled(material: Material, points: Points, normals: Points) -> Field:
    assert material.waves is not None
    return np.clip(0.5 + 0.5 * noise(material.waves, points), 0, 1)


def _bricks(material: Material, points: Points, normals: Points) -> Field:
    u, v = _face_coordinates(points, normals)
    v = v * (2 * material.frequency) + float(material.phase[1])
    row = np.floor(v)
    u = u * material.frequency + 0.5 * row + float(material.phase[0])
    return ((v - row < 0.14) | (u - np.floor(u) < 0.07)).astype(np.float32)


def _tiles(material: Material, points: Points, normals: Points) -> Field:
    u, v = _face_coordinates(points, normals)
    u, v = u * material.frequency + float(material.phase[0]), v * material.frequency + float(material.phase[1])
    return ((u - np.floor(u) < 0.06) | (v - np.floor(v) < 0.06)).astype(np.float32)


def _planks(material: Material, points: Points, normals: Points) -> Field:
    u, v = _face_coordinates(points, normals)
    v = v * (3 * material.frequency) + float(material.phase[1])
    row = np.floor(v)
    u = u * (0.4 * material.frequency) + 0.37 * row
    tone = np.sin(12.9898 * row + 78.233 * np.floor(u)) * 0.35 + 0.35
    gap = (v - row < 0.08) | (u - np.floor(u) < 0.015)
    return np.where(gap, np.float32(1), tone.astype(np.float32))


_PATTERNS: Mapping[str, Callable[[Material, Points, Points], Field]] = MappingProxyType(
    {
        "striped": _striped,
        "dotted": _dotted,
        "checked": _checked,
        "marbled": _marbled,
        "speckled": _speckled,
        "bricks": _bricks,
        "tiles": _tiles,
        "planks": _planks,
    }
)


def albedo(material: Material, points: Points, normals: Points) -> Points:
    """Colour of every point.

    Shapes: `points` and `normals` 3 x N in the frame of the texture, result 3 x N in [0, 1].
    """
    base = material.base.astype(np.float32)[:, None]
    if material.second is None or material.pattern == "plain":
        return np.broadcast_to(base, points.shape)
    mix = _PATTERNS[material.pattern](material, points, normals)
    colours: Points = base + (material.second.astype(np.float32)[:, None] - base) * mix
    return colours


def decal_mix(decal: Float32[np.ndarray, "Y X"], local: Points) -> Field:
    """Value of a decal on the +x face of a unit box: seen from outside, left is -y and up is +z."""
    rows, columns = decal.shape
    x = np.clip(((local[1] + 1) * (0.5 * columns)).astype(np.int32), 0, columns - 1)
    y = np.clip(((1 - local[2]) * (0.5 * rows)).astype(np.int32), 0, rows - 1)
    return np.where(local[0] > 0.99, decal[y, x], np.float32(0))
