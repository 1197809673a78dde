"""Readers of the values of a manifest: each takes where the value stands and what JSON gave, or says what is wrong."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evals.encoders import keys
from evals.encoders.keys import Reader
from evals.errors import UsageError, unknown


def json_object(where: str, raw: object, readers: Mapping[str, Reader], optional: Sequence[str] = ()) -> dict[str, Any]:
    """The values of a JSON object with these keys. Raises UsageError naming a key amiss."""
    if not isinstance(raw, dict):
        raise UsageError(f"{where} must be a JSON object with the keys {', '.join(readers)}; got {raw!r:.60}.")
    for key in raw:
        if key not in readers:
            raise unknown(f"key in {where}", str(key), list(readers))
    if missing := [key for key in readers if key not in raw and key not in optional]:
        raise UsageError(f"{where} lacks {', '.join(missing)}.")
    return {key: readers[key](f"{key} in {where}", value) for key, value in raw.items()}


def matching(pattern: re.Pattern[str], what: str) -> Reader:
    """Text of a pattern, which the message calls `what`."""

    def read(where: str, value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise UsageError(f"{where} must be {what}; got {value!r:.80}.")
        return value

    return read


def made(kind: Callable[..., Any], readers: Mapping[str, Reader], optional: Sequence[str] = ()) -> Reader:
    """An object with these keys, as arguments of `kind`."""
    return lambda where, value: kind(**json_object(where, value, readers, optional))


def words(where: str, value: object) -> tuple[str, ...]:
    """Different words."""
    if not isinstance(value, list | tuple) or not value or len(set(value)) < len(value):
        raise UsageError(f"{where} must be a list of different words; got {value!r:.60}.")
    return tuple(keys.text(where, word) for word in value)


def notes(where: str, value: object) -> dict[str, Any]:
    """Any object."""
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be a JSON object; got {value!r:.60}.")
    return value


def ratio(where: str, value: object) -> float:
    """A number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1000:
        raise UsageError(f"{where} must be a number above 0; got {value!r}.")
    return value


def sides(where: str, value: object) -> list[int]:
    """A whole number for each of four stages."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise UsageError(f"{where} must be four whole numbers, one a stage; got {value!r:.60}.")
    return [keys.side(where, item) for item in value]
