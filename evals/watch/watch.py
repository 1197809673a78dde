"""The rounds of a watcher: look, wait until what is new has settled, evaluate what nobody else does, keep the books."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from evals.watch import timeline
from evals.watch.candidates import Candidate, Found, NotReadyError, find, identity, look_again, prove
from evals.watch.evaluate import Evaluation, State, Tell, standing
from evals.watch.ledger import Entry, Ledger
from evals.watch.lineage import descent
from evals.watch.order import Order

COMMAND = (sys.executable, "-m", "evals")
"""The command line of this project in this interpreter."""
REGRESSION = 3
"""Exit code; 2 belongs to wrong usage."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a look at the folder."""

    name: str
    state: State | Literal["running", "not ready", "passed over"]
    why: str = ""
    suite: str = ""
    """What would be evaluated next."""
    candidate: Candidate | None = None
    entry: Entry | None = None


@dataclass(slots=True)
class Round:
    """What one round came to."""

    evaluated: int = 0
    regressions: int = 0
    failed: list[str] = field(default_factory=list)
    """Candidates that are there and failed, in this round or before."""

    @property
    def code(self) -> int:
        """A regression is told once, a failure as long as it lasts; so the former goes first."""
        return REGRESSION if self.regressions else 1 if self.failed else 0


class Watcher:
    """Watches one folder. `check` raises if no evaluation could work at present, whatever the candidate."""

    def __init__(self, order: Order, tell: Tell, check: Callable[[], object], command: Sequence[str] = COMMAND) -> None:
        self._order, self._tell, self._check = order, tell, check
        self._ledger = Ledger(order.ledger)
        self._evaluation = Evaluation(order, self._ledger, tell, command)
        self._seen: dict[Path, tuple[str, float]] = {}
        self._memory: dict[tuple[Path, str, object], str | NotReadyError | None] = {}
        self._told: dict[str, str] = {}

    def watch(self) -> None:
        """Rounds without end."""
        while True:
            self.round()
            time.sleep(self._order.interval)

    def round(self) -> Round:
        """Evaluate what is there, whole, and nobody else's; rewrite the timeline."""
        self._check()
        items = self.survey(self._ledger.now(), wait=True)
        self._announce(items)
        done = Round()
        for item in sorted(items, key=_in_line):
            if item.candidate is not None and item.entry is not None and _concerns(item, item.candidate, item.entry):
                self._check()
                regressions = self._do(item.candidate, item.entry)
                done.evaluated += regressions is not None
                done.regressions += regressions or 0
        for item in items:
            entry = self._ledger.read(item.entry.identity) if item.entry else None
            if entry and entry.tries:
                done.failed.append(item.name)
        timeline.write(self._order, self._ledger.entries())
        self._summarise(done, items)
        return done

    def survey(self, now: float, *, wait: bool) -> list[Item]:
        """Everything below the folder and where it stands; `wait`: until what is new can be looked at again."""
        known = {(Path(place), look): e for e in self._ledger.entries() for place, look in e.places.items()}
        found = self._look()
        pauses = [self._unsettled(c) for c in found.candidates if (c.path, c.look) not in known]
        if wait and any(pauses):
            time.sleep(max(pauses))
            found = self._look()
        items = [self._item(c, known.get((c.path, c.look)), now) for c in found.candidates]
        return items + [Item(name, "passed over", why) for name, why in found.passed_over.items()]

    def _look(self) -> Found:
        found = find(self._order.folder, files=self._order.encoder is not None)
        moment, looks = time.monotonic(), {c.path: c.look for c in found.candidates}
        kept = {path: first for path, first in self._seen.items() if first[0] == looks.get(path)}
        self._seen = {path: kept.get(path, (look, moment)) for path, look in looks.items()}
        self._memory = {key: value for key, value in self._memory.items() if looks.get(key[0]) == key[1]}
        return found

    def _unsettled(self, candidate: Candidate) -> float:
        """Seconds until it has looked the same for long enough."""
        first = self._seen[candidate.path][1]
        return max(0.0, first + self._order.settle - time.monotonic())

    def _item(self, candidate: Candidate, entry: Entry | None, now: float) -> Item:
        name = candidate.name
        try:
            if entry is None:
                if self._unsettled(candidate):
                    why = f"new or changing: it must stay as it is for {self._order.settle:g} s"
                    return Item(name, "not ready", why)
                entry = self._entry(candidate)
            at = standing(self._order, entry, now)
            suite = at.stage.suite if at.stage else ""
            if at.state == "todo":
                if owner := self._ledger.owner(entry.identity, self._order.stale, now):
                    return Item(name, "running", f"claimed by {owner}", suite, candidate, entry)
                self._remembered(prove, candidate)
        except NotReadyError as error:
            return Item(name, "not ready", str(error))
        except OSError as error:
            return Item(name, "not ready", f"cannot be read: {error.strerror or error}")
        return Item(name, at.state, at.why, suite, candidate, entry)

    def _entry(self, candidate: Candidate) -> Entry:
        """The ledger's entry, or a new one. Raises NotReadyError."""
        if not candidate.export:
            self._remembered(prove, candidate)
        who = self._remembered(identity, candidate)
        assert who is not None, "an identity is a digest"
        if (entry := self._ledger.read(who)) is not None:
            return entry
        encoder, lineage, step = descent(candidate, self._order.folder, self._order.encoder)
        return Entry(who, candidate.name, encoder, lineage, step, candidate.modified)

    def _remembered(self, do: Callable[[Candidate], str | None], candidate: Candidate) -> str | None:
        """What was found out about a candidate stays true as long as it looks the same."""
        key = (candidate.path, candidate.look, do)
        if key not in self._memory:
            try:
                self._memory[key] = do(candidate)
            except NotReadyError as error:
                self._memory[key] = error
        value = self._memory[key]
        if isinstance(value, NotReadyError):
            raise value
        return value

    def _do(self, candidate: Candidate, entry: Entry) -> int | None:
        """Evaluate a candidate unless somebody else does or did; the number of regressions, None: not evaluated."""
        claim = self._ledger.take(entry.identity, self._order.stale)
        if claim is None:
            self._tell(f"{entry.name}: being evaluated by another watcher")
            return None
        with claim:
            # Only what the ledger says now counts: another watcher may have been here since the look.
            entry = self._ledger.read(entry.identity) or entry
            if look_again(candidate) != candidate.look:
                self._tell(f"{entry.name}: changed or went away; looked at again later")
                return None
            entry = replace(entry, places={**entry.places, str(candidate.path): candidate.look})
            if standing(self._order, entry, self._ledger.now()).state != "todo":
                self._ledger.write(entry)
                return None
            return self._evaluation.run(candidate, entry, claim)

    def _announce(self, items: Sequence[Item]) -> None:
        """What keeps something from being evaluated, once for each reason."""
        for item in items:
            # Without the seconds that are left until the next try, which change all the time.
            reason = item.entry.reason if item.state == "waiting" and item.entry else item.why
            if item.state not in ("todo", "done", "passed over") and self._told.get(item.name) != reason:
                self._told[item.name] = reason
                self._tell(f"{item.name}: {item.state}: {item.why}")

    def _summarise(self, done: Round, items: Sequence[Item]) -> None:
        """One line at the end of a round, unless it says what that of the last one said."""
        counts = Counter(item.state for item in items if item.state in ("running", "not ready", "passed over"))
        rest = "".join(f", {number} {state}" for state, number in sorted(counts.items()))
        said = f"{done.evaluated} evaluated, {done.regressions} regression(s), {len(done.failed)} failed{rest}"
        if self._told.get("") != said:
            self._told[""] = said
            self._tell(f"{said}. Timeline: {self._order.ledger / 'timeline.md'}")


def _in_line(item: Item) -> tuple[bool, int, float, str]:
    """Early steps first, so that later ones find them to be compared with."""
    return (*(item.entry.place_in_line if item.entry else (True, 0, 0.0)), item.name)


def _concerns(item: Item, candidate: Candidate, entry: Entry) -> bool:
    """It is to be evaluated, or lies at a place that the ledger does not know yet."""
    known = entry.places.get(str(candidate.path)) == candidate.look
    return item.state == "todo" or (item.state in ("done", "waiting", "quarantined") and not known)
