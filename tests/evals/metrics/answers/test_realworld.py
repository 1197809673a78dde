"""The frozen scorer of RealWorldQA: both rules, where they differ, and every format of the newer one."""

import pytest

from evals.metrics.answers.realworld import before, letter, score, since

CHOICE = "Where does it go?\n\nA. Left\nB. Straight\nC. 25 m.p.h.\nPlease answer directly with only the letter."
OPEN = "How many are there?\nPlease answer directly with a single word or number."


@pytest.mark.parametrize(
    ("text", "question", "answer", "older", "newer"),
    [
        ("A", CHOICE, "A", True, True),
        ("A.", CHOICE, "A", True, True),
        ("(A)", CHOICE, "A", True, True),
        ("A. Left", CHOICE, "A", True, True),
        ("B", CHOICE, "A", False, False),
        ("", CHOICE, "A", False, False),
        ("2", OPEN, "2", True, True),
        ("2.", OPEN, "2", True, True),
        ("Downhill", OPEN, "downhill", True, True),
        ("2 cars", OPEN, "2", False, False),
        # The newer rule does not know the texts of options, nor small letters.
        ("Left", CHOICE, "A", True, False),
        ("It goes Straight on", CHOICE, "B", True, False),
        ("a", CHOICE, "A", True, False),
        # The older rule wants nothing but the letter.
        ("The answer is A", CHOICE, "A", False, True),
        ("A, because it turns", CHOICE, "A", False, True),
        ("Certainly", CHOICE, "C", False, True),
        # Number words were digits once.
        ("two", OPEN, "2", True, False),
        ("Two", OPEN, "2", True, False),
        ("two.", OPEN, "2", False, False),
        # Punctuation within an answer counts since.
        ("1,000", OPEN, "1000", True, False),
        ("'left'", OPEN, "left", True, False),
        # The text of an option goes before the letter beside it.
        ("B. Left", CHOICE, "B", False, True),
        ("left", CHOICE, "A", False, False),
    ],
)
def test_both_rules(text: str, question: str, answer: str, older: bool, newer: bool) -> None:
    """Every kind of answer on which they agree or differ."""
    assert (before(text, question, answer), since(text, answer)) == (older, newer)


def test_options_with_punctuation_are_never_found_before() -> None:
    """The answer loses its points, the option keeps them."""
    assert not before("25 m.p.h.", CHOICE, "C")


def test_options_count_from_a_before() -> None:
    """Their own letters do not matter: the first option is A."""
    assert before("Up", "Which way?\nC. Up\nD. Down", "A")


def test_the_first_option_in_the_answer_wins_before() -> None:
    """Left occurs before Straight in the answer."""
    assert before("Left then Straight", CHOICE, "A")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", "A"),
        ('"A".', "A"),
        ("A or B", "A"),
        ("either A or B", "B"),
        ("A or (B) it is", "A"),
        ("not A: it is (B) here", "B"),
        ("so A. or B: then", "A"),
        ("so A) or B: then", "B"),
        ("so A then B) then", "B"),
        ("my NBA team", "A"),
        ("I pick (A) now; The answer is B surely", "B"),
        ("The answer is B, not (A) there", "A"),
        ("the answer is b", ""),
        ("Downhill", "D"),
        ("xDxC", "C"),
        ("Eight", ""),
        ("A red car", "A"),
        ("Apple", "A"),
        ("xC yB", "B"),
        ("E", ""),
        ("...", ""),
        ("答案是B吧", "B"),
    ],
)
def test_formats_of_a_letter(text: str, expected: str) -> None:
    """Start, end, phrase, brackets, point, colon, bracket, blank, anything; the last place within one format."""
    assert letter(text) == expected


def test_every_sample_has_both() -> None:
    """Blanks around an answer and a reference in small letters change nothing."""
    marked = score([" Left\n", "The answer is A", "two"], [CHOICE, CHOICE, OPEN], ["a", "A", "2"])
    assert marked.before_N.tolist() == [True, False, True]
    assert marked.since_N.tolist() == [False, True, False]
