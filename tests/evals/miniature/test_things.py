"""The shape families, their key points and the classes made of them."""

import numpy as np
import pytest

from evals.miniature.describe import describe
from evals.miniature.palette import COLOURS
from evals.miniature.portraits import MAIN, draw_and_render
from evals.miniature.render import render
from evals.miniature.rooms import draw_indoor, draw_light, draw_room, draw_view
from evals.miniature.scene import Scene, look_at, vector
from evals.miniature.signs import WORDS
from evals.miniature.sizes import class_names, object_classes
from evals.miniature.spair import visible_keypoints
from evals.miniature.textures import TEXTURES
from evals.miniature.things import FAMILIES, LABELS, draw_object, facing


@pytest.mark.parametrize("family", FAMILIES)
def test_key_points_are_many_and_the_same_for_every_instance(family: str) -> None:
    """Each family names at least 8 key points, in one order, that move with the proportions."""
    one = FAMILIES[family](np.random.default_rng(1)).keypoints
    other = FAMILIES[family](np.random.default_rng(2)).keypoints
    assert len(one) >= 8
    assert list(one) == list(other)
    assert any(not np.allclose(one[name], other[name]) for name in one)


@pytest.mark.parametrize("family", FAMILIES)
def test_key_points_lie_on_the_body(family: str) -> None:
    """From any side, every key point falls on the silhouette or at most two pixels beside it."""
    rng = np.random.default_rng(7)
    room = draw_room(rng, 8, 9, (3, 4))
    body = draw_object(rng, family, "plain").placed(vector(4, 4, 0), facing(0.4))
    scene = Scene(room, (body,), draw_light(rng, room))
    for angle in (0.3, 2.2, 4.4):
        eye = vector(4 + 2.5 * np.cos(angle), 4 + 2.5 * np.sin(angle), 1.6)
        camera = look_at(eye, vector(4, 4, 0.5), roll=0.0, focal=110.0, size=(96, 96))
        rows, columns = np.nonzero(render(scene, camera, rng).body == 0)
        points = np.stack(list(body.model.keypoints.values()), axis=1)
        u, v, _ = camera.project(body.to_world(points))
        gap = np.hypot(columns[None] + 0.5 - u[:, None], rows[None] + 0.5 - v[:, None]).min(axis=1)
        assert gap.max() < 2.5, dict(zip(body.model.keypoints, gap.round(1), strict=True))


@pytest.mark.parametrize("family", ["car", "chair"])
def test_visible_key_points_agree_between_two_views(family: str) -> None:
    """A key point seen in two views of a scene is the projection of one 3-D point, within one pixel, at the depth
    that is seen there.
    """
    rng = np.random.default_rng(3)
    scene, camera, buffers = draw_and_render(rng, family, "striped", (96, 96), turn_range=0.5)
    main = scene.bodies[MAIN]
    side = np.cross(camera.axes[2], [0, 0, 1])
    moved = look_at(
        camera.position + 0.3 * side, main.position + vector(0, 0, 0.4), roll=0.02, focal=camera.focal, size=(96, 96)
    )
    views = [(camera, buffers), (moved, render(scene, moved, rng))]
    slots = [visible_keypoints(main, MAIN, cam, buf) for cam, buf in views]
    common = [slot for slot in slots[0] if slots[0][slot] and slots[1][slot]]
    assert len(common) >= 4
    names = list(main.model.keypoints)
    for (cam, _), found in zip(views, slots, strict=True):
        for slot in common:
            world = main.scale * main.rotation @ main.model.keypoints[names[int(slot)]] + main.position
            x, y, z = cam.axes @ (world - cam.position)
            u, v = cam.focal * x / z + 48, cam.focal * y / z + 48
            pixel = found[slot]
            assert pixel is not None
            assert abs(pixel[0] + 0.5 - u) <= 1 and abs(pixel[1] + 0.5 - v) <= 1


def test_hidden_key_points_are_not_reported() -> None:
    """Seen from the front, the rear of a house is hidden."""
    rng = np.random.default_rng(0)
    room = draw_room(rng, 8, 9, (3, 4))
    body = draw_object(rng, "house", "plain").placed(vector(4, 4, 0), facing(0.0))
    scene = Scene(room, (body,), draw_light(rng, room))
    camera = look_at(vector(6.5, 4, 0.4), vector(4, 4, 0.4), roll=0.0, focal=110.0, size=(96, 96))
    found = visible_keypoints(body, 0, camera, render(scene, camera, rng))
    slot = {name: str(i) for i, name in enumerate(body.model.keypoints)}
    assert found[slot["door top"]] and found[slot["left front base"]]
    assert found[slot["left back base"]] is None and found[slot["right back base"]] is None


def test_neither_shape_nor_texture_tells_the_class() -> None:
    """Twenty different classes; each shape has two textures, each texture four shapes."""
    classes = object_classes()
    assert len(set(classes)) == 20
    assert {family: sum(f == family for f, _ in classes) for family in FAMILIES} == dict.fromkeys(FAMILIES, 2)
    assert {t: sum(x == t for _, x in classes) for t in TEXTURES} == dict.fromkeys(TEXTURES, 4)
    wnids = [wnid for wnid, _ in class_names()]
    assert wnids == sorted(wnids)


def test_description_agrees_with_the_picture() -> None:
    """Objects of a description have the stated box, class and colours, and relations hold between the boxes and
    depths.
    """
    rng = np.random.default_rng(11)
    scene = draw_indoor(rng)
    camera = draw_view(rng, scene, 110.0, (96, 128))
    buffers = render(scene, camera, rng)
    told = describe(scene, camera, buffers)
    objects = {o["id"]: o for o in told["objects"]}
    assert objects
    for index, o in objects.items():
        rows, columns = np.nonzero(buffers.body == index)
        assert o["box"] == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert o["pixels"] == len(rows)
        assert o["class"] in LABELS and set(o["colours"]) <= set(COLOURS)
        assert (o["text"] in WORDS) == (o["class"] == "sign")
    assert told["relations"]
    for a, relation, b in told["relations"]:
        if relation == "left of":
            assert objects[a]["box"][2] < objects[b]["box"][0]
        elif relation == "behind":
            assert objects[a]["depth"] > objects[b]["depth"]
        else:
            assert relation == "on" and objects[a]["on"] == b and objects[b]["class"] == "table"
