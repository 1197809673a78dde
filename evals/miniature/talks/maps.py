"""Maps: scenes told cell by cell, one word for each visual token of a picture, in the order of the tokens.

Whoever has read maps looks things up among 64 places before a picture was ever shown; a projector then has words to
learn, and not how to look.
"""

import numpy as np

from evals.miniature.talks.phrases import FLOORS
from evals.miniature.talks.sights import Box, Item, Sight

__all__ = ["SIDE", "word_map"]

Rng = np.random.Generator

SIDE = 8
"""Cells along each axis."""
_WALL, _FLOOR = "wall", "floor"


def word_map(sight: Sight, rng: Rng) -> str:
    """SIDE x SIDE words row by row: each of a thing's cells says its name, a colour, its pattern or its writing.

    What is nearer covers what is farther, and what stands on something covers that. A thing with cells enough says its
    name, its first colour, and its pattern or writing at least once.
    """
    words = [[_ground(sight, row, rng) for _ in range(SIDE)] for row in range(SIDE)]
    for item in sorted(sight.items, key=lambda item: (isinstance(item.on, int), -item.depth)):
        cells = _cells(item.box)
        said = _says(item)
        for number, place in enumerate(rng.permutation(len(cells)).tolist()):
            row, column = cells[place]
            words[row][column] = said[number] if number < 3 else said[int(rng.integers(len(said)))]
    return " ".join(word for row in words for word in row)


def _ground(sight: Sight, row: int, rng: Rng) -> str:
    if row < SIDE // 2 or sight.kind == "board":
        return _WALL
    return (
        _FLOOR if sight.floor is None or rng.random() < 0.5 else FLOORS[sight.floor].split()[-1]
    )  # of "made of planks" the pattern


def _says(item: Item) -> list[str]:
    """The words of a thing, what is asked for most the most often; the first three must be said."""
    if item.text:
        return [item.text, item.label, item.colours[0], item.text, item.text, item.label, *item.colours[1:]]
    if item.label == "table":
        return [item.label, item.colours[0], item.label, *item.colours]
    return [item.label, item.colours[0], item.texture, item.label, item.label, item.texture, *item.colours[1:]]


def _cells(box: Box) -> list[tuple[int, int]]:
    """(row, column) of the cells that a box covers, at least one."""
    left, top, right, bottom = (round(edge * SIDE) for edge in box)
    left, top = min(left, SIDE - 1), min(top, SIDE - 1)
    rows, columns = range(top, max(bottom, top + 1)), range(left, max(right, left + 1))
    return [(row, column) for row in rows for column in columns]
