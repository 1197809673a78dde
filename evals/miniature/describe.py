"""The description of a picture: what is in it, where, in which colours, and what stands how to what. Captions and
questions are made from it.
"""

from typing import Any

import numpy as np

from evals.miniature.render import Buffers
from evals.miniature.scene import Body, Camera, Scene

_LEAST_PIXELS = 30
_LEAST_SEEN = 0.3
_APART = 0.3  # metres of depth between "behind" and "in front of"
_HIDDEN_NAMES = ("sky", "glass")  # the panes belong to their window


def describe(scene: Scene, camera: Camera, buffers: Buffers) -> dict[str, Any]:
    """Describe what the camera sees, as JSON values.

    `objects` lists every body with at least one visible pixel: `id`, `class`, `name` ("striped mug"), `texture`,
    `colours`, `text` (signs), `size` and `position` in metres, `depth` (of its origin), `box` [x0, y0, x1, y1] in
    pixels (inclusive), `pixels`, `visible` (share not hidden by others), `on` (id, "floor" or "wall"). `relations`
    are [a, "left of" | "behind" | "on", b] between objects seen well enough; "right of" and "in front of" are their
    inverses.
    """
    seen = [
        _object(index, body, camera, buffers)
        for index, body in enumerate(scene.bodies)
        if body.name not in _HIDDEN_NAMES and buffers.seen(index)
    ]
    room = scene.room
    return {
        "room": {
            "kind": room.kind,
            "size": _round(room.size),
            "floor": room.floor.pattern,
            "walls": [wall.pattern for wall in room.walls],
        },
        "camera": {
            "position": _round(camera.position),
            "axes": [_round(row, 5) for row in camera.axes],
            "focal": round(camera.focal, 3),
            "height": camera.height,
            "width": camera.width,
        },
        "objects": seen,
        "relations": _relations(scene, seen),
    }


def box_of(mask: np.ndarray) -> list[int]:
    """Bounding box [x0, y0, x1, y1] of a non-empty mask, inclusive."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]


def _round(values: np.ndarray, digits: int = 3) -> list[float]:
    return [round(float(v), digits) for v in values]


def _object(index: int, body: Body, camera: Camera, buffers: Buffers) -> dict[str, Any]:
    mask = buffers.body == index
    low, high = body.extent()
    pixels = int(mask.sum())
    where: int | str = "floor"
    if body.on is not None:
        where = body.on
    elif body.surface and body.label != "rug":
        where = "wall"
    return {
        "id": index,
        "class": body.label,
        "name": body.name,
        "texture": body.texture,
        "colours": list(body.colours),
        "text": body.text,
        "size": _round(high - low),
        "position": _round(body.position),
        "depth": round(float(camera.axes[2] @ (body.position - camera.position)), 3),
        "box": box_of(mask),
        "pixels": pixels,
        "visible": round(min(1.0, pixels / max(float(buffers.alone[index]), 1.0)), 3),
        "on": where,
    }


def _relations(scene: Scene, objects: list[dict[str, Any]]) -> list[list[int | str]]:
    clear = [o for o in objects if o["pixels"] >= _LEAST_PIXELS and o["visible"] >= _LEAST_SEEN]
    found: list[list[int | str]] = []
    for a in clear:
        for b in clear:
            if a is b:
                continue
            if a["on"] == b["id"]:
                found.append([a["id"], "on", b["id"]])
            if a["box"][2] < b["box"][0]:
                found.append([a["id"], "left of", b["id"]])
            standing = not (scene.bodies[a["id"]].surface or scene.bodies[b["id"]].surface)
            if standing and a["depth"] > b["depth"] + _APART and a["on"] != b["id"] and b["on"] != a["id"]:
                found.append([a["id"], "behind", b["id"]])
    return found
