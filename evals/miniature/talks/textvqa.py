"""The small set of TextVQA: what signs say, with the tokens that a reader of signs found, which errs at times."""

import hashlib
from pathlib import Path

import numpy as np

from evals.miniature.signs import WORDS
from evals.miniature.talks.balance import choose
from evals.miniature.talks.shelf import Shelf, Stock, candidates
from evals.miniature.talks.tables import Row, picture, write_table

__all__ = ["FIELDS", "FILE", "ocr_tokens", "rows", "write"]

FILE = "vlm/textvqa/data/validation-00000-of-00001.parquet"
FIELDS = {
    "image_id": "text",
    "question_id": "number",
    "question": "text",
    "question_tokens": "texts",
    "image": "image",
    "image_width": "number",
    "image_height": "number",
    "flickr_original_url": "text",
    "flickr_300k_url": "text",
    "answers": "texts",
    "image_classes": "texts",
    "set_name": "text",
    "ocr_tokens": "texts",
}
_FIRST = 34602
"""The first question_id, as in the validation split."""
_PEOPLE = 10
_MISREAD, _OVERLOOKED, _IMAGINED = 0.15, 0.1, 0.25


def ocr_tokens(stock: Stock, rng: np.random.Generator) -> list[str]:
    """The words on the signs in any order, some misread or overlooked, and at times one that is not there."""
    tokens = []
    for item in stock.sight.items:
        if item.text and rng.random() >= _OVERLOOKED:
            word = item.text
            if rng.random() < _MISREAD:
                at = int(rng.integers(len(word)))
                word = word[:at] + "ijlvxq"[int(rng.integers(6))] + word[at + 1 :]
            tokens.append(word)
    if rng.random() < _IMAGINED:
        tokens.append(WORDS[int(rng.integers(len(WORDS)))].lower())
    return [tokens[k] for k in rng.permutation(len(tokens)).tolist()]


def _answers(word: str, rng: np.random.Generator) -> list[str]:
    """What ten people answer: most the word alone."""
    said = [word] * int(rng.integers(_PEOPLE - 3, _PEOPLE + 1))
    other = (f"{word} sign", f"the word {word}", "unanswerable")
    said += [other[int(rng.integers(3))] for _ in range(_PEOPLE - len(said))]
    return [said[k] for k in rng.permutation(_PEOPLE).tolist()]


def rows(root: Path, shelf: Shelf, number: int, rng: np.random.Generator) -> list[Row]:
    """Questions in the order of the pictures."""
    chosen = choose(candidates(shelf, ("sign", "signs")), number, rng, per_picture=3)
    tokens = {at: ocr_tokens(shelf[at], rng) for at in sorted({c.picture for c in chosen})}
    found: list[Row] = []
    for c in chosen:
        stock = shelf[c.picture]
        camera = stock.record["camera"]
        found.append(
            {
                "image_id": hashlib.sha256(stock.name.encode()).hexdigest()[:16],
                "question_id": _FIRST + len(found),
                "question": c.ask.question,
                "question_tokens": c.ask.question.lower().rstrip("?").split(),
                "image": picture(root, stock.record),
                "image_width": camera["width"],
                "image_height": camera["height"],
                "flickr_original_url": "",
                "flickr_300k_url": "",
                "answers": _answers(c.ask.answer, rng),
                "image_classes": sorted({item.label.capitalize() for item in stock.sight.items}),
                "set_name": "val",
                "ocr_tokens": tokens[c.picture],
            }
        )
    return found


def write(root: Path, shelf: Shelf, number: int, rng: np.random.Generator) -> list[Row]:
    """Write the set and return its rows."""
    found = rows(root, shelf, number, rng)
    write_table(root / FILE, found, FIELDS)
    return found
