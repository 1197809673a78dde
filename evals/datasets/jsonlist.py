"""The records of a large JSON list one after another, so that the list is never in memory as a whole."""

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TextIO

from evals.datasets.layout import Problem

CHUNK = 4 << 20
"""Characters read at a time."""
LONGEST = 64 << 20
"""Characters that a record may have; what is longer is damaged, and would be read again and again."""
_RESTORE = "Restore the file"


def records(path: Path) -> Generator[dict[str, Any], None, None]:
    """The objects of a JSON list in UTF-8; to be closed by a reader that may stop before the end.

    Raises DataError naming the file and the first record that is none.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _Window(file, path).records()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Problem(str(path), f"cannot be read as text ({reason})", _RESTORE).error() from error


class _Window:
    """A part of the file, and the position in it."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._at = "", 0
        self._index = 0

    def records(self) -> Iterator[dict[str, Any]]:
        self._must(self._next() == "[", "is no JSON list: expected [")
        self._at += 1
        if self._next() != "]":
            yield self._record()
            while self._next() == ",":
                self._at += 1
                self._index += 1
                yield self._record()
        what = f"the list breaks off or is damaged after record {self._index}: expected , or ]"
        self._must(self._next() == "]", what)
        self._at += 1
        self._must(not self._next(), "something follows the end of the list")

    def _record(self) -> dict[str, Any]:
        self._must(self._next() == "{", f"record {self._index} is no JSON object")
        while True:
            try:
                value, self._at = json.JSONDecoder().raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # The record may go on beyond the window.
                if len(self._text) - self._at > LONGEST or not self._more():
                    raise self._problem(f"record {self._index} is damaged ({error.msg})") from error
            except RecursionError as error:
                raise self._problem(f"record {self._index} is nested too deeply") from error
            else:
                found: dict[str, Any] = value
                return found

    def _next(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        chunk = self._file.read(CHUNK)
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            raise self._problem(what)

    def _problem(self, what: str) -> Exception:
        return Problem(str(self._path), what, _RESTORE).error()
