"""The renderer against geometry that can be worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from evals.miniature.builder import Builder
from evals.miniature.primitives import Kind, intersect, normals
from evals.miniature.render import Buffers, render
from evals.miniature.scene import Body, Camera, Light, Room, Scene, look_at, vector
from evals.miniature.signs import draw_text
from evals.miniature.textures import Material
from evals.miniature.things import draw_sign, facing

GREY = Material(vector(0.5, 0.5, 0.5), specular=0.0)


def bare(*bodies: Body) -> Scene:
    """A grey room of 10 x 10 x 4 metres, lit from above its middle."""
    room = Room(vector(10, 10, 4), (GREY, GREY, GREY, GREY), GREY, GREY)
    light = Light(vector(5, 5, 3.9), vector(0.6, 0.6, 0.6), vector(0.3, 0.3, 0.3))
    return Scene(room, bodies, light)


def forward_camera(size: int = 65) -> Camera:
    """A camera at (1, 5, 2) that looks along +x."""
    return look_at(vector(1, 5, 2), vector(2, 5, 2), roll=0.0, focal=60.0, size=(size, size))


def show(scene: Scene, camera: Camera) -> Buffers:
    """Render with fixed sensor noise."""
    return render(scene, camera, np.random.default_rng(0))


def solid(builder: Builder, position: tuple[float, float, float], yaw: float = 0.0, scale: float = 1.0) -> Body:
    """A grey body."""
    return Body(builder.model((GREY,) * 4), "body", "block", vector(*position), facing(yaw), scale)


def test_depth_of_a_sphere_before_a_wall() -> None:
    """A sphere of radius 0.5 whose middle is 3 m ahead is seen at 2.5 m, the wall behind it at 9 m in every pixel
    that sees it.
    """
    b = Builder()
    b.ball((0, 0, 0), 0.5)
    buffers = show(bare(solid(b, (4, 5, 2))), forward_camera())
    assert buffers.depth[32, 32] == pytest.approx(2.5, abs=1e-3)
    # Depth is along the optical axis: the wall is as deep in the corner of the picture as beside the sphere.
    assert buffers.depth[32, 2] == pytest.approx(9.0, abs=1e-3)
    assert buffers.depth[22, 2] == pytest.approx(9.0, abs=1e-3)
    # Radius of the silhouette: tan(asin(0.5 / 3)) * 60 pixels.
    radius = np.tan(np.arcsin(0.5 / 3)) * 60
    assert buffers.seen(0) == pytest.approx(np.pi * radius**2, rel=0.03)
    assert buffers.alone[0] == pytest.approx(np.pi * radius**2, rel=0.03)


def test_the_nearer_body_hides_the_farther() -> None:
    """A plate in front hides half of a block; what would be seen without it is counted all the same."""
    block, plate = Builder(), Builder()
    block.box((0, 0, 0), (0.5, 0.5, 0.5))
    plate.box((0, 1, 0), (0.05, 1, 1))
    scene = bare(solid(block, (5, 5, 2)), solid(plate, (3, 5, 2)))
    buffers = show(scene, forward_camera(64))
    # +y is on the left of a camera that looks along +x.
    assert buffers.body[32, 30] == 1
    assert buffers.body[32, 34] == 0
    assert buffers.seen(0) == pytest.approx(float(buffers.alone[0]) / 2, rel=0.1)
    assert buffers.depth[32, 34] == pytest.approx(3.5, abs=1e-3)


def test_shadow_falls_away_from_the_light() -> None:
    """The floor under a ball below the lamp is darker than the open floor."""
    b = Builder()
    b.ball((0, 0, 1.0), 0.4)
    camera = look_at(vector(2.5, 5, 2.5), vector(5, 5, 0), roll=0.0, focal=60.0, size=(64, 64))
    with_ball, without = show(bare(solid(b, (5, 5, 0))), camera), show(bare(), camera)
    floor = with_ball.body == -5
    darker = without.rgb.mean(axis=-1) - with_ball.rgb.mean(axis=-1) > 25
    u, v, _ = camera.project(np.array([[5.0], [5.0], [0.0]])).astype(int)[:, 0]
    assert floor[v, u] and darker[v, u]
    assert not darker[60, 4]


@pytest.mark.parametrize("kind", list(Kind))
def test_entry_points_lie_on_the_surface(kind: Kind) -> None:
    """Where a ray enters a primitive, its implicit equation is zero and the normal faces the ray."""
    rng = np.random.default_rng(int(kind))
    origin = rng.normal(size=(3, 4000)).astype(np.float32)
    origin *= 4 / np.linalg.norm(origin, axis=0)
    target = rng.uniform(-0.9, 0.9, (3, 4000)).astype(np.float32)
    shape, direction = 0.3, target - origin
    enter, leave = intersect(kind, shape, tuple(origin), tuple(direction))
    hit = enter < leave
    assert hit.mean() > 0.2
    point = (origin + np.where(hit, enter, 0) * direction)[:, hit]
    x, y, z = point
    flat = np.hypot(x, y)
    implicit = {
        Kind.SPHERE: x * x + y * y + z * z - 1,
        Kind.BOX: np.abs(point).max(axis=0) - 1,
        Kind.FRUSTUM: np.maximum(flat - (0.65 - 0.35 * z), np.abs(z) - 1),
        Kind.WEDGE: np.maximum(np.maximum(np.abs(x) - 1, -1 - z), 2 * np.abs(y) + z - 1),
        Kind.TORUS: np.hypot(flat - 1, z) - shape,
    }[kind]
    assert np.abs(implicit).max() < 0.01
    assert ((normals(kind, shape, point) * direction[:, hit]).sum(axis=0) < 0.05).mean() > 0.995


def test_a_fin_has_its_three_corners() -> None:
    """The corners given for a triangular plate are corners of the solid."""
    b = Builder()
    b.fin((0.1, 0.2, 0.3), (0.5, 0, 0), (0.2, 0.6, 0.1), 0.02)
    part = b.parts[0]
    local = np.array([[0, -1, -1], [0, 1, -1], [0, 0, 1]], np.float32).T
    corners = (part.linear @ local + part.centre[:, None]).T
    expected = [[0.1, 0.2, 0.3], [0.6, 0.2, 0.3], [0.3, 0.8, 0.4]]
    np.testing.assert_allclose(corners, expected, atol=1e-6)


def test_a_point_is_found_again_in_another_view() -> None:
    """Surface points of one view, moved to another view by the pinhole equations, meet the same body at the same
    depth.
    """
    b = Builder()
    b.tube((0, 0, 0), (0, 0, 1), 0.5, 0.3)
    b.ball((0, 0, 1.2), (0.5, 0.3, 0.4))
    scene = bare(solid(b, (5, 5, 0), 0.3))
    first = look_at(vector(2, 4, 1.8), vector(5, 5, 0.7), roll=0.1, focal=90.0, size=(96, 96))
    second = look_at(vector(2.4, 6, 2.2), vector(5, 5, 0.7), roll=-0.05, focal=90.0, size=(96, 96))
    one, two = show(scene, first), show(scene, second)
    rows, columns = np.nonzero((one.body == 0) & ~one.mixed & (one.facing > 0.3))
    rays = np.stack([(columns + 0.5 - 48) / 90, (rows + 0.5 - 48) / 90, np.ones(len(rows))])
    world = first.position[:, None] + first.axes.T @ (rays * one.depth[rows, columns])
    u, v, depth = second.project(world)
    landed = two.depth[v.astype(int), u.astype(int)]
    # A pixel on the silhouette may see past the point.
    assert (landed < depth + 0.1).mean() > 0.95
    same = np.abs(landed - depth) < 0.03
    assert same.mean() > 0.6
    assert (two.body[v.astype(int), u.astype(int)][same] == 0).mean() > 0.99


def test_text_on_a_sign_reads_as_drawn() -> None:
    """A sign seen from the front shows its word, not mirrored and not upside down, with contrast."""
    sign = draw_sign(np.random.default_rng(4), 3.0)
    scene = bare(sign.placed(vector(10, 5, 2), facing(np.pi), surface=True))
    camera = look_at(vector(6, 5, 2), vector(10, 5, 2), roll=0.0, focal=120.0, size=(64, 128))
    buffers = show(scene, camera)
    mask = buffers.body == 0
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    crop = buffers.rgb[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean(axis=-1)
    assert crop.std() > 20
    decal = Image.fromarray((255 * draw_text(sign.text)).astype(np.uint8))
    wanted = np.asarray(decal.resize(crop.shape[::-1], Image.Resampling.BOX), float)
    straight = abs(np.corrcoef(wanted.ravel(), crop.ravel())[0, 1])
    mirrored = abs(np.corrcoef(wanted[:, ::-1].ravel(), crop.ravel())[0, 1])
    assert straight > 0.85
    assert mirrored < 0.6
