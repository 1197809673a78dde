"""What a scene consists of: parts, bodies, lights, room, camera."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32

from evals.miniature.primitives import Kind, bounds
from evals.miniature.textures import Material

Vector = Float32[np.ndarray, "3"]
Matrix = Float32[np.ndarray, "3 3"]


def vector(*values: float) -> Vector:
    """A float32 vector."""
    return np.array(values, np.float32)


@dataclass(frozen=True, slots=True)
class Part:
    """One primitive of a body: local point p lies at `linear` @ p + `centre` of the body's frame; `material` indexes
    the body's materials.
    """

    kind: Kind
    linear: Matrix
    centre: Vector
    material: int = 0
    shape: float = 1.0


@dataclass(frozen=True, slots=True)
class Model:
    """A body in its own frame (z up, standing on z = 0, front towards +x), with named key points on its surface."""

    parts: tuple[Part, ...]
    materials: tuple[Material, ...]
    keypoints: Mapping[str, Vector] = field(default_factory=dict)

    def corners(self) -> Float32[np.ndarray, "3 N"]:
        """Corners of the parts' bounding boxes."""
        return np.concatenate([p.linear @ bounds(p.kind, p.shape) + p.centre[:, None] for p in self.parts], axis=1)


@dataclass(frozen=True, slots=True)
class Body:
    """A model placed in the world: world = scale * rotation @ model + position. `label` is the class name of the
    segmentation; None = unlabelled.
    """

    model: Model
    name: str
    label: str | None
    position: Vector
    rotation: Matrix
    scale: float = 1.0
    texture: str = "plain"
    colours: tuple[str, ...] = ()
    text: str = ""
    on: int | None = None
    surface: bool = False
    """Part of the room's shell (doors, windows, rugs): casts no shadow and is no thing that stands about."""

    def to_world(self, points: Float[np.ndarray, "3 N"]) -> Float32[np.ndarray, "3 N"]:
        """Model coordinates -> world coordinates (metres)."""
        world = self.scale * (self.rotation @ points) + self.position[:, None]
        return np.asarray(world, np.float32)

    def extent(self) -> tuple[Vector, Vector]:
        """Lowest and highest world corner."""
        corners = self.to_world(self.model.corners())
        return corners.min(axis=1), corners.max(axis=1)

    def radius(self) -> float:
        """Radius of the footprint around `position` (metres)."""
        flat = (self.scale * self.model.corners())[:2]
        return float(np.sqrt((flat * flat).sum(axis=0)).max())


@dataclass(frozen=True, slots=True)
class Room:
    """A box with a corner at the origin; `size` in metres (x, y, height), materials of the walls (-x, +x, -y, +y),
    floor and ceiling in metres.
    """

    size: Vector
    walls: tuple[Material, Material, Material, Material]
    floor: Material
    ceiling: Material
    kind: str = "room"


@dataclass(frozen=True, slots=True)
class Light:
    """A point light with shadows, plus a sky-like ambient light (stronger from above)."""

    position: Vector
    colour: Vector
    ambient: Vector


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera; rows of `axes` are right, down and forward in the world, `focal` in pixels, principal point
    in the middle.
    """

    position: Vector
    axes: Matrix
    focal: float
    height: int
    width: int

    def project(self, points: Float[np.ndarray, "3 N"]) -> Float[np.ndarray, "3 N"]:
        """World points -> (u, v, depth): u, v in pixels (pixel i covers [i, i + 1)), depth in metres along the
        optical axis.
        """
        x, y, z = self.axes.astype(np.float64) @ (points - self.position[:, None])
        safe = np.where(z > 1e-6, z, 1e-6)
        return np.stack([self.focal * x / safe + self.width / 2, self.focal * y / safe + self.height / 2, z])


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is drawn."""

    room: Room
    bodies: tuple[Body, ...]
    light: Light


def look_at(
    position: Float[np.ndarray, "3"],
    target: Float[np.ndarray, "3"],
    *,
    roll: float,
    focal: float,
    size: tuple[int, int],
) -> Camera:
    """A camera at `position` with `target` in the middle, rolled by `roll` radians; `size` is (height, width) in
    pixels.
    """
    forward = np.asarray(target, np.float64) - np.asarray(position, np.float64)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    axes = np.stack([c * right + s * down, c * down - s * right, forward]).astype(np.float32)
    return Camera(np.asarray(position, np.float32), axes, float(focal), *size)


def turn(yaw: float) -> Matrix:
    """Rotation by `yaw` radians about the vertical."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
