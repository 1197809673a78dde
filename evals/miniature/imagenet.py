"""The classification set in the ImageNet layout."""

from pathlib import Path
from typing import Any

import numpy as np

from evals.miniature.describe import describe
from evals.miniature.pictures import draw_shape, save_jpeg
from evals.miniature.portraits import draw_and_render
from evals.miniature.sizes import Size, class_names, object_classes

FOLDER = "imagenet"
_SET_ID = 1


def count(size: Size) -> int:
    """Number of images."""
    return size.classes * (size.class_train + size.class_val)


def write(root: Path, size: Size, seed: int, index: int) -> dict[str, Any]:
    """Render and write image `index`, return its description."""
    rng = np.random.default_rng([seed, _SET_ID, index])
    number, label = divmod(index, size.classes)
    family, texture = object_classes()[label]
    scene, camera, buffers = draw_and_render(rng, family, texture, draw_shape(rng, size))
    wnid, name = class_names()[label]
    if number < size.class_train:
        path = f"{FOLDER}/train/{wnid}/{wnid}_{number + 1}.JPEG"
    else:
        path = f"{FOLDER}/val/{wnid}/ILSVRC2012_val_{index - size.classes * size.class_train + 1:08d}.JPEG"
    save_jpeg(root / path, buffers.rgb)
    return {"image": path, "label": name, **describe(scene, camera, buffers)}


def finish(root: Path, size: Size, seed: int, records: list[dict[str, Any]]) -> None:
    """Write the class names."""
    lines = [f"{wnid},{name}\n" for wnid, name in class_names()[: size.classes]]
    (root / FOLDER / "labels.txt").write_text("".join(lines), encoding="utf-8")
