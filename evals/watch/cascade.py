"""What is evaluated in which order: a cheap suite first, dearer ones past a gate."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evals.benchmarks import base
from evals.errors import UsageError
from evals.watch.scores import Scored

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_GATE = re.compile(
    r"\s*([\w-]+)(?:@([\w-]+))?\s*(>=|<=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition on one score."""

    benchmark: str
    protocol: str | None
    """None: whichever there are scores of; each of them must pass."""
    comparison: str
    bound: float

    def __str__(self) -> str:
        protocol = f"@{self.protocol}" if self.protocol else ""
        return f"{self.benchmark}{protocol}{self.comparison}{self.bound:g}"

    def closed(self, found: Sequence[Scored]) -> str:
        """Why it is closed; empty where it is open. Only standard scores open it, and a missing one does not."""
        mine = [item for item in found if item.record.task.name == self.benchmark and item.record.standard]
        mine = [item for item in mine if self.protocol in (None, item.record.task.protocol)]
        if not mine:
            return "there is no standard score"
        holds = _COMPARISONS[self.comparison]
        short = [item for item in mine if not holds(item.value, self.bound)]
        return ", ".join(f"{item.column} is {item.value:.4g} {item.score.unit}" for item in short)


@dataclass(frozen=True, slots=True)
class Stage:
    """One suite of the cascade."""

    suite: str
    gate: Gate | None = None
    """None: the first one, which everything goes through."""


def stages(suite: str, gates: Sequence[str], suites: Sequence[str]) -> tuple[Stage, ...]:
    """The cascade: `suite`, then each of `suites` past the gate of the same number.

    Raises UsageError for a gate without a suite or the other way round, or one that cannot be read.
    """
    if len(gates) != len(suites):
        raise UsageError(
            f"every --gate opens one --then; got {len(gates)} and {len(suites)}. "
            'Example: --suite quick --gate "in1k-knn>=30" --then dense.'
        )
    further = [Stage(name, parse_gate(text)) for text, name in zip(gates, suites, strict=True)]
    return (Stage(suite), *further)


def parse_gate(text: str) -> Gate:
    """A gate as it is written on the command line. Raises UsageError."""
    match = _GATE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--gate takes <benchmark>[@<protocol>], one of {' '.join(_COMPARISONS)}, and a number, such as "
            f'"in1k-knn>=30" (quoted, for the shell); got {text!r}.'
        )
    kind = base.find(match[1])
    if match[2] is not None:
        kind.of(match[2])
    return Gate(kind.id, match[2], match[3], float(match[4]))
