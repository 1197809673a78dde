"""Conversations become the text of LLaVA-1.5, byte for byte."""

from collections.abc import Sequence

import pytest

from evals.datasets.llava import Turn
from evals.errors import DataError
from evals.vlm.conversation import EndMark, ImageMark, Part, Piece, pieces, prompt

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)


def turns(*texts: str) -> list[Turn]:
    """Question and answer in turn."""
    return [Turn("gpt" if index % 2 else "human", text) for index, text in enumerate(texts)]


def written(parts: Sequence[Part]) -> str:
    """The text as LLaVA writes it."""
    return "".join(
        part.text if isinstance(part, Piece) else "<image>" if isinstance(part, ImageMark) else "</s>" for part in parts
    )


def learned(parts: Sequence[Part]) -> list[str]:
    """What is supervised."""
    return [written([part]) for part in parts if not isinstance(part, ImageMark) and part.supervised]


def test_plain_discards_the_question() -> None:
    """The picture, the caption, a new line; the caption and the new line are learned."""
    parts = pieces(turns("Say briefly what is shown.\n<image>", "a red bicycle"), True, "plain")
    assert written(parts) == "<image>a red bicycle\n"
    assert learned(parts) == ["a red bicycle\n"]


def test_one_round() -> None:
    """System sentence, one blank, question with the picture in front, answer, end."""
    parts = pieces(turns("<image>\nWhat colour is it?", "Red"), True, "v1")
    assert written(parts) == f"{SYSTEM} USER: <image>\nWhat colour is it? ASSISTANT: Red</s>"
    assert learned(parts) == [" Red", "</s>"]


def test_no_blank_stands_after_an_end() -> None:
    """Three rounds follow each other directly."""
    parts = pieces(turns("<image>\nA?", "a", "B?", "b", "C?", "c d"), True, "v1")
    assert written(parts) == (
        f"{SYSTEM} USER: <image>\nA? ASSISTANT: a</s>USER: B? ASSISTANT: b</s>USER: C? ASSISTANT: c d</s>"
    )
    assert learned(parts) == [" a", "</s>", " b", "</s>", " c d", "</s>"]


def test_a_picture_in_the_second_question() -> None:
    """The marker comes to the front of its own question, which is stripped."""
    parts = pieces(turns("Hello ", "Hi", " and this? <image> ", "Red"), True, "v1")
    assert written(parts) == f"{SYSTEM} USER: Hello  ASSISTANT: Hi</s>USER: <image>\nand this? ASSISTANT: Red</s>"


def test_a_picture_alone_is_a_question() -> None:
    """Nothing follows the marker but the answer's turn."""
    parts = pieces(turns("<image>", "Red"), True, "v1")
    assert written(parts) == f"{SYSTEM} USER: <image> ASSISTANT: Red</s>"
    assert learned(parts) == [" Red", "</s>"]


def test_text_alone_keeps_its_words() -> None:
    """Without a picture `<image>` is a word like any other."""
    parts = pieces(turns("What is <image> in HTML?", "No tag."), False, "v1")
    assert [part for part in parts if isinstance(part, ImageMark)] == []
    assert written(parts) == f"{SYSTEM} USER: What is <image> in HTML? ASSISTANT: No tag.</s>"


def test_a_first_turn_of_gpt_is_dropped() -> None:
    """The conversation begins with a question."""
    parts = pieces([Turn("gpt", "Welcome"), *turns("A?", "a")], False, "v1")
    assert written(parts) == f"{SYSTEM} USER: A? ASSISTANT: a</s>"


@pytest.mark.parametrize(
    "texts",
    [
        ("A?", ""),
        ("", "a"),
        ("A?", "a", "B?"),
        ("A?", "a", "Say ASSISTANT: now", "b"),
        ("A?", "x ASSISTANT: y"),
        ("A?", "the tag </s> ends it"),
        ("<s>old</s>", "a"),
    ],
)
def test_what_the_masks_cannot_follow_is_not_learned(texts: tuple[str, ...]) -> None:
    """The whole conversation stays, with nothing supervised."""
    parts = pieces(turns(*texts), False, "v1")
    assert learned(parts) == []
    assert written(parts).startswith(f"{SYSTEM} USER: {texts[0]} ASSISTANT:")


def test_an_answer_may_begin_with_the_other_name() -> None:
    """`ASSISTANT: ` without a blank before it divides a round nowhere else."""
    assert learned(pieces(turns("A?", "ASSISTANT: a"), False, "v1")) == [" ASSISTANT: a", "</s>"]


@pytest.mark.parametrize(
    ("given", "image", "template", "message"),
    [
        ([], False, "v1", "no turn of `human`"),
        ([Turn("gpt", "a")], False, "v1", "no turn of `human`"),
        ([Turn("human", "A"), Turn("human", "B")], False, "v1", "turn 1 is of `human`"),
        ([Turn("gpt", "x"), Turn("gpt", "y")], False, "v1", "turn 1 is of `gpt`"),
        (turns("no marker", "a"), True, "v1", "it is in none"),
        (turns("<image>", "<image>"), True, "v1", r"it is in \['human', 'gpt'\]"),
        (turns("<image>", "a", "<image>", "b"), True, "v1", r"it is in \['human', 'human'\]"),
        (turns("caption?", "a"), False, "plain", "alignment stage"),
        (turns("<image>", "a", "B", "b"), True, "plain", "alignment stage"),
        (turns("<image>"), True, "plain", "alignment stage"),
    ],
)
def test_wrong_conversations_are_told(given: list[Turn], image: bool, template: str, message: str) -> None:
    """Each error says what is wrong with the turns."""
    with pytest.raises(DataError, match=message):
        pieces(given, image, template)  # type: ignore[arg-type]


def test_the_prompt_ends_without_a_blank() -> None:
    """The question is kept as it is; the picture stands before it."""
    question = "What is it?\nAnswer the question using a single word or phrase."
    assert written(prompt(question, image=True)) == f"{SYSTEM} USER: <image>\n{question} ASSISTANT:"
    assert written(prompt(question, image=False)) == f"{SYSTEM} USER: {question} ASSISTANT:"
    assert learned(prompt(question, image=True)) == []


def test_a_prompt_is_the_beginning_of_its_training_text() -> None:
    """Evaluation asks as training did."""
    trained = pieces(turns("<image>\nA?", "a"), True, "v1")
    assert trained == [*prompt("A?", image=True), Piece(" a", supervised=True), EndMark(supervised=True)]
