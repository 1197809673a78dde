"""All that is left to do about one candidate: stages, failures, comparison with earlier ones, alerts."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, Protocol

from evals.watch import child
from evals.watch.candidates import Candidate, look_again
from evals.watch.cascade import Stage
from evals.watch.claim import Claim
from evals.watch.ledger import TRIES, Entry, Ledger
from evals.watch.order import Order
from evals.watch.regression import Comparison, compare
from evals.watch.scores import Scored, scores

_ALERT_SECONDS = 60.0
_USAGE = 2
"""The exit code of a command that makes no sense as it stands."""
State = Literal["todo", "done", "waiting", "quarantined"]


class Tell(Protocol):
    """Says something to the user; `always`: also when quiet."""

    def __call__(self, message: str, *, always: bool = False) -> None:
        """One line."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a candidate stands."""

    state: State
    stage: Stage | None = None
    """What is to be done, now or after a pause."""
    why: str = ""


def standing(order: Order, entry: Entry, now: float) -> Standing:
    """The first stage that is not done, unless a gate before it is closed."""
    if entry.quarantined:
        return Standing("quarantined", why=entry.reason)
    for stage in order.stages:
        if stage.gate and (why := stage.gate.closed(scores(order.results, entry))):
            return Standing("done", why=f"{stage.suite} is behind {stage.gate}: {why}")
        if order.task(stage) not in entry.done:
            if entry.not_before > now:
                pause = f"try {entry.tries + 1} of {TRIES} in {entry.not_before - now:.0f} s"
                return Standing("waiting", stage, f"{pause}: {entry.reason}")
            return Standing("todo", stage)
    return Standing("done")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How candidates are evaluated."""

    order: Order
    ledger: Ledger
    tell: Tell
    command: Sequence[str]
    """What stands before `run`."""

    def run(self, candidate: Candidate, entry: Entry, claim: Claim) -> int:
        """Evaluate a candidate whose claim is held, stage by stage; returns the number of regressions."""
        regressions = 0
        while (at := standing(self.order, entry, self.ledger.now())).state == "todo":
            assert at.stage is not None, "what is to be done has a name"
            ended = self._attempt(candidate, entry, at.stage, claim)
            if not claim.holds():
                self.tell(f"{entry.name}: another watcher took it over; left to that one", always=True)
                break
            entry, worse = self._compared(entry)
            regressions += worse
            look = look_again(candidate)
            if ended.code == 0 and look in (candidate.look, None):
                when = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
                entry = replace(entry.freed(), done={**entry.done, self.order.task(at.stage): when})
            elif look == candidate.look:
                entry = self._failed(entry, at.stage, ended)
            else:
                self.tell(f"{entry.name}: changed or went away while it was evaluated; looked at again later")
            self.ledger.write(entry)
            if ended.code != 0 or look != candidate.look:
                break
        return regressions

    def _attempt(self, candidate: Candidate, entry: Entry, stage: Stage, claim: Claim) -> child.Ended:
        log, started = self.ledger.log(entry), time.monotonic()
        self.tell(f"{entry.name}: {stage.suite} (log: {log})")
        ended = child.run(self._words(candidate, stage), log, self.order.timeout, claim.holds)
        if ended.code == 0:
            self.tell(f"{entry.name}: {stage.suite} done in {time.monotonic() - started:.0f} s")
        return ended

    def _words(self, candidate: Candidate, stage: Stage) -> list[str]:
        path = str(candidate.path)
        who = ["--encoder", path] if candidate.export else ["--encoder", str(self.order.encoder), "--weights", path]
        what = ["--suite", stage.suite, *self.order.scoring]
        # Nobody is there to agree to a long run.
        return [*self.command, "run", *who, *what, *self.order.conduct, "--results", str(self.order.results), "--yes"]

    def _failed(self, entry: Entry, stage: Stage, ended: child.Ended) -> Entry:
        how = f"took more than {self.order.timeout:g} s" if ended.code is None else _exit(ended.code)
        reason = f"{stage.suite} {how}: {ended.said}" if ended.said else f"{stage.suite} {how}"
        after = entry.failed(reason, self.ledger.now(), self.order.interval, for_good=ended.code == _USAGE)
        left = "left alone until --retry" if after.quarantined else f"try {after.tries} of {TRIES}"
        self.tell(f"{entry.name}: failed, {left}: {reason} (log: {self.ledger.log(entry)})", always=True)
        return after

    def _compared(self, entry: Entry) -> tuple[Entry, int]:
        """The entry after its new scores were held against earlier ones, and how many of them regressed."""
        fresh = [item for item in scores(self.order.results, entry) if item.kind not in entry.compared]
        earlier = (
            [item for other in self._earlier(entry) for item in scores(self.order.results, other)] if fresh else []
        )
        regressions = 0
        for item in fresh:
            self.tell(f"{entry.name}: {item.column} {item.score.name} = {item.value:.4g} {item.score.unit}")
            found = compare(item, earlier, self.order.tolerance)
            if found and found.regressed:
                regressions += 1
                self.tell(f"regression: {entry.name}: {found}", always=True)
                self._alert(entry, found)
            elif found:
                self.tell(f"{entry.name}: no regression: {found}")
        return replace(entry, compared=(*entry.compared, *(item.kind for item in fresh))), regressions

    def _earlier(self, entry: Entry) -> list[Entry]:
        line = [other for other in self.ledger.entries() if other.lineage == entry.lineage]
        return [other for other in line if other.place_in_line < entry.place_in_line]

    def _alert(self, entry: Entry, found: Comparison) -> None:
        """Run the user's command; without a shell, so that no name can be more than a word."""
        if not self.order.on_regression:
            return
        values = _placeholders(entry, found.found, found.best)
        words = [_filled(word, values) for word in self.order.on_regression]
        try:
            done = subprocess.run(  # noqa: S603 - what the user asked for, as a list
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ALERT_SECONDS, check=False
            )
            why = "" if done.returncode == 0 else f"{_exit(done.returncode)}: {done.stderr.decode(errors='replace')}"
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
        if why:
            self.tell(f"the command of --on-regression failed: {words[0]}: {why.strip()}", always=True)


def _placeholders(entry: Entry, found: Scored, best: Scored) -> dict[str, str]:
    step = "" if entry.step is None else str(entry.step)
    scored = {"benchmark": found.column, "score": f"{found.value:.6g}", "best": f"{best.value:.6g}"}
    return {"name": entry.name, "step": step, **scored}


def _filled(word: str, values: dict[str, str]) -> str:
    """The word with its placeholders filled in one pass: what a value holds is not looked at again."""
    pieces = word.split("{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        key, closed, rest = piece.partition("}")
        filled.append(values[key] + rest if closed and key in values else "{" + piece)
    return "".join(filled)


def _exit(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
