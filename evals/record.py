"""Result records: one JSON file an encoder x weights x benchmark x protocol, the only input of every table.

The schema number grows only by addition: older records are read, newer ones are refused.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from evals.errors import NewerRecordError, ResultsError
from evals.files import write_atomic

SCHEMA_VERSION = 1
Status = Literal["planned", "running", "success", "error", "skipped", "unavailable"]
Parameters = Mapping[str, Any]
_LONGEST = 120
"""Characters of a folder's name; file systems take 255 bytes."""


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """Who was scored, and on what terms."""

    name: str
    source: str
    """The adapter: a module of `evals.encoders.sources`, or of an installed package."""
    model: str
    """The name of the architecture in the library of that adapter."""
    weights: str
    """`hub`, `random`, `none` (nothing to load), or the file's name."""
    weights_sha256: str
    """Identity of the weights: digest of the file (local or the hub's; for a model of transformers with that of its
    configuration), or of architecture, seed and versions."""
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
    """What the entry says: filter, resize, mean, std, rules of positions, prefix and norm. It moves scores."""
    structure: Parameters = field(default_factory=dict)
    """What the adapter found in the model that it built: prefix tokens, final norm, positions, other globals."""
    gated: bool = False
    """The hub gives the weights only on request."""
    revision: str | None = None
    """The commit of the hub's repository that the weights came from."""
    text_side: Parameters = field(default_factory=dict)
    """`tower`: the encoder whose text tower meets the images, with its `model` and `weights_sha256`; `tokenizer`: the
    sha256 of its files, or the library that it comes with. None for what was not known; empty without text."""

    def same_features(self, other: "EncoderCard") -> bool:
        """Nothing that can move a feature of an image differs."""
        mine, theirs = (
            (card.source, card.model, card.weights_sha256, card.patch, card.size, card.global_feature, dict(card.spec))
            for card in (self, other)
        )
        return mine == theirs

    def same_text(self, other: "EncoderCard") -> bool:
        """Nothing that can move a text vector differs; what `other` does not know is not said to."""
        known = {key: value for key, value in other.text_side.items() if value is not None}
        return self.text == other.text and known == {key: self.text_side.get(key) for key in known}


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
    """A name as one folder: `timm:vit_tiny` -> `timm-vit_tiny`; a very long one is cut, with a digest of the whole."""
    safe = "".join(c if c.isalnum() or c in "._-@" else "-" for c in name).lstrip(".-") or "encoder"
    return safe if len(safe) <= _LONGEST else f"{safe[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_record(path: Path, record: Record) -> None:
    """Write the record whole or not at all."""
    write_atomic(path, record.to_json().encode())


def read_record(path: Path) -> Record:
    """Read a record. Raises NewerRecordError for one of a newer schema, ResultsError for a broken file."""
    try:
        raw = json.loads(path.read_text(), parse_constant=_not_json)
        version = _value(int, raw.get("schema_version"), "schema_version") if isinstance(raw, dict) else SCHEMA_VERSION
        if version > SCHEMA_VERSION:
            raise NewerRecordError(
                f"{path} has schema {version}; this version reads up to {SCHEMA_VERSION}. Upgrade eupe-eval."
            )
        record: Record = _value(Record, raw, "record")
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise ResultsError(
            f"{path} is not a result record ({error}). Running that benchmark again replaces it."
        ) from error
    return record


def read_records(results: Path) -> Iterator[tuple[Path, Record | ResultsError]]:
    """Every record below a results folder in the order of their paths, or why it cannot be read."""
    for path in sorted(results.glob("*/*/*@*.json")):
        try:
            yield path, read_record(path)
        except ResultsError as error:
            yield path, error


def _value(kind: Any, raw: Any, where: str) -> Any:
    """What JSON gave, as a value of that type. Raises ValueError naming the place."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if raw is None else _value(inner[0], raw, where)
    if dataclasses.is_dataclass(kind) and isinstance(raw, dict):
        return _part(kind, raw, where)
    if origin is tuple and isinstance(raw, list):
        return tuple(_value(inner[0], item, f"{where}[{at}]") for at, item in enumerate(raw))
    if origin is Mapping and isinstance(raw, dict):
        return {key: _value(inner[1], item, f"{where}.{key}") for key, item in raw.items()}
    if kind is Any or (origin is Literal and raw in inner) or _is_plain(kind, raw):
        return raw
    expected = " or ".join(map(str, inner)) if origin is Literal else getattr(kind, "__name__", kind)
    raise ValueError(f"{where}: expected {expected}, got {raw!r:.60}")


def _part(kind: Any, raw: Mapping[str, Any], where: str) -> Any:
    """A dataclass from its JSON; keys that it does not know were added later and are passed over."""
    types = get_type_hints(kind)
    needed = [
        item.name
        for item in dataclasses.fields(kind)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in needed if name not in raw]:
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    return kind(**{name: _value(types[name], item, f"{where}.{name}") for name, item in raw.items() if name in types})


def _is_plain(kind: Any, raw: Any) -> bool:
    """JSON's numbers are finite here, `true` is no number, and a whole number may stand for a fraction."""
    if isinstance(raw, bool):
        return kind is bool
    if kind is float:
        return isinstance(raw, int | float) and math.isfinite(raw)
    return kind in (int, str) and isinstance(raw, kind)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no score")
