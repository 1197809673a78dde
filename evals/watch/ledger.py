"""What became of every candidate that was ever seen: one JSON file each, below the results."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from evals.errors import NewerRecordError, UsageError, unknown
from evals.files import write_atomic
from evals.watch import claim
from evals.watch.claim import Claim

SCHEMA = 1
TRIES = 3
"""Failures in a row after which a candidate is left alone."""
_PLAIN: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("identity", "name", "encoder", "lineage", "reason"), (str,)),
    "step": (int, type(None)),
    **dict.fromkeys(("modified", "not_before"), (int, float)),
    **dict.fromkeys(("places", "done"), (dict,)),
    "compared": (list,),
    **dict.fromkeys(("tries", "schema"), (int,)),
    "quarantined": (bool,),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate, by the identity of its weights."""

    identity: str
    """sha256 of the manifest or of the weight file, as in the records."""
    name: str
    """Its path below the watched folder when it was first seen."""
    encoder: str
    """The name that its records carry."""
    lineage: str
    step: int | None
    modified: float
    """When it was saved; orders what has no step."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Path -> what it looked like there: what looks the same is not read again."""
    done: Mapping[str, str] = field(default_factory=dict)
    """What was evaluated (the words of `run` that move scores) -> when."""
    compared: tuple[str, ...] = ()
    """Scores that were held against earlier ones."""
    tries: int = 0
    """Failures since the last success."""
    not_before: float = 0.0
    """When the next try may start, by the clock of the file server."""
    quarantined: bool = False
    reason: str = ""
    """Of the last failure."""
    schema: int = SCHEMA

    @property
    def place_in_line(self) -> tuple[bool, int, float]:
        """Orders a lineage: by step; what has none comes last, by its time."""
        return self.step is None, self.step or 0, self.modified

    def failed(self, reason: str, now: float, pause: float, *, for_good: bool) -> "Entry":
        """After one more failure: the pause doubles each time; `for_good`: another try could not help."""
        tries = self.tries + 1
        return replace(
            self,
            tries=tries,
            reason=reason,
            not_before=now + pause * 2 ** (tries - 1),
            quarantined=for_good or tries >= TRIES,
        )

    def freed(self) -> "Entry":
        """As if it had never failed."""
        return replace(self, tries=0, reason="", not_before=0.0, quarantined=False)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The folder of the entries, their claims, and the logs of their evaluations."""

    folder: Path

    def now(self) -> float:
        """The time of the file server. Raises ResultsError where the folder cannot be written."""
        clock = self.folder / ".clock"
        write_atomic(clock, b"")
        return clock.stat().st_mtime

    def read(self, identity: str) -> Entry | None:
        """An entry. None for one that is not there or broken: what it said is found out again from the records."""
        return _read(self.folder / f"{identity}.json")

    def entries(self) -> list[Entry]:
        """All of them, each lineage in order. Raises NewerRecordError for one that a later version wrote."""
        found = [entry for path in self.folder.glob("*.json") if (entry := _read(path))]
        return sorted(found, key=lambda entry: (entry.lineage, entry.place_in_line, entry.identity))

    def write(self, entry: Entry) -> None:
        """Keep an entry whose claim is held. Raises ResultsError."""
        text = json.dumps(asdict(entry), indent=1, sort_keys=True)
        write_atomic(self.folder / f"{entry.identity}.json", f"{text}\n".encode())

    def log(self, entry: Entry) -> Path:
        """What the evaluations of a candidate printed."""
        return self.folder / f"{entry.identity[:12]}.log"

    def take(self, identity: str, stale: float) -> Claim | None:
        """Claim a candidate; None while another watcher has it."""
        return claim.take(self._claim(identity), stale, self.now)

    def owner(self, identity: str, stale: float, now: float) -> str | None:
        """Who evaluates a candidate at the moment `now`."""
        return claim.beating(self._claim(identity), stale, now)

    def free(self, name: str, stale: float) -> list[Entry]:
        """Give candidates that failed another chance, by name or by the first digits of the identity.

        Raises UsageError where there is none, or one is being evaluated.
        """
        failed = [entry for entry in self.entries() if entry.tries]
        meant = [entry for entry in failed if entry.name == name or (len(name) > 5 and entry.identity.startswith(name))]
        if not meant:
            raise unknown("failed candidate", name, sorted({entry.name for entry in failed}))
        for entry in meant:
            held = self.take(entry.identity, stale)
            if held is None:
                raise UsageError(f"{entry.name} is being evaluated at this moment: see what comes of it.")
            with held:
                self.write((self.read(entry.identity) or entry).freed())
        return meant

    def _claim(self, identity: str) -> Path:
        return self.folder / f"{identity}.claim"


def _read(path: Path) -> Entry | None:
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(raw, dict):
        return None
    if isinstance(schema := raw.get("schema"), int) and schema > SCHEMA:
        raise NewerRecordError(f"{path} has schema {schema}; this version reads up to {SCHEMA}. Upgrade eupe-eval.")
    values: dict[str, Any] = {item.name: raw[item.name] for item in fields(Entry) if item.name in raw}
    if set(values) != set(_PLAIN) or not all(isinstance(value, _PLAIN[key]) for key, value in values.items()):
        return None
    return Entry(**{**values, "compared": tuple(values["compared"])})
