"""What a check is: a trial that every encoder goes through, and what came out of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evals.doctor.subject import FAILURES, Subject
from evals.errors import UnavailableError

Verdict = Literal["pass", "fail", "skip", "note"]
"""`note`: something to know that is no fault; `skip`: the check does not apply, or needs what is not here."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a trial saw."""

    verdict: Verdict
    measured: str


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict card."""

    name: str
    verdict: Verdict
    measured: str
    limit: str
    """What was allowed."""
    pitfall: str
    """What goes wrong with encoders here, in plain words."""
    effect: str
    """What that does to a score."""
    mend: str
    """How to mend the adapter, or its entry."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A check before it is done; the texts are those of Check."""

    name: str
    run: Callable[[Subject], Finding]
    limit: str
    pitfall: str
    effect: str
    mend: str

    def of(self, subject: Subject) -> Check:
        """The check of one encoder. An error is a fault of the encoder, unless something is missing on this machine."""
        try:
            found = self.run(subject)
        except UnavailableError as error:
            found = Finding("skip", f"not here: {_first_line(error)}")
        except FAILURES as error:
            found = Finding("fail", f"raised {type(error).__name__}: {_first_line(error)}")
        return Check(self.name, found.verdict, found.measured, self.limit, self.pitfall, self.effect, self.mend)


def judged(sound: bool, measured: str) -> Finding:
    """A pass or a fail."""
    return Finding("pass" if sound else "fail", measured)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
