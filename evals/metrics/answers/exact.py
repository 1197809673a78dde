"""GQA: whether an answer is the reference, by the rules of LLaVA and of lmms-eval."""

import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evals.metrics.answers.given import Rule, texts

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score(predictions: Sequence[str | None], answers: Sequence[str], rule: Rule = "llava") -> NDArray[np.bool_]:
    """Whether each answer is right, shape [N]; the accuracy is the mean.

    llava (convert_gqa_for_eval.py and GQA's evaluation): full stops at the end dropped and lower case, then equal to
    the reference as it is. lmms (0.7.3): equal after lower case and without any ASCII punctuation, on both sides.
    Raises ResultsError if an answer is missing.
    """
    given = texts(predictions, answers)
    pairs = zip(given, answers, strict=True)
    if rule == "llava":
        return np.array([text.rstrip(".").lower() == answer for text, answer in pairs], dtype=np.bool_)
    return np.array([bare(text) == bare(answer) for text, answer in pairs], dtype=np.bool_)


def bare(text: str) -> str:
    """Lower case, without ASCII punctuation, blanks kept: what lmms-eval's exact match compares."""
    return text.lower().translate(_NO_PUNCTUATION)
