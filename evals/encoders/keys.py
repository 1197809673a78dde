"""What a value of an entry must be: each reader returns the value or raises UsageError saying where and what."""

import re
import sys
from collections.abc import Callable
from typing import Any

from evals.errors import UsageError, unknown

Triple = tuple[float, float, float]
Reader = Callable[[str, object], Any]
"""(where, value) -> value."""
_PREFIX = re.compile(r"[\w.-]+|\([\w.-]+\)")


def text(where: str, value: object) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where} must be text; got {value!r}.")
    return value


def whole(where: str, value: object) -> int:
    """A whole number from 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UsageError(f"{where} must be a whole number from 0; got {value!r}.")
    return value


def side(where: str, value: object) -> int:
    """A whole number from 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{where} must be a whole number from 1; got {value!r}.")
    return value


def flag(where: str, value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{where} must be true or false; got {value!r}.")
    return value


def triple(where: str, value: object) -> Triple:
    """One finite number for each of R, G and B."""
    if isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_finite, value)):
        return (float(value[0]), float(value[1]), float(value[2]))
    raise UsageError(f"{where} must be three finite numbers (R, G, B in [0, 1]); got {value!r}.")


def deviations(where: str, value: object) -> Triple:
    """One finite number above 0 for each of R, G and B: images are divided by them."""
    read = triple(where, value)
    if min(read) <= 0:
        raise UsageError(f"{where} must be three numbers above 0, by which R, G and B are divided; got {value!r}.")
    return read


def _is_finite(value: object) -> bool:
    # YAML spells .nan and .inf, and whole numbers of any length.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def words(where: str, value: object) -> tuple[str, ...]:
    """Words, in a list or parted by spaces."""
    listed = value.split() if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(word, str) and word for word in listed):
        raise UsageError(f"{where} must be words; got {value!r}.")
    return tuple(listed)


def prefix(where: str, value: object) -> tuple[str, ...]:
    """Names of the prefix tokens in order, `cls reg*4` or `none`; in parentheses if never trained as an output."""
    read: list[str] = []
    for word in words(where, value):
        name, _, times = word.partition("*")
        if not _PREFIX.fullmatch(name) or (times and not times.isdecimal()):
            raise UsageError(f"{where} takes words such as `cls reg*4` or `(cls)`, or `none`; got {word!r}.")
        read += [name] * int(times or 1)
    return () if read == ["none"] else tuple(read)


def one_of(*choices: str) -> Callable[[str, object], str]:
    """One of these words."""

    def read(where: str, value: object) -> str:
        if value not in choices:
            raise unknown(where, str(value), list(choices))
        return str(value)

    return read


def or_null(read: Reader) -> Reader:
    """Nothing, or what `read` takes."""
    return lambda where, value: None if value is None else read(where, value)
