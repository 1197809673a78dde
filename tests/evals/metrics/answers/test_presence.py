"""POPE: both parsers, and measures by hand and against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn import metrics

from evals.metrics.answers.given import NO, OTHER, YES
from evals.metrics.answers.presence import Tally, by_split, mean_f1, parse, score, tally


@pytest.mark.parametrize(
    ("text", "llava", "lmms"),
    [
        ("Yes", YES, YES),
        ("no", NO, NO),
        ("No", NO, NO),
        ("NO", YES, NO),
        ("YES", YES, YES),
        ("Yes.", YES, OTHER),
        ("No.", NO, OTHER),
        ("No, there is none", NO, OTHER),
        ("There is not", NO, OTHER),
        ("There isn't", YES, OTHER),
        ("Yes. No", YES, OTHER),
        ("Well. No", YES, OTHER),
        (". no", YES, OTHER),
        ("No!", YES, OTHER),
        ("no\nreally", YES, OTHER),
        ("Nothing", YES, OTHER),
        ("maybe", YES, OTHER),
        ("", YES, OTHER),
        ("yes and no", NO, OTHER),
    ],
)
def test_both_parsers(text: str, llava: int, lmms: int) -> None:
    """LLaVA affirms unless No, no or not stands in the first sentence; lmms takes the bare word alone."""
    assert (parse(text, "llava"), parse(text, "lmms")) == (llava, lmms)


def test_measures_by_hand() -> None:
    """Two hits, one false alarm, one miss, two rejections: 4/6 right, P = R = F1 = 2/3, three of six yes."""
    said = score(["Yes", "yes", "yes", "no", "no", "No"], ["yes", "yes", "no", "yes", "no", "no"])
    assert said.correct_N.tolist() == [True, True, False, False, True, True]
    result = tally(said)
    assert result.counts_23.tolist() == [[2, 1, 0], [1, 2, 0]]
    assert (result.accuracy, result.yes_ratio, result.other) == (4 / 6, 0.5, 0)
    assert (result.precision, result.recall, result.f1) == (2 / 3, 2 / 3, 2 / 3)


@pytest.mark.parametrize("seed", range(4))
def test_measures_against_scikit_learn(seed: int) -> None:
    """Random answers without OTHER."""
    generator = np.random.default_rng(seed)
    given, labels = (generator.choice(["yes", "no"], 50, p=[0.7, 0.3]).tolist() for _ in range(2))
    result = tally(score(given, labels))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(labels, given, pos_label="yes", average="binary")
    assert (result.precision, result.recall, result.f1) == pytest.approx((precision, recall, f1))
    assert result.accuracy == pytest.approx(metrics.accuracy_score(labels, given))
    assert result.yes_ratio == given.count("yes") / 50


def test_yes_ratio_counts_answers_and_not_labels() -> None:
    """All answers are yes, half of the labels: the ratio is 1 (lmms-eval's own would be one half)."""
    said = score(["yes"] * 4, ["yes", "yes", "no", "no"], "lmms")
    assert tally(said).yes_ratio == 1
    assert said.label_N.mean() == 0.5


def test_other_is_wrong_but_no_miss() -> None:
    """By the rule of lmms: of two yes-labels one is hit, the other got OTHER: accuracy 1/3 with a third, recall 1."""
    given, labels = ["yes", "Yes, it is", "Yes."], ["yes", "yes", "no"]
    strict, lenient = tally(score(given, labels, "lmms")), tally(score(given, labels, "llava"))
    assert (strict.accuracy, strict.precision, strict.recall, strict.f1, strict.other) == (1 / 3, 1, 1, 1, 2)
    assert (lenient.accuracy, lenient.recall, lenient.f1, lenient.other) == (2 / 3, 1, 0.8, 0)


def test_shares_of_nothing_are_not_zero() -> None:
    """Never yes: no precision, but an F1 of 0. No label yes and never yes: no F1 either. No question: nothing."""
    never = tally(score(["no", "no"], ["yes", "no"]))
    assert math.isnan(never.precision)
    assert (never.recall, never.f1, never.accuracy) == (0, 0, 0.5)
    none = tally(score(["no"], ["no"]))
    assert math.isnan(none.recall)
    assert math.isnan(none.f1)
    assert none.accuracy == 1
    empty = Tally(np.zeros((2, 3), dtype=np.int64))
    assert math.isnan(empty.accuracy)
    assert math.isnan(empty.yes_ratio)


def test_nothing_but_other_finds_nothing() -> None:
    """An F1 and a recall of 0 where yes was right and neither word was ever said."""
    result = tally(score(["perhaps", "so"], ["yes", "no"], "lmms"))
    assert (result.accuracy, result.recall, result.f1) == (0, 0, 0)
    assert math.isnan(result.precision)


def test_mean_of_splits_is_not_the_pooled_score() -> None:
    """Split one: 1 hit, F1 1. Split two: 1 hit, 2 false alarms, F1 0.5. Mean 0.75, pooled 4/6."""
    said = score(["yes", "yes", "yes", "yes"], ["yes", "no", "yes", "no"])
    parts = by_split(said, ["random", "popular", "popular", "popular"])
    assert {name: part.f1 for name, part in parts.items()} == {"popular": 0.5, "random": 1}
    assert mean_f1(parts) == 0.75
    assert tally(said).f1 == pytest.approx(4 / 6)


def test_drawn_twice_counts_twice() -> None:
    """Weights of a bootstrap equal the questions written out as often."""
    given, labels, splits = ["yes", "no", "yes"], ["yes", "yes", "no"], ["a", "a", "b"]
    weights = np.array([2, 0, 3])
    drawn = np.repeat(np.arange(3), weights)
    written = score([given[at] for at in drawn], [labels[at] for at in drawn])
    ours = by_split(score(given, labels), splits, weights)
    theirs = by_split(written, [splits[at] for at in drawn])
    assert ours.keys() == theirs.keys()
    for name, part in theirs.items():
        assert np.array_equal(ours[name].counts_23, part.counts_23)
    assert np.array_equal(tally(score(given, labels), weights).counts_23, tally(written).counts_23)
