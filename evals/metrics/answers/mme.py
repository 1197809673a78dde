"""MME: two yes-or-no questions about each picture, accuracy and accuracy+ of each subtask, totals of both groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.errors import DataError
from evals.metrics.answers.given import NO, OTHER, YES, Rule, texts, yes_or_no

PERCEPTION = frozenset(
    {"existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"}
)
COGNITION = frozenset({"commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"})
"""Subtasks of the two groups (MME, arXiv 2306.13394). Which of them count is derived from the rows."""

PER_PICTURE = 2
"""Questions about a picture of a subtask: the answer to one is yes, to the other no."""


@dataclass(frozen=True, slots=True)
class Subtask:
    """Shares in percent; their sum is the subtask's score, 200 at most."""

    accuracy: float
    """Of its questions, those answered right."""
    accuracy_plus: float
    """Of its pictures, those with both questions answered right."""

    @property
    def score(self) -> float:
        """The sum of both."""
        return self.accuracy + self.accuracy_plus


@dataclass(frozen=True, slots=True)
class Marked:
    """Answers to N questions about P pictures. A picture that occurs in two subtasks is two pictures."""

    said_N: NDArray[np.int8]
    """NO, YES or OTHER; OTHER is wrong."""
    correct_N: NDArray[np.bool_]
    picture_N: NDArray[np.int64]
    """Picture of each question; pictures are in the order of their first question."""
    subtask_P: NDArray[np.int64]
    """Index into `subtasks`."""
    subtasks: tuple[str, ...]
    """Those of the rows, sorted."""
    right_P: NDArray[np.int64]
    """Questions answered right about each picture, 0 to 2."""

    @property
    def other(self) -> int:
        """Answers that are neither yes nor no."""
        return int((self.said_N == OTHER).sum())


def parse(text: str, rule: Rule) -> int:
    """NO, YES or OTHER, of a stripped answer; yes goes before no among the first four characters.

    llava (MME's own tool, to which LLaVA hands its answers): yes, or no, anywhere in the first four characters in
    lower case. lmms (0.7.3): the same without full stops, and "y" or "n" alone count too.
    """
    said = text.lower() if rule == "llava" else text.lower().replace(".", "")
    if rule == "lmms" and said in ("y", "n"):
        return YES if said == "y" else NO
    start = said[:4]
    return YES if "yes" in start else NO if "no" in start else OTHER


def score(
    predictions: Sequence[str | None],
    answers: Sequence[str],
    subtasks: Sequence[str],
    pictures: Sequence[str | int],
    rule: Rule = "llava",
) -> Marked:
    """Marks each answer. `subtasks` are the rows' categories, `pictures` their question_ids.

    Raises ResultsError if an answer is missing, DataError for a label that is neither yes nor no, a subtask that MME
    does not have, or a picture with one or more than two questions in a subtask.
    """
    given = texts(predictions, answers, subtasks, pictures)
    picture_N, subtask_of = _pictures(subtasks, pictures)
    names, subtask_P = np.unique(np.asarray(subtask_of, dtype=str), return_inverse=True)
    said_N = np.array([parse(text, rule) for text in given], dtype=np.int8)
    correct_N = said_N == yes_or_no(answers)
    right_P = np.bincount(picture_N, correct_N).astype(np.int64)
    return Marked(said_N, correct_N, picture_N, subtask_P, tuple(map(str, names)), right_P)


def _pictures(subtasks: Sequence[str], pictures: Sequence[str | int]) -> tuple[NDArray[np.int64], list[str]]:
    """The number of each question's picture, and the subtask of each picture."""
    unknown = sorted(set(subtasks) - PERCEPTION - COGNITION)
    if unknown:
        known = ", ".join(sorted(PERCEPTION | COGNITION))
        raise DataError(f"unknown subtask {unknown[0]!r} of MME; expected one of {known}. Obtain the set again.")
    keys = list(zip(subtasks, pictures, strict=True))
    number = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    picture_N = np.array([number[key] for key in keys], dtype=np.int64)
    for (subtask, picture), count in zip(number, np.bincount(picture_N), strict=True):
        if count != PER_PICTURE:
            raise DataError(
                f"picture {picture} of subtask {subtask} has {count} questions; expected {PER_PICTURE}. "
                "Keep pairs together, or obtain the set again."
            )
    return picture_N, [subtask for subtask, _ in number]


def by_subtask(marked: Marked, weights_P: NDArray[np.int64] | None = None) -> Mapping[str, Subtask]:
    """Accuracy and accuracy+ of each subtask; one of which no picture was drawn is left out.

    `weights_P` says how often each picture counts, in a bootstrap over pictures.
    """
    weights = np.ones(len(marked.subtask_P), dtype=np.int64) if weights_P is None else weights_P
    count = len(marked.subtasks)
    drawn = np.bincount(marked.subtask_P, weights, minlength=count)
    right = np.bincount(marked.subtask_P, weights * marked.right_P, minlength=count)
    both = np.bincount(marked.subtask_P, weights * (marked.right_P == PER_PICTURE), minlength=count)
    return {
        name: Subtask(100 * float(right[at] / (PER_PICTURE * drawn[at])), 100 * float(both[at] / drawn[at]))
        for at, name in enumerate(marked.subtasks)
        if drawn[at]
    }


def total(marked: Marked, group: frozenset[str], weights_P: NDArray[np.int64] | None = None) -> float:
    """Sum of the scores of the group's subtasks in the rows: 200 each at most, 2000 for perception as published.

    A subtask of which a resample drew no picture counts as the mean of the others, so that totals stay comparable.
    NaN if the rows have no subtask of the group, or none of it was drawn.
    """
    present = [name for name in marked.subtasks if name in group]
    subtasks = by_subtask(marked, weights_P)
    scores = [subtasks[name].score for name in present if name in subtasks]
    return float(np.mean(scores)) * len(present) if scores else float("nan")
