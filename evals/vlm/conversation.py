"""Turns -> the text that a vision-language model reads and answers, to the byte (LLaVA-1.5, `plain` and `v1`).

Nothing here knows a tokenizer: text comes as pieces that are supervised or not, with marks where the picture and the
end of an answer are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evals.datasets.llava import Turn
from evals.errors import DataError

Template = Literal["plain", "v1"]
"""`plain`: picture, caption, new line (alignment); `v1`: Vicuna 1.1's conversation (instruction, evaluation)."""

MARKER = "<image>"
"""Where the text of a record has its picture."""
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
END = "</s>"
"""How a text says the end of an answer; in its place stands the tokenizer's own end of sequence."""
_ANSWER = " ASSISTANT:"


@dataclass(frozen=True, slots=True)
class Piece:
    """Text."""

    text: str
    supervised: bool
    """The model learns to say it."""


@dataclass(frozen=True, slots=True)
class ImageMark:
    """The picture's visual tokens, never supervised."""


@dataclass(frozen=True, slots=True)
class EndMark:
    """The end of an answer: one token."""

    supervised: bool


Part = Piece | ImageMark | EndMark


@dataclass(frozen=True, slots=True)
class _Round:
    """A question and its answer, None where the record ends with the question."""

    shows: bool
    question: str
    answer: str | None


def pieces(turns: Sequence[Turn], image: bool, template: Template) -> list[Part]:
    """The text of a record with a picture (`image`) or without, in the order read.

    A conversation that LLaVA's masks cannot follow (an empty turn, a question without an answer, ` ASSISTANT: ` or
    `</s>` inside of a turn) is kept with nothing supervised, as there. Raises DataError for turns that do not alternate
    from `human` on (a first turn of `gpt` is dropped), and for a picture that no question, or more than one, shows.
    """
    rounds = _rounds(_checked(turns, image), image)
    return _plain(rounds, image) if template == "plain" else _v1(rounds)


def prompt(question: str, image: bool) -> list[Part]:
    """What a model is asked in an evaluation: `v1` up to `ASSISTANT:`, the picture before the question."""
    return _asked(_Round(image, f"\n{question}" if image else question, None), first=True)


def _checked(turns: Sequence[Turn], image: bool) -> Sequence[Turn]:
    """The turns from the first of `human` on."""
    kept = turns[1:] if turns and turns[0].speaker == "gpt" else turns
    if not kept:
        raise DataError("the conversation has no turn of `human`.")
    for index, turn in enumerate(kept):
        expected = ("human", "gpt")[index % 2]
        if turn.speaker != expected:
            place = index + len(turns) - len(kept)
            raise DataError(f"turn {place} is of `{turn.speaker}`; `human` and `gpt` must alternate.")
    if image:
        shown = [turn.speaker for turn in kept if MARKER in turn.text]
        if shown != ["human"]:
            raise DataError(f"the picture must be in one turn of `human` as {MARKER}; it is in {shown or 'none'}.")
    return kept


def _rounds(turns: Sequence[Turn], image: bool) -> list[_Round]:
    """Questions with their answers; the marker of a picture goes to the front of its question."""
    rounds = []
    for index in range(0, len(turns), 2):
        question, shows = turns[index].text, image and MARKER in turns[index].text
        if shows:
            question = f"\n{question.replace(MARKER, '').strip()}".rstrip()
        rounds.append(_Round(shows, question, turns[index + 1].text if index + 1 < len(turns) else None))
    return rounds


def _plain(rounds: Sequence[_Round], image: bool) -> list[Part]:
    """Whatever was asked is left out."""
    if not image or len(rounds) != 1 or rounds[0].answer is None:
        raise DataError("a record of the alignment stage has a picture, one turn of `human` and one of `gpt`.")
    return [ImageMark(), Piece(f"{rounds[0].answer}\n", supervised=True)]


def _v1(rounds: Sequence[_Round]) -> list[Part]:
    parts: list[Part] = []
    for one in rounds:
        parts += _asked(one, first=not parts)
        if one.answer is not None:
            parts += [Piece(f" {one.answer}", supervised=True), EndMark(supervised=True)]
    if all(map(_maskable, rounds)):
        return parts
    return [part if isinstance(part, ImageMark) else replace(part, supervised=False) for part in parts]


def _asked(one: _Round, *, first: bool) -> list[Part]:
    before = f"{SYSTEM} " if first else ""
    if one.shows:
        return [Piece(f"{before}USER: ", False), ImageMark(), Piece(one.question + _ANSWER, False)]
    return [Piece(f"{before}USER: {one.question}{_ANSWER}", False)]


def _maskable(one: _Round) -> bool:
    """LLaVA cuts the text at every `</s>`, and each of these rounds at ` ASSISTANT: `, into exactly two."""
    asked = one.shows or one.question
    if not asked or not one.answer or END in one.question + one.answer:
        return False
    return f" {one.question}{_ANSWER} {one.answer}".count(f"{_ANSWER} ") == 1
