"""A missing answer is an error in every scorer, never a zero."""

from collections.abc import Callable, Sequence

import pytest

from evals.errors import DataError, ResultsError
from evals.metrics.answers import choices, exact, mme, presence, realworld, textvqa
from evals.metrics.answers.given import NO, YES, texts, yes_or_no

Answers = Sequence[str | None]

SCORERS: dict[str, Callable[[Answers], object]] = {
    "textvqa": lambda given: textvqa.score(given, [["red"] * 10] * 2),
    "choices": lambda given: choices.score(given, [2, 2], [0, 1]),
    "presence": lambda given: presence.score(given, ["yes", "no"]),
    "exact": lambda given: exact.score(given, ["red", "blue"]),
    "mme": lambda given: mme.score(given, ["Yes", "No"], ["count", "count"], ["1", "1"]),
    "realworld": lambda given: realworld.score(given, ["Where?", "How?"], ["A", "2"]),
}


@pytest.mark.parametrize("name", SCORERS)
def test_no_answer_is_an_error(name: str) -> None:
    """None stops the scoring, and the message says which question it is."""
    with pytest.raises(ResultsError, match="1 of 2 answers are missing, the first at question 1"):
        SCORERS[name](["A", None])


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("given", [["A"], ["A", "B", "C"]])
def test_as_many_answers_as_questions(name: str, given: list[str]) -> None:
    """Fewer or more answers than questions are never paired in silence."""
    with pytest.raises(ResultsError, match=f"{len(given)} answers for 2 questions"):
        SCORERS[name](given)


@pytest.mark.parametrize("name", SCORERS)
def test_an_empty_text_is_an_answer(name: str) -> None:
    """A model that says nothing is scored."""
    assert SCORERS[name](["", " \n"]) is not None


def test_surrounding_blanks_go() -> None:
    """Line ends and blanks at both ends, none within."""
    assert texts([" a  b\n", "\t"], [1, 2]) == ["a  b", ""]


def test_labels() -> None:
    """Case, blanks and a full stop do not matter; anything else names its question."""
    assert yes_or_no(["Yes", " no\n", "No.", "YES"]).tolist() == [YES, NO, NO, YES]
    with pytest.raises(DataError, match="question 1: expected the answer yes or no, got 'maybe'"):
        yes_or_no(["yes", "maybe"])
