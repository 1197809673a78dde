"""POPE: yes or no to "is it there?", and what follows from the counts, split by split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.metrics.answers.given import NO, OTHER, YES, Rule, texts, yes_or_no

_DENIALS = frozenset({"No", "no", "not"})


@dataclass(frozen=True, slots=True)
class Said:
    """Labels and answers, sample by sample."""

    said_N: NDArray[np.int8]
    """NO, YES, or (lmms alone) OTHER."""
    label_N: NDArray[np.int8]
    """NO or YES."""
    correct_N: NDArray[np.bool_]
    """OTHER is never right."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a set of questions, and shares in [0, 1]. A share of nothing is NaN: to be left out, never a zero."""

    counts_23: NDArray[np.int64]
    """Label (NO, YES) by what was said (NO, YES, OTHER)."""

    @property
    def accuracy(self) -> float:
        """Of all questions, those answered as labelled."""
        return _share(self.counts_23[NO, NO] + self.counts_23[YES, YES], self.counts_23.sum())

    @property
    def precision(self) -> float:
        """Of the questions answered yes, those labelled so; NaN if none was."""
        return _share(self.counts_23[YES, YES], self.counts_23[:, YES].sum())

    @property
    def recall(self) -> float:
        """Of the questions labelled yes and answered yes or no, those answered yes; 0 if all of these were OTHER.

        That OTHER is no miss is lmms-eval's rule; LLaVA's parser has no OTHER.
        """
        if self.counts_23[YES, :OTHER].sum() == 0 and self.counts_23[YES].sum() > 0:
            return 0.0
        return _share(self.counts_23[YES, YES], self.counts_23[YES, :OTHER].sum())

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if no yes is right; NaN if nothing is labelled or answered yes."""
        hits = self.counts_23[YES, YES]
        if hits == 0 and self.counts_23[YES].sum() > 0:
            return 0.0
        return _share(2 * hits, 2 * hits + self.counts_23[NO, YES] + self.counts_23[YES, NO])

    @property
    def yes_ratio(self) -> float:
        """Of all questions, those *answered* yes (as POPE defines it; lmms-eval counts the labels instead)."""
        return _share(self.counts_23[:, YES].sum(), self.counts_23.sum())

    @property
    def other(self) -> int:
        """Answers that are neither yes nor no."""
        return int(self.counts_23[:, OTHER].sum())


def parse(text: str, rule: Rule) -> int:
    """NO, YES or OTHER, of a stripped answer.

    llava (eval_pope.py): up to the first full stop and without commas, the words No, no or not between blanks deny;
    everything else affirms, an empty answer, "NO", "No!" and "Nothing" included. lmms (0.7.3): the whole answer is
    yes or no, whatever its case; everything else is OTHER.
    """
    if rule == "llava":
        words = text.split(".", maxsplit=1)[0].replace(",", "").split(" ")
        return NO if _DENIALS.intersection(words) else YES
    return {"no": NO, "yes": YES}.get(text.lower(), OTHER)


def score(predictions: Sequence[str | None], answers: Sequence[str], rule: Rule = "llava") -> Said:
    """Parses every answer. Raises ResultsError if one is missing, DataError for a label that is neither yes nor no."""
    given = texts(predictions, answers)
    said_N, label_N = np.array([parse(text, rule) for text in given], dtype=np.int8), yes_or_no(answers)
    return Said(said_N, label_N, said_N == label_N)


def tally(said: Said, weights_N: NDArray[np.int64] | None = None) -> Tally:
    """Counts over all questions (pooled); `weights_N` says how often each counts, in a bootstrap."""
    cells = np.bincount(said.label_N * np.int64(3) + said.said_N, weights_N, minlength=6)
    return Tally(np.rint(cells).astype(np.int64).reshape(2, 3))


def by_split(said: Said, splits: Sequence[str], weights_N: NDArray[np.int64] | None = None) -> Mapping[str, Tally]:
    """The same for each split (random, popular, adversarial), by name. Questions belong to splits by position."""
    names, split_N = np.unique(np.asarray(splits, dtype=str), return_inverse=True)
    weights = np.ones(len(split_N), dtype=np.int64) if weights_N is None else weights_N
    return {str(name): tally(said, weights * (split_N == at)) for at, name in enumerate(names)}


def mean_f1(tallies: Mapping[str, Tally]) -> float:
    """Unweighted mean of the splits' F1, the published headline; NaN if a split has none."""
    return float(np.mean([one.f1 for one in tallies.values()]))


def _share(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else float("nan")
