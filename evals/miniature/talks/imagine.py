"""Sights of the mind: scenes that are told and never drawn, to learn language from."""

from dataclasses import replace

import numpy as np

from evals.miniature.palette import COLOURS
from evals.miniature.signs import WORDS
from evals.miniature.talks.gatherings import draw_labels
from evals.miniature.talks.phrases import FLOORS
from evals.miniature.talks.sights import STANDING, Box, Item, Sight
from evals.miniature.textures import TEXTURES

__all__ = ["imagine", "mistaken"]

Rng = np.random.Generator

_COLUMNS = ((0.03, 0.3), (0.36, 0.64), (0.7, 0.97))
_FRONT, _BACK = (0.55, 0.95, 2.0), (0.3, 0.6, 3.5)
"""Top and bottom of a box, and depth, of what stands in front and at the back."""
_PARTS = {"rug": (0.6, 0.98, 3.0), "picture": (0.05, 0.28, 5.0), "window": (0.03, 0.35, 5.0), "door": (0.08, 0.5, 5.0)}
"""The same of what a room has."""
_PART = 0.15
"""Share of the scenes with each of these."""
_SAME = 0.6
"""Share of mistakes that leave colours and pattern as they are."""


def _colours(rng: Rng, number: int) -> tuple[str, ...]:
    names = list(COLOURS)
    return tuple(names[k] for k in rng.choice(len(names), number, replace=False).tolist())


def _item(rng: Rng, number: int, label: str, box: Box, depth: float, on: int | str = "floor") -> Item:
    texture, text = TEXTURES[int(rng.integers(len(TEXTURES)))], ""
    if label == "sign":
        text = WORDS[int(rng.integers(len(WORDS)))].lower()
    if label in ("sign", "table", "window", "door"):
        texture = "plain"
    colours = _colours(rng, 2 if texture != "plain" or label == "sign" else 1)
    area = (box[2] - box[0]) * (box[3] - box[1]) * float(rng.uniform(0.6, 0.9))
    return Item(number, label, texture, colours, text, box, depth, area, on, colours, legible=label == "sign")


def imagine(rng: Rng) -> Sight:
    """Draw a sight in which everything is clear: signs one above the other, or things in three columns and two rows."""
    if rng.random() < 0.2:
        return _signs(rng)
    places = [(left, right, *row) for row in (_FRONT, _BACK) for left, right in _COLUMNS]
    order = rng.permutation(len(places)).tolist()
    labels = draw_labels(rng, int(rng.integers(1, 4)) + 1)
    if rng.random() < 0.3:
        labels.append("sign")
    with_table = rng.random() < 0.3
    if with_table:
        labels.append("table")
    items = []
    for number, label in enumerate(labels):
        left, right, top, bottom, depth = places[order[number]]
        items.append(_item(rng, number, label, (left, top, right, bottom), depth))
    if with_table:
        table = items[-1]
        top = table.box[1]
        box = (table.box[0] + 0.05, top - 0.2, table.box[2] - 0.05, top + 0.05)
        items.append(_item(rng, len(items), draw_labels(rng, 2)[0], box, table.depth, table.id))
    items += _parts(rng, len(items))
    floors = list(FLOORS)
    return Sight("gathering", tuple(items), floors[int(rng.integers(len(floors)))])


def mistaken(sight: Sight, rng: Rng) -> Sight:
    """The same sight as it might be instead: other kinds of things, patterns, words and now and then colours.

    They are drawn as those of the sight were, so that neither of the two is the likelier one.
    """
    return replace(sight, items=tuple(_mistaken(item, rng) for item in sight.items))


def _mistaken(item: Item, rng: Rng) -> Item:
    label = draw_labels(rng, 1)[0] if item.label in STANDING else item.label
    other = _item(rng, item.id, label, item.box, item.depth, item.on)
    if rng.random() < _SAME:
        other = replace(other, colours=item.colours, shown=item.shown, texture=item.texture)
    return other


def _parts(rng: Rng, first: int) -> list[Item]:
    """Rug, picture, window and door, each now and then, numbered from `first`."""
    found: list[Item] = []
    for label, (top, bottom, depth) in _PARTS.items():
        if rng.random() < _PART:
            left, right = _COLUMNS[int(rng.integers(len(_COLUMNS)))]
            on = "floor" if label == "rug" else "wall"
            found.append(_item(rng, first + len(found), label, (left, top, right, bottom), depth, on))
    return found


def _signs(rng: Rng) -> Sight:
    upper = _item(rng, 0, "sign", (0.1, 0.1, 0.9, 0.45), 2.0)
    if rng.random() < 0.4:
        return Sight("board", (upper,), None)
    return Sight("board", (upper, _item(rng, 1, "sign", (0.1, 0.5, 0.9, 0.9), 2.0)), None)
