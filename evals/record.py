"""Result records: one JSON file an encoder x weights x benchmark x protocol, the only input of every table.

The schema number grows only by addition: older records are read, newer ones are refused.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evals.errors import ResultsError
from evals.files import write_atomic

SCHEMA_VERSION = 1
Status = Literal["planned", "running", "success", "error", "skipped", "unavailable"]
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """Who was scored, and on what terms."""

    name: str
    source: str
    """The adapter: a module of `evals.encoders`."""
    model: str
    """The name of the architecture in the library of that adapter."""
    weights: str
    """`hub`, `random`, `none` (nothing to load), or the file's name."""
    weights_sha256: str
    """Identity of the weights: digest of the file (local or the hub's), or of architecture, seed and versions."""
    licence: str
    patch: int
    size: int
    global_feature: str
    """`cls`, `attn_pool`, `gap_norm`, `pixels` ..., or `none`."""
    text: bool
    random: bool = False
    """The weights were never trained; such rows appear only among the floors."""
    dim: int | None = None
    depth: int | None = None
    params: int | None = None
    spec: Parameters = field(default_factory=dict)
    """What the entry says of an image: filter, resize, mean, std, rounding of rotary periods. It moves scores."""

    def same_features(self, other: "EncoderCard") -> bool:
        """Nothing that can move a feature differs."""
        mine, theirs = (
            (card.source, card.model, card.weights_sha256, card.patch, card.size, card.global_feature, dict(card.spec))
            for card in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What it was scored on."""

    name: str
    world: str | None
    """Identity of the embedded world, None for real data."""
    splits: tuple[str, ...]
    fingerprint: str
    n_original: Mapping[str, int]
    n_effective: Mapping[str, int]
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval and how it was made."""

    low: float
    high: float
    level: float
    method: str
    n: int
    """Resamples."""
    cluster: str
    """The unit that was resampled."""


@dataclass(frozen=True, slots=True)
class Score:
    """One metric. The value is None only where the record's status says why."""

    name: str
    value: float | None
    unit: str
    higher_is_better: bool
    primary: bool = False
    ci: Interval | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Which benchmark, under which protocol, with which constants."""

    name: str
    version: int
    protocol: str
    params: Parameters
    changed: Parameters = field(default_factory=dict)
    """Constants that depart from the protocol; empty for a standard record."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Proof that the encoder did not change: digest of every parameter and buffer before and after."""

    digest_before: str
    digest_after: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file beside the record; the path is relative to the record's folder."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """One result. `standard` means: this protocol's own constants, in fp32, on this protocol's own data, in full."""

    status: Status
    created: str
    encoder: EncoderCard
    task: Task
    standard: bool
    dataset: DatasetCard | None = None
    metrics: tuple[Score, ...] = ()
    frozen: Frozen | None = None
    preprocess: Parameters = field(default_factory=dict)
    notes: Parameters = field(default_factory=dict)
    """What the benchmark resolved or chose, such as the sizes used and the iteration that was reported."""
    seeds: Parameters = field(default_factory=dict)
    environment: Parameters = field(default_factory=dict)
    cost: Parameters = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    lineage: Parameters | None = None
    """Where a checkpoint came from; None for released weights."""
    reason: str | None = None
    """Why it was skipped or is unavailable, in the table's words: `no cls`, `no txt`, `data`, `weights` ..."""
    error: Parameters | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def primary(self) -> Score | None:
        """The score that stands in the table."""
        return next((score for score in self.metrics if score.primary), None)

    def to_json(self) -> str:
        """Stable, indented JSON; NaN and infinity are refused."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"


def record_path(
    results: Path, encoder: EncoderCard, task: Task, standard: bool, dataset: DatasetCard | None = None
) -> Path:
    """`<results>/<encoder>/<weights12>/<benchmark>@<protocol>[-<hash8>].json`.

    The hash of parameters and data keeps every departure from the protocol in a file of its own.
    """
    suffix = ""
    if not standard:
        data = dataset.fingerprint if dataset else None
        recipe = json.dumps([task.version, dict(task.params), data], sort_keys=True, default=str)
        suffix = "-" + hashlib.sha256(recipe.encode()).hexdigest()[:8]
    folder = results / safe_name(encoder.name) / encoder.weights_sha256[:12]
    return folder / f"{task.name}@{task.protocol}{suffix}.json"


def safe_name(name: str) -> str:
    """A name as one folder: `timm:vit_tiny` -> `timm-vit_tiny`."""
    return "".join(c if c.isalnum() or c in "._-@" else "-" for c in name).lstrip(".-") or "encoder"


def write_record(path: Path, record: Record) -> None:
    """Write the record whole or not at all."""
    write_atomic(path, record.to_json().encode())


def read_record(path: Path) -> Record:
    """Read a record. Raises ResultsError for a broken file or one of a newer schema."""
    try:
        raw = json.loads(path.read_text())
        version = raw["schema_version"]
        if version > SCHEMA_VERSION:
            raise ResultsError(
                f"{path} has schema {version}; this version reads up to {SCHEMA_VERSION}. Upgrade eupe-eval."
            )
        return _from_json(raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} is not a result record ({error}). Remove the file and run that benchmark again."
        ) from error


def read_records(results: Path) -> Iterator[tuple[Path, Record]]:
    """Every record below a results folder, in the order of their paths."""
    for path in sorted(results.glob("*/*/*@*.json")):
        yield path, read_record(path)


def _from_json(raw: dict[str, Any]) -> Record:
    known = {f.name for f in dataclasses.fields(Record)}
    fields: dict[str, Any] = {key: value for key, value in raw.items() if key in known}
    fields["encoder"] = EncoderCard(**raw["encoder"])
    fields["task"] = Task(**raw["task"])
    if raw["dataset"] is not None:
        fields["dataset"] = DatasetCard(**{**raw["dataset"], "splits": tuple(raw["dataset"]["splits"])})
    fields["metrics"] = tuple(
        Score(**{**score, "ci": Interval(**score["ci"]) if score["ci"] else None}) for score in raw["metrics"]
    )
    fields["frozen"] = Frozen(**raw["frozen"]) if raw["frozen"] else None
    fields["artifacts"] = tuple(Artifact(**artifact) for artifact in raw["artifacts"])
    return Record(**fields)
