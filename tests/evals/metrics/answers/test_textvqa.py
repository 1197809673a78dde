"""The normaliser's rules and quirks one by one, and soft accuracies counted by hand."""

import numpy as np
import pytest

from evals.errors import DataError
from evals.metrics.answers.textvqa import normalise, score


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("STOP", "stop"),
        ("  Coca-Cola ", "coca cola"),
        ("one\ttwo\nthree", "1 2 3"),
        ("Ten of none, zero", "10 of 0 0"),
        ("eleven", "eleven"),
        ("The cat and a dog, an owl", "cat and dog owl"),
        ("dont", "don't"),
        ("couldntve couldnt've couldn'tve", "couldntve couldn't've couldn't've"),
        ("yall'd've y'alld've y'all'dve oclock twas", "y'all'd've y'all'd've y'all'd've o'clock 'twas"),
        ("", ""),
        ("the", ""),
    ],
)
def test_ordinary_rules(text: str, expected: str) -> None:
    """Case, blanks, number words, articles, contractions with exactly one apostrophe left out."""
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,000", "1000"),
        ("red, white", "red white"),
        ("what?now", "whatnow"),
    ],
)
def test_commas_and_question_marks_leave_nothing(text: str, expected: str) -> None:
    """They are deleted first, never replaced by a blank, not even between words."""
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x-y", "x y"),
        ("x -y", "x y"),
        ("a-b c- d", "ab c d"),
        ("10:30", "10:30"),
        ('"stop"', "stop"),
        ("(a)b", "b"),
        ("a/b@c", "b c"),
        ("it is $5 & 20%!", "it is $5 & 20%"),
    ],
)
def test_a_mark_beside_a_blank_vanishes_everywhere(text: str, expected: str) -> None:
    """One blank beside a mark decides for all marks of that kind; else each becomes a blank. : $ % & and ' stay."""
    assert normalise(text) == expected


def test_possessives_are_split_off() -> None:
    """A blank goes before every 's, so that "let's" and "she's" of the contraction list are never met."""
    assert normalise("McDonald's") == "mcdonald 's"
    assert normalise("let's") == "let 's"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u.s.a.", "usa"),
        ("3.5", "3.5"),
        ("5.", "5"),
        ("v.2", "v.2"),
        ("3.a", "3a"),
        (".com", "com"),
    ],
)
def test_full_stops_fall_unless_a_digit_follows(text: str, expected: str) -> None:
    """What stands before does not matter: the public look-behind is malformed, so "3.a" loses its stop."""
    assert normalise(text) == expected


def test_at_most_32_full_stops_fall() -> None:
    """The public call passes a flag of value 32 as the number of replacements."""
    assert normalise("." * 40) == "." * 8


def test_capital_contractions_of_the_list_are_never_met() -> None:
    """The answer is in lower case by then, so "Im" stays "im"; and one entry is the wrong way round."""
    assert normalise("Im Ive") == "im ive"
    assert normalise("somebody'd somebodyd") == "somebodyd somebodyd"


def test_articles_fall_before_contractions_and_after_number_words() -> None:
    """An article made by punctuation falls too."""
    assert normalise("a-one") == "1"


@pytest.mark.parametrize(("equal", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_soft_accuracy_by_hand(equal: int, expected: float) -> None:
    """Of ten left-out references, e.g. two equal: both see one (1/3), eight see two (2/3): (2/3 + 16/3) / 10."""
    references = ["stop"] * equal + [f"other {chr(ord('k') + at)}" for at in range(10 - equal)]
    assert score(["Stop."], [references]).tolist() == [expected]


@pytest.mark.parametrize("seed", range(5))
def test_soft_accuracy_as_it_is_defined(seed: int) -> None:
    """Leaving each reference out in turn and counting the others gives the same numbers."""
    generator = np.random.default_rng(seed)
    words = np.array(["stop", "STOP", "the stop", "two", "2", "go"])
    references = [[str(word) for word in generator.choice(words, 10)] for _ in range(30)]
    given = [str(word) for word in generator.choice(words, 30)]
    expected = []
    for text, answers in zip(given, references, strict=True):
        plain = [normalise(answer) for answer in answers]
        others = [plain[:left] + plain[left + 1 :] for left in range(10)]
        expected.append(np.mean([min(1, rest.count(normalise(text)) / 3) for rest in others]))
    ours = score(given, references)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_references_are_normalised_too() -> None:
    """Four spellings of one answer agree."""
    assert score(["two"], [["2", "Two", "the two", "two.", *"bcdefg"]]).tolist() == [1]


def test_an_empty_answer_equals_an_empty_reference() -> None:
    """A quirk: references that are articles alone normalise to nothing, and so does silence."""
    assert score(["", ""], [["a"] * 10, ["b"] * 10]).tolist() == [1, 0]


def test_ten_references_or_none() -> None:
    """The formula is that of ten references."""
    with pytest.raises(DataError, match="question 1: expected 10 references, got 9"):
        score(["a", "b"], [["a"] * 10, ["b"] * 9])
