"""Maps: scenes told cell by cell, one word for each visual token of a picture, in the order of the tokens.

Whoever has read maps looks things up among 64 places before a picture was ever shown; a projector then has words to
learn, and not how to look.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int16

from evals.miniature.talks.asking import TEXTURED
from evals.miniature.talks.phrases import FLOORS
from evals.miniature.talks.sights import Item, Sight

__all__ = ["FLOOR", "GLANCES", "SIDE", "WALL", "glances", "places", "word_map"]

Rng = np.random.Generator

SIDE = 8
"""Cells along each axis."""
FLOOR, WALL = -1, -2
"""What stands in a cell without a thing, in the place of an id."""
GLANCES = 3
"""Maps that are seen at once in the place of a picture, whose tokens show more than one word can say."""
_FIRST = 3
"""Words of a thing that are said if it has cells enough: its name or writing, a colour, its pattern."""


def word_map(sight: Sight, rng: Rng, cells: Sequence[int] | None = None) -> str:
    """SIDE x SIDE words row by row: each of a thing's cells says its name, a colour, its pattern or its writing.

    `cells` are the ids of what the cells show (see `places`); without them things are as large as their boxes.
    """
    shown = _from_boxes(sight) if cells is None else cells
    words = [_ground(sight, cell, rng) for cell in shown]
    for item in sight.items:
        mine = [place for place, cell in enumerate(shown) if cell == item.id]
        said = _says(item)
        for number, at in enumerate(rng.permutation(len(mine)).tolist()):
            words[mine[at]] = said[number if number < min(_FIRST, len(said)) else int(rng.integers(len(said)))]
    return " ".join(words)


def glances(sight: Sight, other: Sight, rng: Rng) -> str:
    """A map a line: GLANCES of what is there, and as many of what might be."""
    seen = [(each, _from_boxes(each)) for each in (sight, other)]
    return "\n".join(word_map(each, rng, cells) for each, cells in seen for _ in range(GLANCES))


def places(body_YX: Int16[np.ndarray, "Y X"], floor: int) -> list[int]:
    """What most pixels of each cell show, in the centre square of a picture: the id of a thing, FLOOR or WALL.

    `body_YX` has the id of the thing of every pixel, and negative numbers for the room; `floor` is that of its floor.
    """
    height, width = body_YX.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    rows, columns = (np.linspace(start, start + side, SIDE + 1).round().astype(int) for start in (top, left))
    found = []
    for y0, y1 in itertools.pairwise(rows):
        for x0, x1 in itertools.pairwise(columns):
            ids, counts = np.unique(body_YX[y0:y1, x0:x1], return_counts=True)
            most = int(ids[counts.argmax()])
            found.append(most if most >= 0 else FLOOR if most == floor else WALL)
    return found


def _from_boxes(sight: Sight) -> list[int]:
    """What is nearer covers what is farther, and what stands on something covers that."""
    row = [WALL] * SIDE if sight.kind == "board" else [FLOOR] * SIDE
    cells = [*([WALL] * SIDE * (SIDE // 2)), *(row * (SIDE - SIDE // 2))]
    for item in sorted(sight.items, key=lambda item: (isinstance(item.on, int), -item.depth)):
        left, top, right, bottom = (round(edge * SIDE) for edge in item.box)
        left, top = min(left, SIDE - 1), min(top, SIDE - 1)
        for y in range(top, max(bottom, top + 1)):
            for x in range(left, max(right, left + 1)):
                cells[y * SIDE + x] = item.id
    return cells


def _ground(sight: Sight, cell: int, rng: Rng) -> str:
    if cell != FLOOR:
        return "wall"
    pattern = None if sight.floor is None or rng.random() < 0.5 else FLOORS[sight.floor]
    return "floor" if pattern is None else pattern.split()[-1]  # of "made of planks" the last word


def _says(item: Item) -> list[str]:
    """The words of a thing, what is asked for most the most often."""
    first, *more = item.colours if item.patterned and item.texture != "plain" else item.shown or item.colours or ("",)
    colour = [first] if first else []
    if item.text and item.legible:
        return [item.text, item.label, *colour, item.text, item.text, item.label, *more[:1]]
    pattern = [item.texture] if item.patterned and item.label in TEXTURED else []
    return [item.label, *colour, *pattern, item.label, item.label, *pattern, *more[:1]]
