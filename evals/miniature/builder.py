"""A small language to put bodies together from placed primitives."""

import numpy as np

from evals.miniature.primitives import Kind
from evals.miniature.scene import Matrix, Model, Part, Vector, vector
from evals.miniature.textures import Material

Point = tuple[float, float, float]


def _frame(axis: Vector) -> Matrix:
    """A right-handed orthonormal frame whose third column points along `axis`."""
    third = axis / np.linalg.norm(axis)
    helper = vector(1, 0, 0) if abs(third[0]) < 0.9 else vector(0, 1, 0)
    second = np.cross(third, helper)
    second /= np.linalg.norm(second)
    return np.stack([np.cross(second, third), second, third], axis=1).astype(np.float32)


class Builder:
    """Collects the parts of a body; coordinates are those of the body's own frame, `material` is an index into the
    body's materials.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.keypoints: dict[str, Vector] = {}

    def ball(self, centre: Point, radii: Point | float, material: int = 0, pitch: float = 0.0) -> None:
        """An ellipsoid with half axes `radii`, pitched by `pitch` radians (front up) about the y axis."""
        half = np.broadcast_to(np.asarray(radii, np.float64), (3,))
        self._add(Kind.SPHERE, _pitch(pitch) @ np.diag(half), centre, material)

    def box(self, centre: Point, half: Point, material: int = 0, yaw: float = 0.0, pitch: float = 0.0) -> None:
        """A box with half sides `half`, pitched about y, then turned by `yaw` about z."""
        c, s = np.cos(yaw), np.sin(yaw)
        turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ _pitch(pitch) @ np.diag(half)
        self._add(Kind.BOX, turned, centre, material)

    def tube(self, start: Point, end: Point, first: float, last: float | None = None, material: int = 0) -> None:
        """A cylinder or cone from `start` (radius `first`) to `end` (radius `last`, default `first`)."""
        a, b = vector(*start), vector(*end)
        half = (b - a) / 2
        linear = _frame(half) * np.array([first, first, np.linalg.norm(half)])
        self._add(Kind.FRUSTUM, linear, tuple((a + b) / 2), material, (first if last is None else last) / first)

    def roof(self, centre: Point, half: Point, material: int = 0) -> None:
        """A prism with its ridge along x; `half` are half length, half width and half height."""
        self._add(Kind.WEDGE, np.diag(half), centre, material)

    def fin(self, root: Point, along: Point, tip: Point, half_thickness: float, material: int = 0) -> None:
        """A flat triangle with one side from `root` to `root + along` and the third corner `root + tip`."""
        side, out = vector(*along), vector(*tip)
        flat = np.cross(side, out)
        flat = flat / np.linalg.norm(flat) * half_thickness
        # Wedge corners in its yz plane: (-1, -1), (1, -1), (0, 1); the ridge axis x is the thickness.
        linear = np.stack([flat, side / 2, out / 2 - side / 4], axis=1)
        centre = vector(*root) + side / 4 + out / 2
        self._add(Kind.WEDGE, linear, tuple(centre), material)

    def ring(
        self, centre: Point, normal: Point, radius: float, thickness: float, material: int = 0, stretch: float = 1.0
    ) -> None:
        """A torus around `normal`, with height stretched by `stretch` along z."""
        linear = np.diag([1.0, 1.0, stretch]) @ (_frame(vector(*normal)) * radius)
        self._add(Kind.TORUS, linear, centre, material, thickness / radius)

    def mark(self, name: str, x: float, y: float, z: float) -> None:
        """Name a key point."""
        self.keypoints[name] = vector(x, y, z)

    def mark_sides(self, name: str, x: float, y: float, z: float) -> None:
        """Name the pair of key points at +y (left, seen from the body itself) and -y (right)."""
        self.mark(f"left {name}", x, y, z)
        self.mark(f"right {name}", x, -y, z)

    def model(self, materials: tuple[Material, ...]) -> Model:
        """The finished body."""
        return Model(tuple(self.parts), materials, self.keypoints)

    def _add(self, kind: Kind, linear: Matrix, centre: Point, material: int, shape: float = 1.0) -> None:
        self.parts.append(Part(kind, np.asarray(linear, np.float32), vector(*centre), material, float(shape)))


def _pitch(angle: float) -> Matrix:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)
