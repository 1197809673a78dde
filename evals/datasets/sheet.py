"""A contact sheet: a few images of every data set with what their labels say, for eyes to check."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from evals.context import Roots
from evals.datasets import ade20k, imagenet, nyuv2, spair
from evals.datasets.base import read_rgb
from evals.errors import UnavailableError
from evals.files import DigestMemo

CELL = 144
"""Side of a thumbnail, in pixels."""
_GAP = 6
_LINE = 15
_PAPER, _INK = (250, 250, 248), (24, 24, 28)

_VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 40, 120), (62, 73, 137), (49, 104, 142), (38, 130, 142),
        (31, 158, 137), (53, 183, 121), (110, 206, 88), (181, 222, 43), (253, 231, 37),
    ],
    dtype=np.float64,
)  # fmt: skip
"""Ten anchors of the perceptually even map viridis."""

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture and the lines that stand below it."""

    picture: Image.Image
    lines: Sequence[tuple[str, Colour | None]]
    """Texts, each after a square of a colour if it explains one."""
    span: int = 1
    """Columns."""


def contact_sheet(roots: Roots, *, columns: int = 8, rows_per_set: int = 2, digests: DigestMemo) -> Image.Image:
    """One picture of the data sets that are there, from their evaluation splits; fewer images leave rows short.

    The splits are loaded, so their files are hashed once; `digests` remembers that for later runs.
    Raises UnavailableError when none is there, DataError for a broken one.
    """
    sections: list[tuple[str, list[Cell]]] = []
    absent: list[UnavailableError] = []
    for name, draw, width in (
        ("imagenet", _classification, 1),
        ("ade20k", _segmentation, 2),
        ("nyu", _depth, 2),
        ("SPair-71k", _pairs, 2),
    ):
        try:
            sections.append(draw(roots, name, max(1, columns // width) * rows_per_set, digests))
        except UnavailableError as error:
            absent.append(error)
    if not sections:
        raise absent[0]
    return _stack([_section(title, cells, columns) for title, cells in sections])


def depth_colours(metres_YX: NDArray[np.float32]) -> NDArray[np.uint8]:
    """RGB (Y, X, 3) from the nearest depth (dark violet) to the farthest (yellow); missing pixels (0) are black."""
    valid = metres_YX > 0
    near, far = _range(metres_YX)
    place = (metres_YX - near) / max(far - near, 1e-6) * (len(_VIRIDIS) - 1)
    anchors = np.arange(len(_VIRIDIS))
    colours = np.stack([np.interp(place, anchors, _VIRIDIS[:, channel]) for channel in range(3)], axis=-1)
    return np.where(valid[..., None], np.rint(colours), 0).astype(np.uint8)


def class_colour(index: int) -> Colour:
    """A colour for a class: hues a golden ratio apart, in three tones, so that neighbours differ; 0 is black."""
    if index == 0:
        return (0, 0, 0)
    red, green, blue = colorsys.hsv_to_rgb(
        index * 0.618034 % 1, (0.85, 0.6, 0.95)[index % 3], (0.95, 0.8, 0.6)[index % 3]
    )
    return (int(red * 255), int(green * 255), int(blue * 255))


def _classification(roots: Roots, name: str, n: int, digests: DigestMemo) -> tuple[str, list[Cell]]:
    split = imagenet.load(roots.of(name), "val", digests)
    title = f"{name} / val: {len(split):,} images, {len(split.classes):,} classes"
    part = split.limit(n)
    words = part.names or part.classes
    texts = (words[label] for label in part.labels_N)
    return title, [Cell(read_rgb(path), [(text, None)]) for path, text in zip(part.images.paths, texts, strict=True)]


def _segmentation(roots: Roots, name: str, n: int, digests: DigestMemo) -> tuple[str, list[Cell]]:
    split = ade20k.load(roots.of(name), "validation", digests)
    classes = len(split.class_names or ()) or ade20k.PUBLISHED_CLASSES
    cells: list[Cell] = []
    part = split.limit(n)
    for path, label_path in zip(part.images.paths, part.labels, strict=True):
        image, label = read_rgb(path), ade20k.read_label(label_path, classes)
        palette = np.array([class_colour(index) for index in range(classes + 1)], dtype=np.uint8)
        mask = Image.fromarray(palette[label]).resize(image.size, Image.Resampling.NEAREST)
        counts = np.bincount(label.ravel(), minlength=classes + 1)
        frequent = [int(index) for index in np.argsort(-counts, kind="stable")[:4] if counts[index]]
        legend = [
            (f"{_class_name(split.class_names, index)} {counts[index] / label.size:.0%}", class_colour(index))
            for index in frequent
        ]
        cells += [Cell(image, legend[:2]), Cell(Image.blend(image, mask, 0.6), legend[2:])]
    return f"{name} / validation: {len(split):,} images; black = unlabelled", cells


def _depth(roots: Roots, name: str, n: int, digests: DigestMemo) -> tuple[str, list[Cell]]:
    split = nyuv2.load(roots.of(name), "test", digests)
    cells: list[Cell] = []
    part = split.limit(n)
    for path, depth_path in zip(part.images.paths, part.depths, strict=True):
        metres = nyuv2.read_depth(depth_path)
        near, far = _range(metres)
        ends = depth_colours(np.array([[near, far]], dtype=np.float32))[0]
        texts = [
            (f"{near:.2f} m", _colour(ends[0])),
            (f"{far:.2f} m, {(metres == 0).mean():.0%} missing", _colour(ends[1])),
        ]
        scene = depth_path.relative_to(roots.of(name)).parent.as_posix()
        picture = Image.fromarray(depth_colours(metres))
        cells += [Cell(read_rgb(path), [(scene, None), (path.name, None)]), Cell(picture, texts)]
    return f"{name} / test: {len(split):,} frames; depth from dark (near) to yellow (far), black = missing", cells


def _pairs(roots: Roots, name: str, n: int, digests: DigestMemo) -> tuple[str, list[Cell]]:
    split = spair.load(roots.of(name), "test", digests)
    title = f"{name} / test: {len(split):,} pairs, {len(split.categories)} categories; target box in white"
    part = split.limit(n)
    cells: list[Cell] = []
    for pair in part.pairs:
        left, right = read_rgb(part.images.paths[pair.source]), read_rgb(part.images.paths[pair.target])
        text = f"{pair.category}, {len(pair.point_ids)} points"
        cells.append(Cell(_joined(left, right, pair), [(text, None)], span=2))
    return title, cells


def _joined(left: Image.Image, right: Image.Image, pair: spair.Pair) -> Image.Image:
    """Source and target side by side, the box of the target, and a line for every pair of points."""
    canvas = Image.new("RGB", (2 * CELL + _GAP, CELL), _PAPER)
    draw = ImageDraw.Draw(canvas)
    placed = []
    for image, start, points in ((left, 0, pair.source_points_K2), (right, CELL + _GAP, pair.target_points_K2)):
        scale = CELL / max(image.size)
        corner = np.array([start, 0]) + (CELL - np.array(image.size) * scale) // 2
        canvas.paste(_fit(image), (int(corner[0]), int(corner[1])))
        placed.append(points * scale + corner)
    box = np.array(pair.target_box).reshape(2, 2) * scale + corner
    draw.rectangle([(float(x), float(y)) for x, y in box], outline=(255, 255, 255))
    for index, (source, target) in enumerate(zip(*placed, strict=True), start=1):
        colour = class_colour(3 * index)
        draw.line([tuple(source), tuple(target)], fill=colour)
        for x, y in (source, target):
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour, outline=(0, 0, 0))
    return canvas


def _section(title: str, cells: Sequence[Cell], columns: int) -> Image.Image:
    """A titled grid."""
    span = max(cell.span for cell in cells)
    across = max(1, columns // span)
    width, height = span * (CELL + _GAP), CELL + _LINE * max(len(cell.lines) for cell in cells) + _GAP
    size = max(columns, span) * (CELL + _GAP) + _GAP, 2 * _LINE + -(-len(cells) // across) * height
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw.text((_GAP, _LINE // 2), title, fill=_INK, font=font)
    for index, cell in enumerate(cells):
        x, y = _GAP + index % across * width, 2 * _LINE + index // across * height
        small = cell.picture if cell.span > 1 else _fit(cell.picture)
        sheet.paste(small, (x + (width - _GAP - small.width) // 2, y + (CELL - small.height) // 2))
        for number, (text, colour) in enumerate(cell.lines):
            top, start = y + CELL + 1 + number * _LINE, x
            if colour is not None:
                draw.rectangle((x, top + 3, x + 9, top + 12), fill=colour, outline=_INK)
                start += 14
            draw.text((start, top), _shortened(text, x + width - _GAP - start, font), fill=_INK, font=font)
    return sheet


def _stack(sections: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new(
        "RGB", (max(section.width for section in sections), sum(section.height for section in sections) + _GAP), _PAPER
    )
    top = 0
    for section in sections:
        sheet.paste(section, (0, top))
        top += section.height
    return sheet


def _fit(image: Image.Image) -> Image.Image:
    """The image with its longer side as long as a cell."""
    scale = CELL / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _range(metres_YX: NDArray[np.float32]) -> tuple[float, float]:
    valid = metres_YX[metres_YX > 0]
    return (float(valid.min()), float(valid.max())) if valid.size else (0.0, 0.0)


def _class_name(names: tuple[str, ...] | None, index: int) -> str:
    if index == 0:
        return "unlabelled"
    return names[index - 1] if names else f"class {index}"


def _colour(rgb: NDArray[np.uint8]) -> Colour:
    return (int(rgb[0]), int(rgb[1]), int(rgb[2]))
