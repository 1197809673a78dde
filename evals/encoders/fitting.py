"""Which entries would fit weights that do not fit the one they were given to."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evals.encoders.card import card
from evals.encoders.entry import EncoderEntry
from evals.encoders.locate import weights_file
from evals.encoders.registry import SOURCES, adapter, names, resolve
from evals.encoders.weights import read_tensors, sketching
from evals.errors import EvalError, UsageError
from evals.files import DigestMemo

Shapes = Mapping[str, Sequence[int]]

_PATIENCE = 2.0
"""Seconds after which no further entry is tried: this is advice beside an error."""
_SMALLEST_PATCH = 8
"""A convolution over colours with a smaller kernel is no patch embedding."""
_STRIDE = 32
"""The least of the convolutional encoders."""
_STUMBLES = (EvalError, OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError)
"""What an adapter may meet in tensors that are not its own, and where it asks for values that are not read here."""


def advice(entry: EncoderEntry) -> str:
    """A sentence that names the entries which the weights of `entry` would fit; empty where none is known.

    Never raises for what stands in the way of an answer.
    """
    with contextlib.suppress(EvalError):
        path = weights_file(entry)
        if path is not None and (found := fitting(path, source=entry.source)):
            return f" By its names and shapes it fits {' or '.join(found)}."
    return ""


def fitting(path: Path, *, source: str) -> list[str]:
    """The entries that take a file, as far as names and shapes, and a few seconds, tell.

    Those whose width, depth and patch are among the shapes are built without weights, and given the names and shapes
    in the file; those of `source` come first. Raises WeightsError for a file that cannot be read.
    """
    end, found = time.monotonic() + _PATIENCE, []
    with sketching():
        shapes = {key: value.shape for key, value in read_tensors(path).items()}
    for entry in _candidates(shapes, source):
        if time.monotonic() > end:
            break
        if _takes(entry, path):
            found.append(entry.name)
    return found


def _candidates(shapes: Shapes, source: str) -> list[EncoderEntry]:
    """Entries whose sizes are among these; those that need no further library first."""
    kernels = [shape for shape in shapes.values() if len(shape) == 4 and shape[1] == 3]
    patches = {(shape[0], shape[-1]) for shape in kernels if shape[-1] >= _SMALLEST_PATCH}
    widths = {shape[-1] for shape in shapes.values() if len(shape)}
    depths = _depths(shapes)

    def has_sizes(entry: EncoderEntry) -> bool:
        if patches:
            return (entry.dim, entry.patch) in patches
        # Colours meet a small kernel in convolutional encoders, and a linear layer in some transformers.
        return entry.dim in widths and (not kernels or entry.patch >= _STRIDE)

    likely = [entry for entry in _entries() if entry.depth in depths and has_sizes(entry)]
    loaded = {entry.source: f"{SOURCES}.{entry.source}" in sys.modules for entry in likely}
    return sorted(likely, key=lambda entry: (entry.source != source, not loaded[entry.source], entry.name))


def _entries() -> Iterator[EncoderEntry]:
    for name in names():
        # An entry that cannot be read is not what is wrong here.
        with contextlib.suppress(UsageError):
            yield resolve(name)


def _depths(shapes: Shapes) -> set[int]:
    """How many blocks there may be: one more than the highest number that stands at a place in the keys."""
    highest: dict[tuple[str, ...], int] = {}
    for key in shapes:
        words = key.split(".")
        for place, word in enumerate(words):
            if word.isdecimal():
                before = tuple(words[:place])
                highest[before] = max(highest.get(before, 0), int(word) + 1)
    return set(highest.values())


def _takes(entry: EncoderEntry, path: Path) -> bool:
    """Whether the adapter of an entry accepts the names and shapes in a file."""
    with contextlib.suppress(*_STUMBLES), sketching():
        known = card(replace(entry, weights="random"), DigestMemo(None))
        adapter(entry.source).build(replace(entry, weights=str(path)), known)
        return True
    return False
