"""What a watcher was asked to do."""

from dataclasses import dataclass
from pathlib import Path

from evals.watch.cascade import Stage
from evals.watch.regression import Tolerance

SETTLE, STALE, INTERVAL = 10.0, 600.0, 60.0
"""Seconds: between two looks, after which a claim without a heartbeat is anybody's, between two rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The folders, the cascade, and the manner."""

    folder: Path
    """What is watched; absolute."""
    results: Path
    """Absolute."""
    stages: tuple[Stage, ...]
    tolerance: Tolerance
    encoder: str | None = None
    """The architecture of weight files; None: exports alone are looked for."""
    scoring: tuple[str, ...] = ()
    """Words of `run` that may move a score: with other ones everything is evaluated again."""
    conduct: tuple[str, ...] = ()
    """Its other words."""
    on_regression: tuple[str, ...] = ()
    """A command and its arguments, with placeholders."""
    timeout: float | None = None
    """Seconds for one evaluation."""
    settle: float = SETTLE
    stale: float = STALE
    interval: float = INTERVAL

    @property
    def ledger(self) -> Path:
        """The folder beside the records."""
        return self.results / "watch"

    def task(self, stage: Stage) -> str:
        """What makes an evaluation another one, as words of `run`."""
        return " ".join(("--suite", stage.suite, *self.scoring))
