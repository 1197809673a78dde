"""The small set of RealWorldQA: spatial questions whose text holds the options and how to answer."""

from pathlib import Path

import numpy as np

from evals.miniature.talks.asking import Ask
from evals.miniature.talks.balance import Candidate, choose
from evals.miniature.talks.choices import in_lines, offered
from evals.miniature.talks.phrases import LETTER_ONLY, WORD_ONLY, column
from evals.miniature.talks.shelf import Shelf, candidates
from evals.miniature.talks.sights import Sight
from evals.miniature.talks.tables import Row, picture, write_table

__all__ = ["FIELDS", "FILE", "asked", "spatial", "write"]

FILE = "vlm/RealWorldQA/data/test-00000-of-00001.parquet"
FIELDS = {"image": "image", "question": "text", "answer": "text", "image_path": "text"}
_OPEN = ("count", "exists")
_PARTS = ("on the left", "in the middle", "on the right")


def spatial(sight: Sight) -> list[Ask]:
    """Where in the picture a thing is, in three parts."""
    found = []
    for item in sight.singles():
        # Not on the borders between the parts.
        if min(abs(item.middle - 0.4), abs(item.middle - 0.6)) > 0.04:
            where = column(item)
            full = f"The {item.label} is {where}."
            found.append(Ask("part", f"Where in the image is the {item.label}?", where, full, _PARTS))
    return found


def asked(ask: Ask, at: int, rng: np.random.Generator) -> tuple[str, str]:
    """Text and answer of a question: a word or number, or the letter of an option."""
    if ask.kind in _OPEN:
        answer = ask.answer.capitalize()
        return f"{ask.question}\n\n{WORD_ONLY}", answer
    choice = offered(ask, at, rng)
    return f"{ask.question}\n\n{in_lines(choice)}\n{LETTER_ONLY}", choice.letter


def rows(root: Path, shelf: Shelf, number: int, rng: np.random.Generator) -> list[Row]:
    """Questions in the order of the pictures."""
    found = candidates(shelf, ("depth", "side", "count", "exists", "sign", "signs"))
    found += [Candidate(at, ask) for at, stock in enumerate(shelf) for ask in spatial(stock.sight)]
    chosen = choose(found, number, rng, per_picture=3)
    places = rng.permutation(len(chosen)).tolist()
    made: list[Row] = []
    for c, at in zip(chosen, places, strict=True):
        question, answer = asked(c.ask, at, rng)
        shown = picture(root, shelf[c.picture].record)
        made.append({"image": shown, "question": question, "answer": answer, "image_path": shown["path"]})
    return made


def write(root: Path, shelf: Shelf, number: int, rng: np.random.Generator) -> list[Row]:
    """Write the set and return its rows."""
    found = rows(root, shelf, number, rng)
    write_table(root / FILE, found, FIELDS)
    return found
