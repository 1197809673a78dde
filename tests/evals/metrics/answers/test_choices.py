"""Parsers of ScienceQA: what both take, and every answer on which they differ."""

import pytest

from evals.errors import DataError
from evals.metrics.answers.choices import UNCLEAR, parse, score

A, B = 0, 1


@pytest.mark.parametrize(
    ("text", "llava", "lmms"),
    [
        ("B", B, B),
        ("B. a dog", B, B),
        ("A. The answer is B.", A, A),
        ("", UNCLEAR, UNCLEAR),
        ("a dog", UNCLEAR, UNCLEAR),
        ("(B)", UNCLEAR, UNCLEAR),
        ("B) a dog", UNCLEAR, UNCLEAR),
        ("E", UNCLEAR, UNCLEAR),
        ("E. a dog", UNCLEAR, UNCLEAR),
        ("1", UNCLEAR, UNCLEAR),
        ("b. a dog", UNCLEAR, UNCLEAR),
    ],
)
def test_where_both_agree(text: str, llava: int, lmms: int) -> None:
    """Of a question with four choices: letters, labels, nothing, other shapes, a letter beyond the choices."""
    assert (parse(text, 4, "llava"), parse(text, 4, "lmms")) == (llava, lmms)


@pytest.mark.parametrize(
    ("text", "llava", "lmms"),
    [
        ("b", UNCLEAR, B),
        ("B.", UNCLEAR, B),
        ("B.dog", UNCLEAR, B),
        ("The answer is B.", B, UNCLEAR),
        ("I think so. The answer is B, of course", B, UNCLEAR),
        ("F. The answer is B.", B, UNCLEAR),
    ],
)
def test_where_they_differ(text: str, llava: int, lmms: int) -> None:
    """Small letters and a label at the end are lmms' alone; the sentence is LLaVA's alone."""
    assert (parse(text, 4, "llava"), parse(text, 4, "lmms")) == (llava, lmms)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is B", UNCLEAR),
        ("The answer is B\nbecause", UNCLEAR),
        ("The answer is Bees", B),
        ("The answer is A. No, The answer is B.", UNCLEAR),
        ("The answer is B. The answer is B.", UNCLEAR),
        ("The answer is Z.", UNCLEAR),
        ("the answer is B.", UNCLEAR),
    ],
)
def test_the_sentence_of_llava(text: str, expected: int) -> None:
    """Its full stop stands for any character, which has to be there; the sentence has to be the only one."""
    assert parse(text, 4, "llava") == expected


def test_blanks_around_an_answer_do_not_matter_but_may_cost_a_label() -> None:
    """Stripped first, "B. " is "B.", which LLaVA's parser does not take."""
    assert score([" B\n"], [4], [B]).correct_N.tolist() == [True]
    assert score(["B. "], [4], [B]).correct_N.tolist() == [False]
    assert score(["B. "], [4], [B], "lmms").correct_N.tolist() == [True]


def test_accuracy_by_hand() -> None:
    """Right, wrong, unclear, a letter the question does not have: one of four."""
    marked = score(["A", "A", "dog", "C"], [2, 2, 3, 2], [A, B, B, A])
    assert marked.chosen_N.tolist() == [A, A, UNCLEAR, UNCLEAR]
    assert marked.correct_N.mean() == 0.25


@pytest.mark.parametrize("right", [-1, 2])
def test_the_right_choice_is_one_of_them(right: int) -> None:
    """A reference that no answer could match is an error of the data."""
    with pytest.raises(DataError, match=f"question 0: choice {right}"):
        score(["A"], [2], [right])
