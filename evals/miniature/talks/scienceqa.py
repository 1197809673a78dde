"""The small set of ScienceQA with pictures: choices, some with a hint that has to be used."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from evals.miniature.talks.balance import Candidate, choose
from evals.miniature.talks.choices import Choice, knowledge, offered, present, uses
from evals.miniature.talks.shelf import Shelf, Stock, candidates
from evals.miniature.talks.tables import Row, picture, write_table

__all__ = ["FIELDS", "FILE", "HINTS", "choice_of", "rows", "write"]

FILE = "vlm/ScienceQA/ScienceQA-IMG/test-00000-of-00001.parquet"
FIELDS = {
    "image": "image",
    "question": "text",
    "choices": "texts",
    "answer": "number",
    "hint": "text",
    "task": "text",
    "grade": "text",
    "subject": "text",
    "topic": "text",
    "category": "text",
    "skill": "text",
    "lecture": "text",
    "solution": "text",
}
HINTS: Mapping[str, str] = MappingProxyType(
    {
        "portrait": "The image shows a large thing and some others.",
        "gathering": "The image shows some things on a floor.",
        "room": "The image shows a room.",
        "board": "The image shows what someone wrote.",
    }
)
"""What a hint says that gives nothing away."""
_SUBJECTS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "colour": ("natural science", "physics", "Colours"),
        "pattern": ("natural science", "physics", "Patterns"),
        "side": ("social science", "geography", "Places"),
        "present": ("natural science", "biology", "Things"),
        "use": ("social science", "economics", "Uses"),
        "sign": ("language science", "reading", "Signs"),
        "signs": ("language science", "reading", "Signs"),
    }
)
"""Kind of question -> subject, topic, category."""


def choice_of(stock: Stock, candidate: Candidate, at: int, rng: np.random.Generator) -> Choice:
    """A question with its options and hint."""
    choice = offered(candidate.ask, at, rng)
    if candidate.ask.kind == "use":
        return replace(choice, hint=knowledge(choice))
    return replace(choice, hint=HINTS[stock.sight.kind]) if rng.random() < 0.5 else choice


def rows(root: Path, shelf: Shelf, number: int, rng: np.random.Generator) -> list[Row]:
    """Questions in the order of the pictures."""
    found = candidates(shelf, ("colour", "pattern", "side", "sign", "signs"))
    for at, stock in enumerate(shelf):
        found += [Candidate(at, ask) for ask in (*present(stock.sight, rng), *uses(stock.sight))]
    chosen = choose(found, number, rng, per_picture=3)
    places = rng.permutation(len(chosen)).tolist()
    return [_row(root, shelf[c.picture], c, at, rng) for c, at in zip(chosen, places, strict=True)]


def _row(root: Path, stock: Stock, candidate: Candidate, at: int, rng: np.random.Generator) -> Row:
    choice = choice_of(stock, candidate, at, rng)
    subject, topic, category = _SUBJECTS[candidate.ask.kind]
    return {
        "image": picture(root, stock.record),
        "question": choice.question,
        "choices": list(choice.options),
        "answer": choice.answer,
        "hint": choice.hint,
        "task": "closed choice",
        "grade": "grade2",
        "subject": subject,
        "topic": topic,
        "category": category,
        "skill": f"Answer questions about {category.lower()}",
        "lecture": "",
        "solution": candidate.ask.full,
    }


def write(root: Path, shelf: Shelf, number: int, rng: np.random.Generator) -> list[Row]:
    """Write the set and return its rows."""
    found = rows(root, shelf, number, rng)
    write_table(root / FILE, found, FIELDS)
    return found
