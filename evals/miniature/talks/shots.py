"""The pictures of the vision-language sets: which picture is of what kind, where it lies, and what it shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw

from evals.miniature.describe import describe
from evals.miniature.notices import draw_notice
from evals.miniature.palette import COLOURS
from evals.miniature.pictures import draw_shape, save_jpeg
from evals.miniature.portraits import draw_and_render
from evals.miniature.render import SHELL, Buffers, render
from evals.miniature.rooms import draw_indoor, draw_view
from evals.miniature.scene import Body, Camera, Scene
from evals.miniature.signs import WORDS
from evals.miniature.sizes import Size, object_classes
from evals.miniature.talks.boards import draw_boards
from evals.miniature.talks.gatherings import draw_gathering
from evals.miniature.talks.maps import places

Rng = np.random.Generator
Part = Literal["train", "questions"]

ALIGNMENT = "llava/LLaVA-Pretrain/images"
INSTRUCTION = "llava"
QUESTIONS = "talks/pictures"

_SET_IDS = {"train": 6, "questions": 7}
"""Streams of random numbers: no picture to be asked about is among those to learn from, under any seed."""
_FLOOR = -1 - SHELL.index("floor")
_SAID = WORDS[::4]
"""What boards say: few words, so that each is seen often enough to be learnt."""
_TONES = 3
_SHADES = (1.0, 0.8, 0.6)
_FIXED = ("white", "grey", "black", "brown")
_LIT_NAMES = np.array([k for k, name in enumerate(COLOURS) for _ in range(1 if name in _FIXED else len(_SHADES))])
_LIT = np.array(
    [np.multiply(rgb, shade) for name, rgb in COLOURS.items() for shade in _SHADES[: 1 if name in _FIXED else None]],
    np.float32,
)


@dataclass(frozen=True, slots=True)
class Shot:
    """Picture `number` of a part; `kind_number` counts within its kind."""

    part: Part
    kind: str
    number: int
    kind_number: int

    @property
    def path(self) -> str:
        """Where the picture lies below the world; for training that of the instructions."""
        if self.part == "questions":
            return f"{QUESTIONS}/{self.kind}/{self.kind_number:06d}.jpg"
        return f"{INSTRUCTION}/{self._folder}/{self.number:012d}.jpg"

    @property
    def twin(self) -> str:
        """The same training picture for the alignment stage."""
        return f"{ALIGNMENT}/{self.number // 1000:05d}/{self.number:09d}.jpg"

    @property
    def _folder(self) -> str:
        odd = self.kind_number % 2
        return {
            "portrait": "coco/train2017",
            "gathering": "gqa/images",
            "room": ("vg/VG_100K", "vg/VG_100K_2")[odd],
            "board": ("textvqa/train_images", "ocr_vqa/images")[odd],
        }[self.kind]


def count(size: Size) -> int:
    """Number of images."""
    return sum(sum(counts) for _, counts in size.talks.kinds)


def shot_at(size: Size, index: int) -> Shot:
    """The shot of an image index: first all of training, then all to be asked about."""
    parts: tuple[Part, Part] = ("train", "questions")
    start = 0
    for column, part in enumerate(parts):
        number = index - start
        before = 0
        for kind, counts in size.talks.kinds:
            if number < before + counts[column]:
                return Shot(part, kind, number, number - before)
            before += counts[column]
        start += before
    raise IndexError(f"image {index} of {count(size)}")


def write(root: Path, size: Size, seed: int, index: int) -> dict[str, Any]:
    """Render and write image `index`, return its description.

    Beside what `describe` tells: `kind`, `part`, `floor_share` (of the picture), `cells` (what each shows, see
    `maps.places`), and for each object `inside` (share of its outline within the frame), `tones` (the commonest named
    colours of its pixels, with their shares) and, for signs, `board`: how many pixels the board spans across, and the
    shares of it within the frame and not hidden.
    """
    shot = shot_at(size, index)
    rng = np.random.default_rng([seed, _SET_IDS[shot.part], shot.number])
    scene, camera, buffers = _draw(rng, shot, draw_shape(rng, size))
    save_jpeg(root / shot.path, buffers.rgb)
    if shot.part == "train":
        save_jpeg(root / shot.twin, buffers.rgb)
    told = describe(scene, camera, buffers)
    for seen in told["objects"]:
        body, mask = scene.bodies[seen["id"]], buffers.body == seen["id"]
        seen["inside"] = round(_inside(body.to_world(body.model.corners()), camera), 3)
        seen["tones"] = tones(buffers.rgb, mask & ~buffers.mixed)
        if body.text:
            seen["board"] = [round(value, 3) for value in _board(body, camera, mask)]
    share = round(float((buffers.body == _FLOOR).mean()), 3)
    cells = places(buffers.body, _FLOOR)
    return {"image": shot.path, "part": shot.part, "kind": shot.kind, "floor_share": share, "cells": cells, **told}


def _draw(rng: Rng, shot: Shot, shape: tuple[int, int]) -> tuple[Scene, Camera, Buffers]:
    if shot.kind == "portrait":
        classes = object_classes()
        family, texture = classes[shot.kind_number % len(classes)]
        return draw_and_render(rng, family, texture, shape)
    if shot.kind == "gathering":
        scene, camera = draw_gathering(rng, shape)
    elif shot.kind == "room":
        scene = draw_indoor(rng)
        camera = draw_view(rng, scene, min(shape) * float(rng.uniform(0.85, 1.25)), shape)
    else:
        scene, camera = _draw_board(rng, shot.kind_number, shape)
    return scene, camera, render(scene, camera, rng)


def _draw_board(rng: Rng, number: int, shape: tuple[int, int]) -> tuple[Scene, Camera]:
    """One sign or, in every second picture, two; all words in turn."""
    word = _SAID[number % len(_SAID)]
    if (number + number // len(_SAID)) % 2 == 0:
        return draw_notice(rng, word, shape)
    others = [other for other in _SAID if other != word]
    other = others[int(rng.integers(len(others)))]
    return draw_boards(rng, (word, other) if rng.random() < 0.5 else (other, word), shape)


def tones(rgb: UInt8[np.ndarray, "Y X 3"], mask: Bool[np.ndarray, "Y X"]) -> list[list[str | float]]:
    """The commonest palette names of the masked pixels (each has that of the nearest colour), with their shares.

    A colour may be in the shade and keep its name, but for white, grey, black and brown, which differ by brightness.
    """
    pixels = rgb[mask].astype(np.float32) / 255
    if not len(pixels):
        return []
    distance = ((pixels[:, None, :] - _LIT) ** 2).sum(axis=-1)
    counts = np.bincount(_LIT_NAMES[distance.argmin(axis=1)], minlength=len(COLOURS))
    names = list(COLOURS)
    first = np.argsort(-counts, kind="stable")[:_TONES].tolist()
    return [[names[k], round(float(counts[k]) / len(pixels), 3)] for k in first if counts[k]]


def _inside(points: Float32[np.ndarray, "3 N"], camera: Camera) -> float:
    """Share of the box around projected points that lies within the picture (0 where it reaches behind the camera)."""
    u, v, depth = camera.project(points)
    if float(depth.min()) <= 0.05:
        return 0.0
    spans = []
    for values, end in ((u, camera.width), (v, camera.height)):
        low, high = float(values.min()), float(values.max())
        spans.append(max(0.0, min(high, end) - max(low, 0.0)) / max(high - low, 1e-6))
    return spans[0] * spans[1]


def _board(body: Body, camera: Camera, mask: Bool[np.ndarray, "Y X"]) -> tuple[float, float, float]:
    """Of a sign's front: pixels across, share inside of the picture, share of the inside that is seen."""
    part = body.model.parts[0]
    corners = np.array([[1, 1, 1, 1], [-1, 1, 1, -1], [1, 1, -1, -1]], np.float32)
    points = body.to_world(part.linear @ corners + part.centre[:, None])
    inside = _inside(points, camera)
    if not inside:
        return 0.0, 0.0, 0.0
    u, v, _ = camera.project(points)
    canvas = Image.new("L", (camera.width, camera.height), 0)
    ImageDraw.Draw(canvas).polygon(list(zip(u.tolist(), v.tolist(), strict=True)), fill=1)
    front = np.asarray(canvas) > 0
    seen = float((front & mask).sum()) / max(float(front.sum()), 1.0)
    return float(u.max() - u.min()), inside, seen
