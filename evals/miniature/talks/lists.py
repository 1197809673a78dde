"""Lists: things, patterns and writings, each with whether the scene has it; and how each thing looks that is alone."""

import numpy as np

from evals.miniature.signs import WORDS
from evals.miniature.talks.asking import LABELS, TEXTURED, legible
from evals.miniature.talks.phrases import said
from evals.miniature.talks.sights import Item, Sight
from evals.miniature.textures import TEXTURES

__all__ = ["checklist", "inventory"]

Rng = np.random.Generator

_MOST = 8


def checklist(sight: Sight, rng: Rng) -> str:
    """As many words that hold as words that do not, in any order, such as "mug: yes, car: no"."""
    here, perhaps = _here(sight), _perhaps(sight)
    told: list[str] = []
    for among in (LABELS, TEXTURES, [word.lower() for word in WORDS]):
        yes = [word for word in among if word in here]
        no = [word for word in among if word not in perhaps]
        number = min(len(yes), len(no), _MOST)
        for words, answer in ((yes, "yes"), (no, "no")):
            order = rng.permutation(len(words)).tolist()
            told += [f"{said(words[k])}: {answer}" for k in order[:number]]
    return ", ".join(told[k] for k in rng.permutation(len(told)).tolist())


def inventory(sight: Sight, rng: Rng) -> str:
    """Everything that is alone of its name, with its colour, its pattern or its writing, in any order.

    Such as "mug: red, sign: exit".
    """
    told = []
    for item in sight.items:
        look = _look(item)
        if look and sight.single(item.label) is item:
            told.append(f"{said(item.label)}: {look}")
    return ", ".join(told[k] for k in rng.permutation(len(told)).tolist()) or "nothing"


def _look(item: Item) -> str:
    """What tells a thing best; nothing where it is unclear."""
    if item.text:
        return item.text if item.legible else ""
    if item.texture == "plain":
        return item.colours[0] if item.toned else ""
    return item.texture if item.label in TEXTURED and item.patterned else ""


def _here(sight: Sight) -> set[str]:
    """Names and patterns of what is clear, and what can be read."""
    clear = [item for item in sight.items if item.clear]
    patterns = {item.texture for item in clear if item.patterned and item.label in TEXTURED}
    return {item.label for item in clear} | patterns | {item.text for item in legible(sight)}


def _perhaps(sight: Sight) -> set[str]:
    """Every word that may hold of anything, clear or not."""
    words = {word for item in sight.items for word in (item.label, item.texture, item.text)}
    return words if sight.floor is None else words | {sight.floor}
