"""The small set of MME: about each picture of a subtask one question whose answer is yes and one whose answer is no."""

from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

import numpy as np

from evals.miniature.palette import COLOURS
from evals.miniature.signs import WORDS
from evals.miniature.talks.asking import LABELS, asks, legible
from evals.miniature.talks.choices import uses
from evals.miniature.talks.phrases import FLOORS, USES, YES_OR_NO, a, many, said
from evals.miniature.talks.pope import Even
from evals.miniature.talks.shelf import Shelf
from evals.miniature.talks.sights import PLACED, STANDING, Sight
from evals.miniature.talks.tables import Row, picture, write_table
from evals.miniature.textures import TEXTURES

__all__ = ["COGNITION", "FIELDS", "FILE", "PERCEPTION", "statements", "write"]

FILE = "vlm/MME/data/test-00000-of-00001.parquet"
FIELDS = {"question_id": "text", "image": "image", "question": "text", "answer": "text", "category": "text"}
_MOST = 4
_AHEAD = 2
"""How far one answer may run ahead of the other, under the same words (the same number, where numbers are asked for).
"""
_COUNTING = ("count", "numerical_calculation")

Statements = tuple[list[str], list[str]]
"""Questions (without the request for yes or no) of which yes, and of which no, is the answer."""


def _existence(sight: Sight) -> Statements:
    here = [f"Is there {a(said(label))} in this image?" for label in LABELS if sight.present(label)]
    gone = [f"Is there {a(said(label))} in this image?" for label in LABELS if sight.absent(label)]
    return here, gone


def _number(label: str, number: int) -> str:
    return (
        f"Is there only 1 {label} in this image?" if number == 1 else f"Are there {number} {many(label)} in this image?"
    )


def _count(sight: Sight) -> Statements:
    yes, no = [], []
    for label in PLACED:
        number = sight.number(label)
        if number and number <= _MOST:
            yes.append(_number(label, number))
            no += [_number(label, other) for other in (number - 1, number + 1) if 1 <= other <= _MOST]
    return yes, no


def _position(sight: Sight) -> Statements:
    yes, no = [], []
    for ask in asks(sight, np.random.default_rng(0)):
        if ask.kind == "relation":
            one, other = ask.full.removeprefix("The ").removesuffix(".").split(f" is to the {ask.answer} of the ")
            wrong = "right" if ask.answer == "left" else "left"
            yes.append(f"Is the {one} to the {ask.answer} of the {other}?")
            no.append(f"Is the {one} to the {wrong} of the {other}?")
    return yes, no


def _color(sight: Sight) -> Statements:
    yes, no = [], []
    for label in (*STANDING, "table", "sign"):
        item = sight.single(label)
        if item is not None and item.texture == "plain" and item.toned:
            yes.append(f"Is there {a(item.colours[0])} {label} in this image?")
            no += [f"Is there {a(tone)} {label} in this image?" for tone in COLOURS if tone not in item.shown]
    return yes, [question for question in no if question not in yes]


def _scene(sight: Sight) -> Statements:
    if sight.floor is None:
        return [], []
    questions = {kind: f"Does this image show a place with a floor that is {name}?" for kind, name in FLOORS.items()}
    return [questions[sight.floor]], [questions[kind] for kind in FLOORS if kind != sight.floor]


def _artwork(sight: Sight) -> Statements:
    yes, no = [], []
    for label in ("picture", "rug"):
        item = sight.single(label)
        if item is not None and item.patterned:
            yes.append(f"Is the {said(label)} in this image {item.texture}?")
            no += [f"Is the {said(label)} in this image {other}?" for other in TEXTURES if other != item.texture]
    return yes, no


def _ocr(sight: Sight) -> Statements:
    words = [item.text for item in legible(sight)]
    every = [word.lower() for word in WORDS] if words else []
    ask = 'Is the word "{}" written in this image?'
    return [ask.format(word) for word in words], [ask.format(word) for word in every if word not in words]


def _commonsense(sight: Sight) -> Statements:
    ask = "Is the largest thing in this image for {}?"
    right = [found.answer for found in uses(sight)]
    wrong = [use for use in USES.values() if right and use not in right]
    return [ask.format(use) for use in right], [ask.format(use) for use in wrong]


def _calculation(sight: Sight) -> Statements:
    yes, no = [], []
    counts = [(label, number) for label in STANDING if (number := sight.number(label))]
    for (one, first), (other, second) in combinations(counts, 2):
        total = first + second
        ask = f"Is the number of {many(one)} plus the number of {many(other)} in this image {{}}?"
        yes.append(ask.format(total))
        no += [ask.format(wrong) for wrong in (total - 1, total + 1) if wrong > 1]
    return yes, no


PERCEPTION: Mapping[str, Callable[[Sight], Statements]] = MappingProxyType(
    {
        "existence": _existence,
        "count": _count,
        "position": _position,
        "color": _color,
        "scene": _scene,
        "artwork": _artwork,
        "OCR": _ocr,
    }
)
"""Subtasks by their official names."""
COGNITION: Mapping[str, Callable[[Sight], Statements]] = MappingProxyType(
    {"commonsense_reasoning": _commonsense, "numerical_calculation": _calculation}
)
"""Likewise; they do not count for perception."""


def statements(category: str, sight: Sight) -> Statements:
    """Every question of a subtask about a sight."""
    return {**PERCEPTION, **COGNITION}[category](sight)


def write(root: Path, shelf: Shelf, number: int, rng: np.random.Generator) -> list[Row]:
    """Write at most `number` pictures of each subtask, with two questions each, and return the rows."""
    found: list[Row] = []
    for category in (*PERCEPTION, *COGNITION):
        found += _rows(root, shelf, category, number, rng)
    write_table(root / FILE, found, FIELDS)
    return found


def _figure(question: str) -> str:
    """The number in a question: without a picture, it alone could tell."""
    return next((letter for letter in question if letter.isdigit()), "")


def _rows(root: Path, shelf: Shelf, category: str, number: int, rng: np.random.Generator) -> list[Row]:
    even, rows = Even(_figure if category in _COUNTING else str), list[Row]()
    for at in rng.permutation(len(shelf)).tolist():
        yes, no = statements(category, shelf[at].sight)
        yes = [words for words in yes if even.surplus[even.key(words)] < _AHEAD]
        no = [words for words in no if even.surplus[even.key(words)] > -_AHEAD]
        if not yes or not no or len(rows) >= 2 * number:
            continue
        # Shuffled, so that those that are equally even are drawn.
        yes, no = ([group[k] for k in rng.permutation(len(group)).tolist()] for group in (yes, no))
        asked = [(*even.take(no, 1, False), "No"), (*even.take(yes, 1, True), "Yes")]
        for question, answer in asked if rng.random() < 0.5 else asked[::-1]:
            rows.append(
                {
                    "question_id": f"{category}/{shelf[at].name}.jpg",
                    "image": picture(root, shelf[at].record),
                    "question": f"{question} {YES_OR_NO}",
                    "answer": answer,
                    "category": category,
                }
            )
    return rows
