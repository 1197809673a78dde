"""Whether a score is worse than the best earlier one of its lineage, and by which rule that was decided."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from evals.errors import UsageError
from evals.watch.scores import Scored

_TOLERANCE = re.compile(r"(\d+\.?\d*|\.\d+)\s*(%?)")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much worse is not worse yet."""

    amount: float
    relative: bool
    """The amount is in percent of the best earlier score; else in the metric's own unit."""

    def of(self, best: float) -> float:
        """In the metric's unit."""
        return abs(best) * self.amount / 100 if self.relative else self.amount

    def exceeded(self, loss: float, best: float) -> bool:
        """A loss that equals the tolerance but for rounding does not exceed it."""
        allowed = self.of(best)
        return loss > allowed and not math.isclose(loss, allowed, rel_tol=1e-9)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A score that is worse by more than the tolerance."""

    found: Scored
    best: Scored
    regressed: bool
    """False: worse, but the two intervals overlap."""
    rule: str

    def __str__(self) -> str:
        score, unit = self.found.score, self.found.score.unit
        said = f"{self.found.column} {score.name} = {self.found.value:.4g} {unit}"
        return f"{said}, after {self.best.value:.4g} {unit} of {self.best.entry.name}: {self.rule}"


def parse_tolerance(text: str) -> Tolerance:
    """`0.5` in the unit of each metric, or `2%` of the best. Raises UsageError."""
    match = _TOLERANCE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"--tolerance takes a number from 0 in the unit of the metric, or one with % for a part of the best "
            f"earlier score; got {text!r}."
        )
    return Tolerance(float(match[1]), relative=bool(match[2]))


def compare(found: Scored, earlier: Sequence[Scored], tolerance: Tolerance) -> Comparison | None:
    """Hold a score against the best of the earlier ones of its kind; None where it is not worse by the tolerance."""
    same = [item for item in earlier if item.kind == found.kind and item.sign == found.sign]
    if not same:
        return None
    best = max(same, key=lambda item: item.sign * item.value)
    loss = found.sign * (best.value - found.value)
    if not tolerance.exceeded(loss, best.value):
        return None
    mine, theirs = found.score.ci, best.score.ci
    if mine is None or theirs is None:
        allowed = tolerance.of(best.value)
        return Comparison(found, best, True, f"worse by {loss:.3g}, and the tolerance is {allowed:.3g}")
    apart = mine.high < theirs.low if found.sign > 0 else mine.low > theirs.high
    word = "are apart" if apart else "overlap"
    shown = f"[{mine.low:.4g}, {mine.high:.4g}] and [{theirs.low:.4g}, {theirs.high:.4g}]"
    return Comparison(found, best, apart, f"worse by {loss:.3g}, and the intervals {shown} {word}")
