"""The prompts, byte for byte."""

from collections.abc import Callable
from typing import Any

import pytest

from evals.errors import DataError
from evals.vlm import questions

SHORT = "\nAnswer the question using a single word or phrase."
TEXT = {"question": "what Brand is It?", "ocr_tokens": ["NOKIA", "7:45", "No, entry"]}


def test_textvqa_with_tokens() -> None:
    """The published headline: the question as it is, tokens joined by comma and blank, whatever they hold."""
    expected = f"what Brand is It?\nReference OCR token: NOKIA, 7:45, No, entry{SHORT}"
    assert questions.textvqa(TEXT) == expected
    assert questions.textvqa(TEXT, ocr=True, protocol="llava") == expected


def test_textvqa_without_tokens() -> None:
    """Question and instruction; the row needs no tokens then."""
    assert questions.textvqa(TEXT, ocr=False) == f"what Brand is It?{SHORT}"
    assert questions.textvqa({"question": "what?"}, ocr=False) == f"what?{SHORT}"


def test_textvqa_of_a_picture_without_text() -> None:
    """The line of tokens stays, with a blank at its end."""
    row = {"question": "what?", "ocr_tokens": []}
    assert questions.textvqa(row) == f"what?\nReference OCR token: {SHORT}"


def test_textvqa_of_lmms() -> None:
    """The first letter is a capital, and no other."""
    assert questions.textvqa(TEXT, ocr=False, protocol="lmms") == f"What brand is it?{SHORT}"
    assert questions.textvqa(TEXT, protocol="lmms").startswith("What brand is it?\nReference OCR token: NOKIA, ")


@pytest.mark.parametrize(("hint", "context"), [("", ""), (None, ""), ("Look at it.", "Context: Look at it.\n")])
def test_scienceqa(hint: str | None, context: str) -> None:
    """The context line is there only where the row has a hint."""
    row = {"question": "Which is it?", "choices": ["a dog", "a cat", "neither"], "hint": hint}
    expected = (
        f"{context}Which is it?\nA. a dog\nB. a cat\nC. neither\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert questions.scienceqa(row) == expected


def test_realworldqa() -> None:
    """The row's own text, without blanks around it."""
    text = "Where?\n\nA. Left\nB. Right\nPlease answer directly with only the letter of the correct option."
    assert questions.realworldqa({"question": f"{text}\n"}) == text


def test_pope_and_gqa() -> None:
    """Question and instruction."""
    assert questions.pope({"question": "Is there a car in the image?"}) == f"Is there a car in the image?{SHORT}"
    assert questions.gqa({"question": "What colour is it?"}) == f"What colour is it?{SHORT}"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is it red? Please answer yes or no.", "Is it red?"),
        ("Is it red?  Please answer yes or no.", "Is it red? "),
        ("Is it red?", "Is it red?"),
    ],
)
def test_mme(question: str, expected: str) -> None:
    """The set's own request gives way to the instruction; of two blanks before it one stays."""
    assert questions.mme({"question": question}) == f"{expected}{SHORT}"


@pytest.mark.parametrize(
    ("ask", "row", "field"),
    [
        (questions.textvqa, {"question": "what?"}, "ocr_tokens"),
        (questions.textvqa, {"ocr_tokens": []}, "question"),
        (questions.scienceqa, {"question": "what?", "choices": ["a", "b"]}, "hint"),
        (questions.scienceqa, {"question": "what?", "hint": ""}, "choices"),
        (questions.realworldqa, {"answer": "A"}, "question"),
        (questions.pope, {"answer": "yes"}, "question"),
        (questions.gqa, {"answer": "yes"}, "question"),
        (questions.mme, {"answer": "yes"}, "question"),
    ],
)
def test_missing_fields_are_named(ask: Callable[[dict[str, Any]], str], row: dict[str, Any], field: str) -> None:
    """A clear error, for every set."""
    with pytest.raises(DataError, match=f"no field '{field}'"):
        ask(row)


def test_fields_of_another_kind_are_named() -> None:
    """A question that is no text, tokens that are one text instead of a list."""
    with pytest.raises(DataError, match="field 'question' of a question: expected text, got None"):
        questions.gqa({"question": None})
    with pytest.raises(DataError, match="field 'ocr_tokens' of a question: expected a list of texts, got 'NOKIA'"):
        questions.textvqa({"question": "what?", "ocr_tokens": "NOKIA"})
