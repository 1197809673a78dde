"""Every question that a sight answers, of every kind. Sets and conversations choose from them.

Nothing is asked that hangs on what is seen badly: a thing that shows a few pixels is neither there nor not there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from types import MappingProxyType

import numpy as np

from evals.miniature.palette import COLOURS
from evals.miniature.talks.phrases import FLOORS, LEFT, RIGHT, a, many, said
from evals.miniature.talks.sights import PLACED, STANDING, Item, Sight
from evals.miniature.textures import TEXTURES

__all__ = ["KINDS", "LABELS", "TEXTURED", "Ask", "asks", "legible", "nearer"]

Rng = np.random.Generator

LABELS = (*STANDING, "table", "sign", "window", "door", "picture", "rug")
"""What may be asked for, present or not."""
TEXTURED = (*STANDING, "rug", "picture")
"""Labels of what has a pattern that may be asked for."""
_PLAIN = (*STANDING, "table", "sign", "door")
_FAR = 1.25
"""Ratio of depths from which one thing is behind another."""
_MOST = 5
_MARGIN = 0.05
"""How far from the middle third, as a share of the width, a thing must be to be asked for its side."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question with its answer in one word or phrase, in a sentence, and what else could have been the answer."""

    kind: str
    question: str
    answer: str
    full: str
    others: tuple[str, ...] = ()


def _yes_no(kind: str, question: str, truth: bool, yes: str, no: str) -> Ask:
    return Ask(kind, question, "yes" if truth else "no", f"Yes, {yes}." if truth else f"No, {no}.", ("yes", "no"))


def nearer(one: Item, other: Item) -> bool:
    """Whether the first stands on the floor clearly before the second: less deep, and lower in the picture."""
    on_floor = one.on == other.on == "floor"
    return on_floor and other.depth > _FAR * one.depth and one.box[3] > other.box[3] + 0.05


def _apart(one: Item, other: Item) -> bool:
    """Whether the first is wholly to the left of the second."""
    return one.box[2] < other.box[0] and other.middle - one.middle > 0.12


def _foil(rng: Rng, among: tuple[str, ...], *truths: str) -> str:
    rest = [name for name in among if name not in truths]
    return rest[int(rng.integers(len(rest)))]


