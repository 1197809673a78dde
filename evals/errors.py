"""The errors a user can mend. Each message says what is wrong, where, what was expected, and how to mend it."""

from typing import ClassVar, Literal

Missing = Literal["data", "weights", "tokenizer", "licence", "package"]


_LISTED = 60
"""Names that a message lists; more would bury what it says."""


class EvalError(Exception):
    """A failure with a clear cause; printed without a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(EvalError):
    """A wrong name, key or value on the command line or in a configuration file."""

    exit_code: ClassVar[int] = 2


class DataError(EvalError):
    """A data set whose files are wrong: unreadable, out of range, inconsistent."""


class WeightsError(EvalError):
    """Weights that do not belong to the architecture, or that cannot be loaded safely."""


class NumericsError(EvalError):
    """A value that is not finite where the protocol needs a number."""


class ResultsError(EvalError):
    """A results or cache folder that cannot be read or written."""


class NewerRecordError(ResultsError):
    """A record that a later version wrote: neither read nor ever replaced."""


class UnavailableError(EvalError):
    """Something the benchmark needs is not on this machine: never a zero, always this."""

    def __init__(self, missing: Missing, message: str) -> None:
        super().__init__(message)
        self.missing: Missing = missing


def unknown(kind: str, given: str, known: list[str]) -> UsageError:
    """The error for a name that does not exist: the nearest names first, then all of them, or how many there are."""
    import difflib

    near = difflib.get_close_matches(given, known, n=3, cutoff=0.4)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    rest = f"Known: {', '.join(sorted(known))}." if len(known) <= _LISTED else f"There are {len(known)}."
    return UsageError(f"unknown {kind} {given!r}.{hint} {rest}")
