"""Columns: one benchmark under one protocol, in one version, on one copy of the data.

A metric of `cost` has a column of its own, and a latency one for each machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

from evals.record import DatasetCard, Record, Score

Family = Literal["image", "dense", "vlm", "cost", "other"]

BENCHMARKS: Mapping[str, tuple[Family, str]] = {
    "in1k-knn": ("image", "IN1k-KNN"),
    "in1k-zeroshot": ("image", "IN1k-ZS"),
    "ade20k-linear": ("dense", "ADE20k"),
    "nyuv2-linear": ("dense", "NYUv2"),
    "spair-pck": ("dense", "SPair"),
    "textvqa": ("vlm", "TextVQA"),
    "sqa": ("vlm", "SQA"),
    "realworldqa": ("vlm", "RealworldQA"),
    "pope": ("vlm", "POPE"),
    "gqa": ("vlm", "GQA"),
    "mme": ("vlm", "MMEp"),
    "cost": ("cost", "cost"),
}
"""Benchmark id -> family and column title, in the order of the columns; an id that is not here goes last."""
COST: Mapping[str, str] = {
    "params": "params M",
    "gflops@256": "GFLOPs@256",
    "gflops@512": "GFLOPs@512",
    "latency@256": "latency@256 ms",
    "latency@512": "latency@512 ms",
}
"""Metrics of `cost` that have a column each; the other benchmarks show their primary metric alone."""
_FAMILIES: tuple[str, ...] = get_args(Family)
_DECIMALS = {"m": 3}
"""Printed decimals by unit, as in the paper; one for every other unit."""
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Key(NamedTuple):
    """What the scores of one column share."""

    benchmark: str
    protocol: str
    version: int
    metric: str
    """Empty: the primary metric."""
    data: str
    """Fingerprint of the data; empty where there are none or nothing was computed."""
    hardware: str
    """What a latency was measured on; empty for every other metric."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column and where its scores come from."""

    key: Key
    title: str
    family: Family
    lower_is_better: bool
    machine: str
    """Mark of the hardware, for latencies; else empty."""
    score: Score | None
    """One of its scores, for name and unit."""
    dataset: DatasetCard | None


def columns(records: Sequence[Record]) -> tuple[Column, ...]:
    """The columns that these records fill, in the order of the table."""
    return _titled([_column(key, records) for key in _keys(records)])


def matches(record: Record, key: Key) -> bool:
    """The record has something to say in that column: a score, or why there is none."""
    task, data = record.task, record.dataset.fingerprint if record.dataset else ""
    if (task.name, task.version, task.protocol) != (key.benchmark, key.version, key.protocol):
        return False
    if record.status != "success":
        return not data or data == key.data
    return data == key.data and key.hardware == _hardware(record, key.metric)


def score_of(record: Record, key: Key) -> Score | None:
    """The score that a successful record has for a column; None if it lacks that metric."""
    if not key.metric:
        return record.primary
    return next((score for score in record.metrics if score.name == key.metric), None)


def decimals(score: Score) -> int:
    """Decimals that are printed."""
    return _DECIMALS.get(score.unit, 1)


def _hardware(record: Record, metric: str) -> str:
    """What a latency was measured on; empty for every other metric."""
    return str(record.environment.get("hardware") or "unnamed hardware") if metric.startswith("latency") else ""


def _keys(records: Sequence[Record]) -> list[Key]:
    """The columns, in the order of the table. A record that computed nothing opens one only if there is no other."""
    keys: dict[Key, None] = {}
    for record in sorted(records, key=lambda record: record.status != "success"):
        data = record.dataset.fingerprint if record.dataset else ""
        base = Key(record.task.name, record.task.protocol, record.task.version, "", data, "")
        if record.task.name == "cost":
            shown = [score.name for score in record.metrics if score.name in COST]
            keys |= dict.fromkeys(base._replace(metric=name, hardware=_hardware(record, name)) for name in shown)
        elif data or record.status == "success":
            keys[base] = None
        if not any(key[:3] == base[:3] for key in keys):
            keys[base] = None
    return sorted(keys, key=_place)


def _place(key: Key) -> tuple[Any, ...]:
    benchmarks, metrics = list(BENCHMARKS), list(COST)
    at = benchmarks.index(key.benchmark) if key.benchmark in BENCHMARKS else len(benchmarks)
    metric = metrics.index(key.metric) if key.metric in COST else -1
    return (_FAMILIES.index(_family(key)), at, key.benchmark, key.protocol, key.version, metric, key)


def _family(key: Key) -> Family:
    return BENCHMARKS[key.benchmark][0] if key.benchmark in BENCHMARKS else "other"


def _column(key: Key, records: Sequence[Record]) -> Column:
    named = BENCHMARKS[key.benchmark][1] if key.benchmark in BENCHMARKS else key.benchmark
    mine = [record for record in records if matches(record, key) and record.status == "success"]
    score = next((found for record in mine if (found := score_of(record, key))), None)
    dataset = next((record.dataset for record in mine if record.dataset), None)
    lower = score is not None and not score.higher_is_better
    return Column(key, COST.get(key.metric, named), _family(key), lower, "", score, dataset)


def _titled(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Titles that tell the columns apart: protocol, version, data and machine, each where it differs.

    Protocols of `cost` are named where those of `cost` differ, whatever the other columns follow.
    """
    keys = [column.key for column in columns]
    machines = list(dict.fromkeys(key.hardware for key in keys if key.hardware))
    protocols = {costs: {key.protocol for key in keys if (key.benchmark == "cost") is costs} for costs in (True, False)}
    titled = []
    for column in columns:
        key, title = column.key, column.title
        alike = [other for other in keys if (other.benchmark, other.protocol) == (key.benchmark, key.protocol)]
        title += f"@{key.protocol}" if len(protocols[key.benchmark == "cost"]) > 1 else ""
        title += f" v{key.version}" if len({other.version for other in alike}) > 1 else ""
        title += f" data {key.data[:6]}" if len({other.data for other in alike}) > 1 else ""
        mark = str(machines.index(key.hardware) + 1).translate(_SUPERSCRIPTS) if key.hardware else ""
        titled.append(replace(column, title=title, machine=mark))
    return tuple(titled)
