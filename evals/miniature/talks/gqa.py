"""The small set of GQA: compositional questions about looks, places, numbers and names, with one-word answers."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from evals.miniature.talks.balance import Candidate, choose
from evals.miniature.talks.shelf import Shelf, candidates
from evals.miniature.talks.tables import Row, picture, write_table

__all__ = ["FILES", "TYPES", "chosen", "write"]

FILES = (
    "vlm/GQA/testdev_balanced_instructions/testdev-00000-of-00001.parquet",
    "vlm/GQA/testdev_balanced_images/testdev-00000-of-00001.parquet",
)
"""Questions and pictures."""
_QUESTIONS = {
    "id": "text",
    "imageId": "text",
    "question": "text",
    "answer": "text",
    "fullAnswer": "text",
    "isBalanced": "flag",
    "types": "types",
}
_PICTURES = {"id": "text", "image": "image"}
TYPES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "colour": ("query", "attr"),
        "pattern": ("query", "attr"),
        "side": ("choose", "attr"),
        "relation": ("choose", "rel"),
        "depth": ("choose", "rel"),
        "count": ("query", "obj"),
        "both": ("logical", "obj"),
        "verify": ("verify", "attr"),
        "which": ("query", "obj"),
        "twins": ("query", "attr"),
        "on": ("query", "rel"),
        "beside": ("query", "rel"),
    }
)
"""Kind of question -> structural and semantic type."""


def chosen(shelf: Shelf, number: int, rng: np.random.Generator) -> list[Candidate]:
    """The questions, in the order of the pictures."""
    return choose(candidates(shelf, tuple(TYPES)), number, rng, per_picture=4)


def write(root: Path, shelf: Shelf, number: int, rng: np.random.Generator) -> list[Row]:
    """Write both tables and return the questions."""
    found: list[Row] = []
    picked = chosen(shelf, number, rng)
    for c in picked:
        structural, semantic = TYPES[c.ask.kind]
        found.append(
            {
                "id": f"{20_000_000 + len(found)}",
                "imageId": shelf[c.picture].name,
                "question": c.ask.question,
                "answer": c.ask.answer,
                "fullAnswer": c.ask.full,
                "isBalanced": True,
                "types": {"structural": structural, "semantic": semantic, "detailed": c.ask.kind},
            }
        )
    shown = sorted({c.picture for c in picked})
    pictures = [{"id": shelf[at].name, "image": picture(root, shelf[at].record)} for at in shown]
    write_table(root / FILES[0], found, _QUESTIONS)
    write_table(root / FILES[1], pictures, _PICTURES)
    return found
