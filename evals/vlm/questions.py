"""What is asked: the user's text of the six question sets, byte for byte, without image marker and template.

Protocol `llava` is LLaVA-1.5's published evaluation (its question files and scripts); `lmms` is lmms-eval 0.7.3 where
that deliberately differs. Each function takes a row of its set, and raises DataError naming a field that is missing.
"""

from collections.abc import Mapping
from typing import Any, Literal

from evals.errors import DataError

Protocol = Literal["llava", "lmms"]
Row = Mapping[str, Any]

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."

_YES_OR_NO = " Please answer yes or no."
"""MME's own request, which both protocols replace by SHORT."""


def textvqa(row: Row, *, ocr: bool = True, protocol: Protocol = "llava") -> str:
    """TextVQA, with the tokens that an OCR system read (the published headline) or without.

    The line of tokens is there even if there are none. lmms-eval leaves the tokens out by default, and its
    capitalised question has lost every other capital.
    """
    question = _text(row, "question")
    if protocol == "lmms":
        question = question.capitalize()
    tokens = f"\nReference OCR token: {', '.join(_texts(row, 'ocr_tokens'))}" if ocr else ""
    return f"{question}{tokens}{SHORT}"


def scienceqa(row: Row) -> str:
    """ScienceQA: the hint if there is one, the question, the choices with letters. Both protocols ask the same."""
    hint = _field(row, "hint")
    context = f"Context: {_text(row, 'hint')}\n" if hint else ""
    choices = "\n".join(f"{chr(ord('A') + at)}. {choice}" for at, choice in enumerate(_texts(row, "choices")))
    return f"{context}{_text(row, 'question')}\n{choices}{LETTER}"


def realworldqa(row: Row) -> str:
    """RealWorldQA, which LLaVA does not evaluate: the row's text, which holds options and instruction already."""
    return _text(row, "question").strip()


def pope(row: Row) -> str:
    """POPE. Both protocols ask the same."""
    return f"{_text(row, 'question').strip()}{SHORT}"


def gqa(row: Row) -> str:
    """GQA. Both protocols ask the same."""
    return f"{_text(row, 'question')}{SHORT}"


def mme(row: Row) -> str:
    """MME, without its own request for yes or no. Both protocols ask the same.

    Where a row has two blanks before that request, one of them stays.
    """
    return f"{_text(row, 'question').strip().replace(_YES_OR_NO, '')}{SHORT}"


def _field(row: Row, name: str) -> Any:
    if name not in row:
        raise DataError(f"a question has no field {name!r}, only {', '.join(sorted(row))}. Obtain the set again.")
    return row[name]


def _text(row: Row, name: str) -> str:
    value = _field(row, name)
    if not isinstance(value, str):
        raise DataError(f"field {name!r} of a question: expected text, got {value!r}. Obtain the set again.")
    return value


def _texts(row: Row, name: str) -> list[str]:
    value = _field(row, name)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise DataError(f"field {name!r} of a question: expected a list of texts, got {value!r}. Obtain the set again.")
    return list(value)
