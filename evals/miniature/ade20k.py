"""The segmentation set in the layout of ADEChallengeData2016."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from evals.miniature.describe import describe
from evals.miniature.pictures import draw_shape, save_jpeg, save_png
from evals.miniature.render import SHELL, Buffers, render
from evals.miniature.rooms import draw_indoor, draw_view
from evals.miniature.scene import Scene
from evals.miniature.sizes import Size
from evals.miniature.things import LABELS

FOLDER = "ade20k/ADEChallengeData2016"
_SET_ID = 2
_STUFF = ("wall", "floor", "ceiling", "rug", "window", "door")


def count(size: Size) -> int:
    """Number of images."""
    return size.dense_train + size.dense_val


def label_map(scene: Scene, buffers: Buffers) -> UInt8[np.ndarray, "Y X"]:
    """Annotation: 1 + index in `LABELS`; 0 (unlabelled) for the sky and for pixels on the border of several bodies."""
    table = [0 if body.label is None else 1 + LABELS.index(body.label) for body in scene.bodies]
    # Negative indices reach the room's faces from the end.
    table += [1 + LABELS.index(name) for name in reversed(SHELL)]
    labels = np.array(table, np.uint8)[buffers.body]
    return np.where(buffers.mixed, np.uint8(0), labels)


def write(root: Path, size: Size, seed: int, index: int) -> dict[str, Any]:
    """Render and write image and annotation `index`, return the description."""
    rng = np.random.default_rng([seed, _SET_ID, index])
    scene = draw_indoor(rng)
    shape = draw_shape(rng, size)
    camera = draw_view(rng, scene, min(shape) * float(rng.uniform(0.85, 1.25)), shape)
    buffers = render(scene, camera, rng)
    split, stem = ("training", "train") if index < size.dense_train else ("validation", "val")
    number = index + 1 if index < size.dense_train else index - size.dense_train + 1
    name = f"ADE_{stem}_{number:08d}"
    path = f"{FOLDER}/images/{split}/{name}.jpg"
    save_jpeg(root / path, buffers.rgb)
    save_png(root / f"{FOLDER}/annotations/{split}/{name}.png", label_map(scene, buffers))
    return {"image": path, **describe(scene, camera, buffers)}


def finish(root: Path, size: Size, seed: int, records: list[dict[str, Any]]) -> None:
    """Write the class table and the scene categories."""
    folder = root / FOLDER
    pixels = np.zeros(len(LABELS) + 1)
    images = np.zeros((2, len(LABELS) + 1), int)
    for column, split in enumerate(("training", "validation")):
        for path in sorted((folder / "annotations" / split).iterdir()):
            with Image.open(path) as annotation:
                counts = np.bincount(np.asarray(annotation).ravel(), minlength=len(LABELS) + 1)
            pixels += counts / counts.sum()
            images[column] += counts > 0
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName\n"]
    for k, name in enumerate(LABELS, start=1):
        ratio = pixels[k] / pixels.sum()
        lines.append(f"{k}\t{ratio:.4f}\t{images[0, k]}\t{images[1, k]}\t{int(name in _STUFF)}\t{name}\n")
    (folder / "objectInfo150.txt").write_text("".join(lines), encoding="utf-8")
    scenes = [f"{Path(r['image']).stem} {r['room']['kind'].replace(' ', '_')}\n" for r in records]
    (folder / "sceneCategories.txt").write_text("".join(scenes), encoding="utf-8")
