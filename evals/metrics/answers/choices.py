"""ScienceQA: which choice an answer names, by the parsers of LLaVA and of lmms-eval."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.errors import DataError
from evals.metrics.answers.given import Rule, texts

UNCLEAR = -1
"""The parser finds no choice, or one that the question does not have: wrong, and counted."""

_LETTERS = "ABCDE"
_SENTENCE = re.compile(r"The answer is ([A-Z]).")
"""LLaVA's pattern: its last point is not escaped, so any character but a line end may follow, and one has to."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen, sample by sample; the accuracy is the mean of `correct_N`."""

    chosen_N: NDArray[np.int64]
    """Choices counted from 0, or UNCLEAR."""
    correct_N: NDArray[np.bool_]


def score(
    predictions: Sequence[str | None], choices: Sequence[int], answers: Sequence[int], rule: Rule = "llava"
) -> Chosen:
    """Parses each answer to a question with so many `choices`, of which number `answers` (from 0) is right.

    Raises ResultsError if an answer is missing, DataError if the right choice is not among the choices.
    """
    given = texts(predictions, choices, answers)
    for at, (count, right) in enumerate(zip(choices, answers, strict=True)):
        if not 0 <= right < count:
            raise DataError(f"question {at}: choice {right} (from 0) of {count} cannot be right. Obtain the set again.")
    chosen = [parse(text, count, rule) for text, count in zip(given, choices, strict=True)]
    chosen_N = np.array(chosen, dtype=np.int64)
    return Chosen(chosen_N, chosen_N == np.asarray(answers, dtype=np.int64))


def parse(text: str, choices: int, rule: Rule) -> int:
    """The number of the choice that a stripped answer names, or UNCLEAR.

    llava (eval_science_qa.py): a bare capital letter; or "B. " and something after it; or exactly one sentence "The
    answer is B.". lmms (0.7.3): a bare letter of either case; or a capital and a full stop, whatever follows.
    """
    at = _llava(text) if rule == "llava" else _lmms(text)
    return at if at < choices else UNCLEAR


def _llava(text: str) -> int:
    if len(text) == 1 or text[1:3] == ". ":
        at = _LETTERS.find(text[0])
        if at >= 0:
            return at
    found: list[str] = _SENTENCE.findall(text)
    return _LETTERS.find(found[0]) if len(found) == 1 else UNCLEAR


def _lmms(text: str) -> int:
    labelled = text[:1].isupper() and text[1:2] == "."
    letter = (text[0] if labelled else text).lower()
    return ord(letter) - ord("a") if len(letter) == 1 and "a" <= letter <= "z" else UNCLEAR
