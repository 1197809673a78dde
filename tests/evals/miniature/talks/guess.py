"""The best guess of an answer from the text of a question alone."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict

Pair = tuple[str, str]
"""Question and answer."""

_INSTRUCTION = re.compile(r"\n+(Answer|Please|Reference).*", re.DOTALL)


def lessons(root: Path) -> list[Pair]:
    """What the conversations of a world teach."""
    return lines(json.loads((root / "llava" / "llava_v1_5_mix665k.json").read_text()))


def lines(records: Sequence[dict[str, Any]]) -> list[Pair]:
    """Questions and answers of conversations, without markers and instructions."""
    pairs = []
    for record in records:
        said = [turn["value"] for turn in record["conversations"]]
        pairs += [(plain(q.removeprefix("<image>\n")), a.lower()) for q, a in zip(said[::2], said[1::2], strict=True)]
    return pairs


def plain(question: str) -> str:
    """The question without the instruction after it, and without MME's request."""
    return _INSTRUCTION.sub("", question).removesuffix(" Please answer yes or no.")


def _common(pairs: Iterable[Pair]) -> tuple[dict[str, str], str]:
    """The commonest answer to each question, and to any."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question, answer in pairs:
        counts[question][answer] += 1
    total = sum(counts.values(), Counter())
    return {question: found.most_common(1)[0][0] for question, found in counts.items()}, total.most_common(1)[0][0]


def learnt(taught: Sequence[Pair], asked: Sequence[Pair]) -> float:
    """Accuracy of what was most often the answer to the same question among the lessons."""
    known, common = _common(taught)
    return float(np.mean([known.get(question, common) == answer for question, answer in asked]))


def constant(asked: Sequence[Pair]) -> float:
    """Accuracy of always giving the same answer."""
    return Counter(answer for _, answer in asked).most_common(1)[0][1] / len(asked)


def fitted(asked: Sequence[Pair]) -> float:
    """Accuracy of a linear classifier of words and pairs of words, each question answered by one fitted to others."""
    texts, answers = zip(*asked, strict=True)
    counts = Counter(answers)
    rare = np.array([counts[answer] < 3 for answer in answers])
    if len(counts) == 1:
        return 1.0
    x = CountVectorizer(ngram_range=(1, 2), binary=True, token_pattern=r"[^\s]+").fit_transform(texts)
    y = np.array([("rare" if few else answer) for few, answer in zip(rare, answers, strict=True)])
    folds = KFold(3, shuffle=True, random_state=0)
    guesses = cross_val_predict(LogisticRegression(max_iter=2000, C=1.0), x, y, cv=folds)
    return float(np.mean((guesses == y) & ~rare))


def best(taught: Sequence[Pair], asked: Sequence[Pair]) -> float:
    """The largest of all guesses."""
    return max(learnt(taught, asked), constant(asked), fitted(asked))
