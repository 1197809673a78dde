"""MME: both parsers, and scores of subtasks and groups by hand."""

import math

import numpy as np
import pytest

from evals.datasets.vlm import mme
from evals.errors import DataError
from evals.metrics.answers.given import NO, OTHER, YES
from evals.metrics.answers.mme import COGNITION, PERCEPTION, Marked, Subtask, by_subtask, parse, score, total


@pytest.mark.parametrize(
    ("text", "llava", "lmms"),
    [
        ("Yes", YES, YES),
        ("NO.", NO, NO),
        ("No, it is not", NO, NO),
        ("Yes, no", YES, YES),
        ("Nothing", NO, NO),
        ("I no", NO, NO),
        ("The answer is yes", OTHER, OTHER),
        ("maybe", OTHER, OTHER),
        ("", OTHER, OTHER),
        ("x", OTHER, OTHER),
        ("y", OTHER, YES),
        ("N", OTHER, NO),
        ("y.", OTHER, YES),
        ("1. no", OTHER, NO),
        ("n.o", OTHER, NO),
        ("..yes", OTHER, YES),
    ],
)
def test_both_parsers(text: str, llava: int, lmms: int) -> None:
    """They differ in full stops and in single letters alone."""
    assert (parse(text, "llava"), parse(text, "lmms")) == (llava, lmms)


def _example() -> Marked:
    """OCR: pictures with 2 and 1 right. Count: 0 right, one of the answers OTHER. Code: 2 right."""
    rows = [
        ("yes", "Yes", "OCR", "1"),
        ("yes", "Yes", "count", "1"),
        ("no", "No", "OCR", "1"),
        ("yes", "Yes", "OCR", "2"),
        ("yes", "No", "OCR", "2"),
        ("dunno", "No", "count", "1"),
        ("Yes", "Yes", "code_reasoning", "1"),
        ("No", "No", "code_reasoning", "1"),
    ]
    given, labels, subtasks, pictures = (list(column) for column in zip(*rows, strict=True))
    given[1] = "no"
    return score(given, labels, subtasks, pictures)


def test_pictures_are_pairs_within_a_subtask() -> None:
    """Picture 1 of three subtasks is three pictures, wherever their rows stand."""
    marked = _example()
    assert marked.subtasks == ("OCR", "code_reasoning", "count")
    assert marked.picture_N.tolist() == [0, 1, 0, 2, 2, 1, 3, 3]
    assert [marked.subtasks[at] for at in marked.subtask_P] == ["OCR", "count", "OCR", "code_reasoning"]
    assert marked.right_P.tolist() == [2, 0, 1, 2]


def test_scores_by_hand() -> None:
    """OCR 3 of 4 and 1 of 2 pictures: 75 + 50; count 0; perception 125; code 200, the whole of cognition."""
    marked = _example()
    assert by_subtask(marked) == {
        "OCR": Subtask(75, 50),
        "code_reasoning": Subtask(100, 100),
        "count": Subtask(0, 0),
    }
    assert total(marked, PERCEPTION) == 125
    assert total(marked, COGNITION) == 200


def test_neither_word_is_wrong_and_counted() -> None:
    """The one answer without yes or no."""
    marked = _example()
    assert marked.other == 1
    assert marked.said_N.tolist()[5] == OTHER
    assert not marked.correct_N[5]


def test_everything_right_is_200_a_subtask() -> None:
    """All fourteen subtasks: 2000 for perception, 800 for cognition; always yes: 50 each."""
    subtasks = [name for name in sorted(PERCEPTION | COGNITION) for _ in range(2)]
    labels = ["Yes", "No"] * 14
    perfect = score(labels, labels, subtasks, [0] * 28)
    assert (total(perfect, PERCEPTION), total(perfect, COGNITION)) == (2000, 800)
    constant = score(["yes"] * 28, labels, subtasks, [0] * 28)
    assert (total(constant, PERCEPTION), total(constant, COGNITION)) == (500, 200)


def test_a_group_without_rows_has_no_score() -> None:
    """NaN, not zero."""
    marked = score(["yes", "no"], ["Yes", "No"], ["count", "count"], ["1", "1"])
    assert total(marked, PERCEPTION) == 200
    assert math.isnan(total(marked, COGNITION))


def test_drawn_pictures_are_weighted() -> None:
    """The second OCR picture three times, the first once: 5 of 8 questions, 1 of 4 pictures; count as often as OCR."""
    marked = _example()
    weights = np.array([1, 1, 3, 0])
    assert by_subtask(marked, weights) == {"OCR": Subtask(62.5, 25), "count": Subtask(0, 0)}
    assert total(marked, PERCEPTION, weights) == 87.5
    assert math.isnan(total(marked, COGNITION, weights))


def test_a_subtask_that_was_not_drawn_counts_as_the_others() -> None:
    """Without count, perception is twice the score of OCR."""
    assert total(_example(), PERCEPTION, np.array([1, 0, 1, 2])) == 250


@pytest.mark.parametrize("pictures", [["1", "2"], ["1", "1", "1"]])
def test_pictures_have_two_questions(pictures: list[str]) -> None:
    """One or three are an error that names the picture."""
    labels = ["yes"] * len(pictures)
    with pytest.raises(DataError, match=r"picture 1 of subtask count has [13] questions; expected 2"):
        score(labels, labels, ["count"] * len(pictures), pictures)


def test_groups_are_those_of_the_data() -> None:
    """Fourteen subtasks, ten of them perception, by the names that the reader of the set knows."""
    assert (len(PERCEPTION), len(COGNITION)) == (10, 4)
    assert (set(mme.PUBLISHED_PERCEPTION), set(mme.PUBLISHED_COGNITION)) == (PERCEPTION, COGNITION)


def test_subtasks_are_known() -> None:
    """Another name belongs to neither group, and is not counted into one in silence."""
    with pytest.raises(DataError, match="unknown subtask 'ocr' of MME"):
        score(["yes", "no"], ["yes", "no"], ["ocr", "ocr"], ["1", "1"])
