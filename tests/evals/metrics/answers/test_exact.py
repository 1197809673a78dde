"""Exact match of GQA: what both rules take, and every answer on which they differ."""

import pytest

from evals.metrics.answers.exact import score


@pytest.mark.parametrize(
    ("text", "answer", "llava", "lmms"),
    [
        ("White", "white", True, True),
        ("white.", "white", True, True),
        (" white...\n", "white", True, True),
        ("off white", "white", False, False),
        ("", "white", False, False),
        ("white .", "white", False, False),
        ("white,", "white", False, True),
        ("'white'", "white", False, True),
        ("T-shirt", "tshirt", False, True),
        ("t-shirt", "t-shirt", True, True),
        ("t shirt", "t-shirt", False, False),
        ("white", "White", False, True),
        ("u.s.", "u.s.", False, True),
    ],
)
def test_both_rules(text: str, answer: str, llava: bool, lmms: bool) -> None:
    """LLaVA drops full stops at the end and case, of the answer alone; lmms all punctuation and case, of both."""
    assert score([text], [answer]).tolist() == [llava]
    assert score([text], [answer], "lmms").tolist() == [lmms]


def test_accuracy_is_the_mean() -> None:
    """Two of four."""
    assert score(["yes", "No.", "left", "red"], ["yes", "no", "right", "blue"]).mean() == 0.5
