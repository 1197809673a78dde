"""Captions: one line for the alignment of pictures and words, and descriptions of several sentences."""

from itertools import permutations

import numpy as np

from evals.miniature.talks.asking import legible, nearer
from evals.miniature.talks.phrases import FLOORS, a, column, listed, look, many
from evals.miniature.talks.sights import PLACED, Item, Sight

__all__ = ["caption", "description"]

Rng = np.random.Generator

_MOST = 4


def _told(item: Item, signs: list[Item]) -> str:
    """A thing with its article; a sign that can be read with its word."""
    says = f" that says {item.text}" if item in signs else ""
    return a(look(item)) + says


def _shown(sight: Sight) -> list[Item]:
    """What a caption is about: clear things and readable signs, largest first."""
    signs = legible(sight)
    found = [item for item in sight.items if item.clear or item in signs]
    return sorted(found, key=lambda item: -item.area)


def caption(sight: Sight, rng: Rng) -> str:
    """One line about what is clear, without a full stop."""
    signs, shown = legible(sight), _shown(sight)[:_MOST]
    if not shown:
        return "a room"
    if len(signs) == 2 and rng.random() < 0.6:
        return f"a sign that says {signs[0].text} above a sign that says {signs[1].text}"
    related = _related([item for item in shown if item.label in PLACED], rng)
    if related is not None:
        one, words, other = related
        return f"{_told(one, signs)} {words} {_told(other, signs)}"
    with_places = rng.random() < 0.5 and len(shown) > 1
    return listed([_told(item, signs) + (f" {column(item)}" if with_places else "") for item in shown])


def _related(placed: list[Item], rng: Rng) -> tuple[Item, str, Item] | None:
    """Draw two things and how the first stands to the second; None: nothing was drawn, or nothing holds."""
    for one, other in permutations(placed, 2):
        if other.id == one.on and rng.random() < 0.7:
            return one, "on", other
        if nearer(one, other) and rng.random() < 0.15:
            return one, "in front of", other
    if len(placed) == 2 and abs(placed[1].middle - placed[0].middle) > 0.15 and rng.random() < 0.6:
        where = "left" if placed[0].middle < placed[1].middle else "right"
        return placed[0], f"to the {where} of", placed[1]
    return None


def _signs(signs: list[Item]) -> list[str]:
    """Sentences about two signs, the upper and the lower one."""
    upper, lower = signs
    return [
        f"There are 2 signs, the upper one is {upper.colours[0]} and the lower one is {lower.colours[0]}.",
        f"The upper sign says {upper.text}.",
        f"The lower sign says {lower.text}.",
    ]


def description(sight: Sight, rng: Rng) -> str:
    """Sentences about everything that is clear: what, where, how many, what it says, and the floor."""
    signs, shown = legible(sight), _shown(sight)
    sentences = _signs(signs) if len(signs) == 2 else []
    rest = [item for item in shown if not (len(signs) == 2 and item in signs)]
    for item in sorted(rest, key=lambda item: item.middle):
        words = _told(item, signs)
        if isinstance(item.on, int) and any(other.id == item.on and other.label == "table" for other in shown):
            sentences.append(f"{column(item).capitalize()} is {words} on the table.")
        else:
            sentences.append(f"{column(item).capitalize()} is {words}.")
    for label in PLACED:
        number = sight.number(label)
        if number and number > 1 and label != "sign":
            sentences.append(f"There are {number} {many(label)}.")
    pairs = [(x, y) for x, y in permutations(sight.singles(), 2) if nearer(x, y)]
    if pairs:
        one, other = pairs[int(rng.integers(len(pairs)))]
        sentences.append(f"The {one.label} is in front of the {other.label}.")
    if sight.floor is not None:
        sentences.append(f"The floor is {FLOORS[sight.floor]}.")
    return " ".join(sentences) if sentences else "This is a room."
