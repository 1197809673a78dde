"""The scores of a candidate, from its records: successes of exactly its weights, and nothing else."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from evals.errors import ResultsError
from evals.record import Record, Score, read_record, safe_name
from evals.watch.ledger import Entry


@dataclass(frozen=True, slots=True)
class Scored:
    """The primary score of one benchmark."""

    entry: Entry
    column: str
    """`<benchmark>@<protocol>`, with a hash behind it where constants or data are not the protocol's."""
    record: Record
    score: Score
    value: float

    @property
    def kind(self) -> str:
        """What two scores must share to be compared: column, version of the benchmark, data."""
        data = self.record.dataset
        return f"{self.column} v{self.record.task.version} {data.fingerprint[:12] if data else ''}".strip()

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.score.higher_is_better else -1


def scores(results: Path, entry: Entry) -> list[Scored]:
    """One a record, by column; failures, records of other weights and broken files give none."""
    found = []
    for path in sorted((results / safe_name(entry.encoder) / entry.identity[:12]).glob("*@*.json")):
        record = _read(path, path.stat().st_mtime_ns)
        if record is None:
            continue
        score = record.primary
        mine = record.encoder.weights_sha256 == entry.identity and record.encoder.name == entry.encoder
        frozen = record.frozen is None or record.frozen.ok
        if mine and frozen and record.status == "success" and score is not None and score.value is not None:
            found.append(Scored(entry, path.stem, record, score, score.value))
    return found


@lru_cache(maxsize=4096)
def _read(path: Path, _changed: int) -> Record | None:
    """A record, read once as long as the file is not replaced."""
    try:
        return read_record(path)
    except ResultsError:
        return None
