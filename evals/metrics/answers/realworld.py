"""RealWorldQA: a frozen scorer. The set has no official one, and lmms-eval's changed in its version 0.7.2.

Both of its rules are kept, as they were in 0.1.2 to 0.7.1 (`before`) and in 0.7.2 and 0.7.3 (`since`); their scores
cannot be compared with each other, so every sample is scored by both.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.metrics.answers.exact import bare
from evals.metrics.answers.given import texts

LETTERS = "ABCD"

_OPTION = re.compile(r"\b[A-Z]\.\s+([^\n]*)")
_NUMBERS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip

_EDGES = (",", ".", "!", "?", ";", ":", "'", '"')
"""Stripped from both ends one after another, in this order, each once."""

_FORMATS = ("fallback", "space", "right_paren", "colon", "period", "parentheses", "phrase", "end", "start")
"""How a letter may be given, the least certain first."""

_PHRASES = (
    "the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is", "best answer is",
    "the correct option is", "correct option is", "the best option is", "best option is", "the choice is", "choice is",
    "the correct choice is", "correct choice is", "i choose", "i select", "i pick", "my answer is", "my choice is",
    "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Correct:
    """Whether each answer is right; an accuracy is a mean."""

    before_N: NDArray[np.bool_]
    """By the rule of lmms-eval up to 0.7.1."""
    since_N: NDArray[np.bool_]
    """By its rule since 0.7.2."""


def score(predictions: Sequence[str | None], questions: Sequence[str], answers: Sequence[str]) -> Correct:
    """Scores every answer by both rules; `questions` are the rows' texts, which hold the options.

    Raises ResultsError if an answer is missing.
    """
    given = texts(predictions, questions, answers)
    rows = list(zip(given, questions, answers, strict=True))
    return Correct(
        np.array([before(*row) for row in rows], dtype=np.bool_),
        np.array([since(text, answer) for text, _, answer in rows], dtype=np.bool_),
    )


def before(text: str, question: str, answer: str) -> bool:
    """The older rule, of a stripped answer.

    A number word alone becomes a digit; punctuation is dropped; if the text of an option then occurs anywhere, the
    answer becomes the letter of the first that does (options count A, B, ... whatever letters they have); then equal
    to the reference but for case and punctuation. An option whose own text has punctuation is never found.
    """
    said = re.sub(r"[^\w\s]", "", _NUMBERS.get(text.lower(), text)).strip()
    letters = {option.strip(): chr(ord("A") + at) for at, option in enumerate(_OPTION.findall(question))}
    found = re.search("|".join(map(re.escape, letters)), said)
    return bare(letters.get(found[0], said) if found else said) == bare(answer)


def since(text: str, answer: str) -> bool:
    """The newer rule, of a stripped answer.

    A reference A to D is compared with the letter that `letter` finds; any other with the whole answer, in lower
    case and without full stops at its end. Number words are not digits any more.
    """
    reference = answer.strip()
    if reference.upper() in LETTERS and len(reference) == 1:
        return letter(text) == reference.upper()
    return text.lower().rstrip(".") == reference.lower()


def letter(text: str) -> str:
    """The capital A to D that an answer gives, or nothing: the most certain format, the last place within it.

    Formats from certain to uncertain: the answer starts with the letter; it ends so; a phrase like "the answer is"
    somewhere before it; (A); A. ; A: ; A) ; A before a blank, also at the end of a word; any capital at all.
    """
    text = text.strip()
    for mark in _EDGES:
        text = text.strip(mark)
    candidates = list(_candidates(text)) or [("fallback", text.rfind(name), name) for name in LETTERS if name in text]
    return max(candidates, key=lambda found: (_FORMATS.index(found[0]), found[1]))[2] if candidates else ""


def _candidates(text: str) -> Iterator[tuple[str, int, str]]:
    """Format, place and letter of everything that may be meant."""
    padded, trimmed = f" {text} ", text.strip()
    lower = padded.lower()
    starts = [lower.find(phrase) + len(phrase) for phrase in _PHRASES if phrase in lower]
    for name in LETTERS:
        shapes = {"parentheses": f"({name})", "period": f"{name}.", "colon": f"{name}:", "right_paren": f"{name})"}
        for kind, shape in {**shapes, "space": f"{name} "}.items():
            if shape in padded:
                yield kind, padded.rfind(shape), name
        for after in starts:
            if name in padded[after:]:
                yield "phrase", padded.find(name, after), name
        if trimmed.startswith(name) and not trimmed[1:2].isalpha():
            yield "start", 0, name
        if trimmed.endswith(name) and not trimmed[-2:-1].isalpha():
            yield "end", len(padded) - 1, name
