"""TextVQA: soft accuracy over ten references after the normaliser of the VQA challenge (EvalAI).

The public normaliser (in MMF, and unchanged in LLaVA's evaluator and in lmms-eval) has quirks that move scores; they
are kept, and named below. LLaVA and lmms-eval differ in their prompts for this set, not in its scoring.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evals.errors import DataError
from evals.metrics.answers.given import texts

REFERENCES = 10
"""Human answers of a question; LLaVA's evaluator refuses any other number."""

_ENOUGH = 3
"""Equal references, of the other nine, that make an answer fully right."""

_PUNCTUATION = ';/[]"{}()=+\\_-><@`!'
"""The public list also holds the comma and the question mark, which are gone before it is used."""

_FULL_STOP = re.compile(r"\.(?!\d)")
"""The public pattern means to spare full stops *after* digits too, but its look-behind is malformed and never fails."""

_STOPS_AT_MOST = 32
"""Full stops that are deleted: the public code passes the flag re.UNICODE, 32, where a count is expected."""

_ARTICLES = frozenset({"a", "an", "the"})

_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip

_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
"""Those of the public list that a lower-case word can reach; of "I'm" and its like the list knows only "Im"."""


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'"]


_EXPANDED = {short: word for word in _CONTRACTIONS.split() for short in _without_one_apostrophe(word)}
_EXPANDED["somebody'd"] = "somebodyd"  # the wrong way round in the public list, and so here


def normalise(text: str) -> str:
    """An answer as the challenge compares it.

    In this order: lower case; commas and question marks deleted; a blank before every 's; punctuation deleted where
    that mark stands next to a blank anywhere in the answer, else replaced by a blank; full stops not before a digit
    deleted; number words up to ten as digits; articles dropped; apostrophes put back into contractions.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    words = [_NUMBERS.get(word, word) for word in _unpunctuated(text).split()]
    return " ".join(_EXPANDED.get(word, word) for word in words if word not in _ARTICLES)


def _unpunctuated(text: str) -> str:
    result = text
    for mark in _PUNCTUATION:
        beside_a_blank = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if beside_a_blank else " ")
    return _FULL_STOP.sub("", result, count=_STOPS_AT_MOST)


def score(predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Soft accuracy of each answer in [0, 1], shape [N]: the mean over references of min(1, equal among others / 3).

    Raises ResultsError if an answer is missing, DataError if a question has not ten references.
    """
    given = texts(predictions, references)
    return np.array([_one(text, answers, at) for at, (text, answers) in enumerate(zip(given, references, strict=True))])


def _one(text: str, references: Sequence[str], at: int) -> float:
    if len(references) != REFERENCES:
        raise DataError(
            f"question {at}: expected {REFERENCES} references, got {len(references)}. Obtain the set again."
        )
    said = normalise(text)
    equal = sum(normalise(reference) == said for reference in references)
    # Leaving one out: each equal reference sees the other equal ones, each different reference sees all of them.
    thirds = equal * min(_ENOUGH, equal - 1) + (REFERENCES - equal) * min(_ENOUGH, equal)
    return thirds / (_ENOUGH * REFERENCES)
