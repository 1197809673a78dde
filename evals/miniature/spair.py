"""The correspondence set in the SPair-71k layout."""

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from evals.miniature.describe import box_of
from evals.miniature.pictures import draw_shape, save_jpeg, save_png
from evals.miniature.portraits import MAIN, draw_and_render
from evals.miniature.render import Buffers
from evals.miniature.scene import Body, Camera
from evals.miniature.sizes import Size
from evals.miniature.things import FAMILIES, draw_texture

FOLDER = "SPair-71k"
SPLITS = ("trn", "val", "test")
_SET_ID, _PAIR_SET_ID = 4, 104
_SLOTS = 30  # key-point slots of an image annotation
_LEAST_COMMON = 4
_TURN = 0.9  # radians around the front quarters; wider and most pairs share no key points
_SMALL_SHARE = 5  # Layout/small holds one pair in so many
_TOLERANCE = 0.03  # of the object's scale: how far behind the seen surface a key point may lie


def count(size: Size) -> int:
    """Number of images."""
    return size.categories * sum(size.splits)


def visible_keypoints(body: Body, index: int, camera: Camera, buffers: Buffers) -> dict[str, list[int] | None]:
    """Slot -> pixel [x, y] of the body's key points, None when hidden or outside the picture."""
    points = np.stack(list(body.model.keypoints.values()), axis=1)
    found: dict[str, list[int] | None] = {str(slot): None for slot in range(_SLOTS)}
    for slot, (u, v, depth) in enumerate(camera.project(body.to_world(points)).T.tolist()):
        x, y = int(np.floor(u)), int(np.floor(v))
        if 0 <= x < camera.width and 0 <= y < camera.height:
            around = (slice(max(0, y - 1), y + 2), slice(max(0, x - 1), x + 2))
            close = np.abs(buffers.depth[around] - depth) < _TOLERANCE * body.scale + 0.01 * depth
            if (close & (buffers.body[around] == index)).any():
                found[str(slot)] = [x, y]
    return found


def write(root: Path, size: Size, seed: int, index: int) -> dict[str, Any]:
    """Render and write image, mask and annotation `index`, return the annotation."""
    rng = np.random.default_rng([seed, _SET_ID, index])
    category = list(FAMILIES)[index // sum(size.splits)]
    shape = draw_shape(rng, size)
    scene, camera, buffers = draw_and_render(rng, category, draw_texture(rng), shape, turn_range=_TURN)
    main, mask = scene.bodies[MAIN], buffers.body == MAIN
    box = box_of(mask)
    azimuth = _azimuth(main, camera)
    name = f"{2008 + index % 4}_{index:06d}"
    annotation = {
        "filename": f"{name}.jpg",
        "src_database": "miniature",
        "src_annotation": "miniature",
        "src_image": "miniature",
        "image_width": shape[1],
        "image_height": shape[0],
        "image_depth": 3,
        "category": category,
        "pose": _pose(azimuth),
        "truncated": int(box[0] == 0 or box[1] == 0 or box[2] == shape[1] - 1 or box[3] == shape[0] - 1),
        "occluded": int(mask.sum() < 0.95 * float(buffers.alone[MAIN])),
        "difficult": 0,
        "bndbox": box,
        "kps": visible_keypoints(main, MAIN, camera, buffers),
        "azimuth_id": int(np.floor(azimuth / (np.pi / 4))) % 8,
    }
    save_jpeg(root / FOLDER / "JPEGImages" / category / f"{name}.jpg", buffers.rgb)
    save_png(root / FOLDER / "Segmentation" / category / f"{name}.png", mask.astype(np.uint8))
    _dump(root / FOLDER / "ImageAnnotation" / category / f"{name}.json", annotation)
    return annotation


def finish(root: Path, size: Size, seed: int, records: list[dict[str, Any]]) -> None:
    """Write the pairs and their lists."""
    each = sum(size.splits)
    start = 0
    for number, (split, images) in enumerate(zip(SPLITS, size.splits, strict=True)):
        names: list[str] = []
        for category in range(size.categories):
            first = category * each + start
            rng = np.random.default_rng([seed, _PAIR_SET_ID, category, number])
            for pair in _pairs(rng, records[first : first + images], size.pairs[number]):
                stem = f"{len(names) + 1:06d}-{pair['src_imname'][:-4]}-{pair['trg_imname'][:-4]}:{pair['category']}"
                _dump(
                    root / FOLDER / "PairAnnotation" / split / f"{stem}.json",
                    {"filename": stem, "pair_id": len(names), **pair},
                )
                names.append(stem)
        start += images
        _list(root / FOLDER / "Layout" / "large" / f"{split}.txt", names)
        _list(root / FOLDER / "Layout" / "small" / f"{split}.txt", names[::_SMALL_SHARE])


def _azimuth(main: Body, camera: Camera) -> float:
    """Angle of the camera around the object, 0 = in front, counter-clockwise seen from above."""
    x, y, _ = main.rotation.T @ (camera.position - main.position)
    return float(np.arctan2(y, x)) % (2 * np.pi)


def _pose(azimuth: float) -> str:
    return ("Frontal", "Left", "Rear", "Right")[int(np.rint(azimuth / (np.pi / 2))) % 4]


def _pairs(rng: np.random.Generator, records: list[dict[str, Any]], most: int) -> Iterator[dict[str, Any]]:
    """Unordered pairs with enough common key points, in random order and direction, at most `most`."""
    candidates = list(combinations(range(len(records)), 2))
    made = 0
    for choice in rng.permutation(len(candidates)).tolist():
        a, b = candidates[choice] if rng.random() < 0.5 else candidates[choice][::-1]
        pair = _pair(records[a], records[b])
        if len(pair["kps_ids"]) >= _LEAST_COMMON and made < most:
            made += 1
            yield pair


def _pair(source: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    common = [slot for slot in source["kps"] if source["kps"][slot] and target["kps"][slot]]
    turned = abs(source["azimuth_id"] - target["azimuth_id"])
    ratio = max(_extent(source) / _extent(target), _extent(target) / _extent(source))
    return {
        "category": source["category"],
        "src_imname": source["filename"],
        "trg_imname": target["filename"],
        "src_imsize": [source["image_width"], source["image_height"], 3],
        "trg_imsize": [target["image_width"], target["image_height"], 3],
        "src_bndbox": source["bndbox"],
        "trg_bndbox": target["bndbox"],
        "src_kps": [source["kps"][slot] for slot in common],
        "trg_kps": [target["kps"][slot] for slot in common],
        "kps_ids": common,
        "src_pose": source["pose"],
        "trg_pose": target["pose"],
        "mirror": 0,
        "viewpoint_variation": min(turned, 8 - turned, 2),
        "scale_variation": int(ratio > 1.3) + int(ratio > 1.7),
        "truncation": source["truncated"] + 2 * target["truncated"],
        "occlusion": source["occluded"] + 2 * target["occluded"],
    }


def _extent(record: dict[str, Any]) -> float:
    x0, y0, x1, y1 = record["bndbox"]
    return float(max(x1 - x0, y1 - y0) + 1)


def _dump(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