def colour(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """Colours of things that have one."""
    for label in _PLAIN:
        item = sight.single(label)
        if item is not None and item.texture == "plain" and item.toned:
            name, tone = said(label), item.colours[0]
            yield Ask("colour", f"What colour is the {name}?", tone, f"The {name} is {tone}.", tuple(COLOURS))


def pattern(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """Textures."""
    for label in TEXTURED:
        item = sight.single(label)
        if item is not None and item.patterned:
            name = said(label)
            full = f"The {name} is {item.texture}."
            yield Ask("pattern", f"What pattern does the {name} have?", item.texture, full, TEXTURES)


def side(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """Left or right in the picture."""
    for item in sight.singles():
        if not LEFT - _MARGIN < item.middle < RIGHT + _MARGIN:
            where = "left" if item.middle < LEFT else "right"
            question = f"Is the {item.label} on the left or on the right of the image?"
            yield Ask("side", question, where, f"The {item.label} is on the {where}.", ("left", "right"))


def relation(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """Left or right of each other, and before or behind."""
    for one, other in permutations(sight.singles(), 2):
        x, y = one.label, other.label
        if _apart(one, other) or _apart(other, one):
            where = "left" if _apart(one, other) else "right"
            full = f"The {x} is to the {where} of the {y}."
            yield Ask("relation", f"Is the {x} to the left or to the right of the {y}?", where, full, ("left", "right"))
        if nearer(one, other) or nearer(other, one):
            where = "in front" if nearer(one, other) else "behind"
            full = f"The {x} is in front of the {y}." if nearer(one, other) else f"The {x} is behind the {y}."
            question = f"Is the {x} in front of the {y} or behind it?"
            yield Ask("depth", question, where, full, ("in front", "behind"))


def count(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """How many of what is there."""
    for label in PLACED:
        number = sight.number(label)
        if number and number <= _MOST:
            full = f"There is 1 {label}." if number == 1 else f"There are {number} {many(label)}."
            numbers = tuple(str(n) for n in range(1, _MOST + 1))
            yield Ask("count", f"How many {many(label)} are there in the image?", str(number), full, numbers)


def exists(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """What is there and what is not."""
    for label in LABELS:
        if sight.present(label) or sight.absent(label):
            name = a(said(label))
            truth = sight.present(label)
            question = f"Is there {name} in the image?"
            yield _yes_no("exists", question, truth, f"there is {name}", f"there is not {name}")


def both(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """Two things, of which one may be absent."""
    here = [item.label for item in sight.singles()]
    gone = [label for label in STANDING if sight.absent(label)]
    for label in here:
        for truth in (True, False):
            others = [other for other in (here if truth else gone) if other != label]
            if others:
                other = others[int(rng.integers(len(others)))]
                x, y = (label, other) if rng.random() < 0.5 else (other, label)
                question = f"Are there both {a(x)} and {a(y)} in the image?"
                yield _yes_no("both", question, truth, "both are there", f"there is not {a(other)}")


def verify(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """Whether a thing has a look: the true one, and one that it has not."""
    for label in TEXTURED:
        item = sight.single(label)
        if item is not None and item.patterned:
            for texture in (item.texture, _foil(rng, TEXTURES, item.texture)):
                name, truth = said(label), texture == item.texture
                is_so = f"it is {item.texture}"
                yield _yes_no("verify", f"Is the {name} {texture}?", truth, is_so, is_so)
    for label in _PLAIN:
        item = sight.single(label)
        if item is not None and item.texture == "plain" and item.toned:
            for tone in (item.colours[0], _foil(rng, tuple(COLOURS), item.colours[0])):
                is_so = f"it is {item.colours[0]}"
                yield _yes_no("verify", f"Is the {label} {tone}?", tone == item.colours[0], is_so, is_so)


def which(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """Names of things, found by their looks and places."""
    things = [item for item in sight.items if item.label in STANDING]
    for texture in TEXTURES:
        found = [item for item in things if item.texture == texture]
        if len(found) == 1 and found[0].patterned and found[0].clear:
            name = found[0].label
            yield Ask("which", f"Which thing is {texture}?", name, f"The {name} is {texture}.", STANDING)
    for tone in COLOURS:
        found = [item for item in things if tone in (*item.colours, *item.shown)]
        if len(found) == 1 and found[0].clear and found[0].texture == "plain" and found[0].toned:
            name = found[0].label
            yield Ask("which", f"Which thing is {tone}?", name, f"The {name} is {tone}.", STANDING)
    tables = sight.all("table")
    on_top = [item for item in things if len(tables) == 1 and item.on == tables[0].id]
    if len(on_top) == 1 and on_top[0].clear:
        name = on_top[0].label
        yield Ask("on", "What is on the table?", name, f"On the table is {a(name)}.", STANDING)
    placed = [item for item in sight.items if item.label in PLACED]
    if len(placed) == 2 and all(sight.single(item.label) for item in placed):
        for one, other in permutations(placed):
            if other.label in STANDING and (_apart(one, other) or _apart(other, one)):
                where = "right" if _apart(one, other) else "left"
                question = f"What is to the {where} of the {one.label}?"
                full = f"To the {where} of the {one.label} is {a(other.label)}."
                yield Ask("beside", question, other.label, full, STANDING)


def twins(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """Looks of one of two things that have the same name, told apart by their places."""
    for label in STANDING:
        pair = sorted(sight.all(label), key=lambda item: item.middle)
        if len(pair) == 2 and all(item.clear for item in pair) and _apart(*pair):
            for item, where in zip(pair, ("left", "right"), strict=True):
                if item.patterned:
                    full = f"The {label} on the {where} is {item.texture}."
                    question = f"What pattern does the {label} on the {where} have?"
                    yield Ask("twins", question, item.texture, full, TEXTURES)
                if item.texture == "plain" and item.toned:
                    tone = item.colours[0]
                    full = f"The {label} on the {where} is {tone}."
                    yield Ask("twins", f"What colour is the {label} on the {where}?", tone, full, tuple(COLOURS))


def legible(sight: Sight) -> list[Item]:
    """The signs, if there is one or two and each can be read, from top to bottom; else nothing."""
    signs = sorted(sight.all("sign"), key=lambda item: item.box[1])
    return signs if 1 <= len(signs) <= 2 and all(item.legible for item in signs) else []


def reading(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """What signs say."""
    signs = legible(sight)
    if len(signs) == 1:
        word = signs[0].text
        yield Ask("sign", "What does the sign say?", word, f"The sign says {word}.")
        yield Ask("sign", "What word is written in the image?", word, f"The word is {word}.")
    if len(signs) == 2 and signs[1].box[1] - signs[0].box[1] > 0.1:
        for item, where in zip(signs, ("upper", "lower"), strict=True):
            yield Ask("signs", f"What does the {where} sign say?", item.text, f"The {where} sign says {item.text}.")
            tone = item.colours[0]
            if item.toned and signs[0].toned and signs[1].toned and signs[0].colours[0] != signs[1].colours[0]:
                yield Ask("signs", f"What does the {tone} sign say?", item.text, f"The {tone} sign says {item.text}.")


def floor(sight: Sight, rng: Rng) -> Iterator[Ask]:
    """Whether the floor is made so."""
    if sight.floor is not None:
        for kind in (sight.floor, _foil(rng, tuple(FLOORS), sight.floor)):
            truth, is_so = kind == sight.floor, f"it is {FLOORS[sight.floor]}"
            yield _yes_no("floor", f"Is the floor {FLOORS[kind]}?", truth, is_so, is_so)


_ASKERS: tuple[Callable[[Sight, Rng], Iterator[Ask]], ...] = (
    *(colour, pattern, side, relation, count, exists, both, verify, which, twins, reading, floor),
)
KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "colour": ("colour", "twins"),
        "pattern": ("pattern",),
        "position": ("side", "relation", "depth", "on", "beside"),
        "count": ("count",),
        "presence": ("exists", "both"),
        "attribute": ("verify", "which"),
        "reading": ("sign", "signs"),
        "floor": ("floor",),
    }
)
"""Groups of kinds."""


def asks(sight: Sight, rng: Rng) -> list[Ask]:
    """All questions about a sight; `rng` draws what is asked for in vain."""
    return [ask for asker in _ASKERS for ask in asker(sight, rng)]
