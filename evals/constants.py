"""Whether a value fits the annotation of a protocol constant. Imports no torch."""

import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_WORDS = {NoneType: "null", bool: "true or false", str: "text"}


def fits(kind: Any, value: object, *, zero: bool) -> bool:
    """True if `value` is of the annotated kind; numbers must be finite and above 0 (`zero`: from 0)."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(part, value, zero=zero) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and bool(value) and all(fits(parts[0], item, zero=zero) for item in value)
    if kind in (NoneType, bool, str):
        return isinstance(value, kind) and value != ""
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and isinstance(value, float)):
        return False
    return math.isfinite(value) and (value >= 0 if zero else value > 0)


def describe(kind: Any, *, zero: bool) -> str:
    """What `fits` accepts, in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(describe(part, zero=zero) for part in parts)
    if origin is Literal:
        return " or ".join(str(part) for part in parts)
    if origin is tuple:
        return f"a list such as [{'10, 20' if parts[0] is int else '0.1, 0.05'}], each {describe(parts[0], zero=zero)}"
    if kind in _WORDS:
        return _WORDS[kind]
    number = "a whole number" if kind is int else "a number"
    return f"{number} from {'0' if zero else '1'}" if kind is int or zero else f"{number} above 0"
