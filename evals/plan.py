"""What is left to do: reads no image, builds no encoder, imports no torch."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from evals.benchmarks.base import Benchmark
from evals.context import Context
from evals.datasets.base import Split
from evals.encoders.entry import EncoderEntry, card
from evals.environment import cpu_name
from evals.errors import EvalError, ResultsError, UnavailableError
from evals.record import DatasetCard, EncoderCard, Task, read_record, record_path

State = Literal["todo", "done", "skipped", "unavailable", "error"]


@dataclass(frozen=True, slots=True)
class Step:
    """One benchmark of one encoder, and what is to be done about it."""

    entry: EncoderEntry
    benchmark: Benchmark
    protocol: str
    state: State
    card: EncoderCard | None = None
    splits: tuple[Split, ...] = ()
    path: Path | None = None
    """Where the record is or will be."""
    task: Task | None = None
    dataset: DatasetCard | None = None
    standard: bool = False
    message: str = ""
    """Why there is nothing to compute."""

    @property
    def title(self) -> str:
        """`encoder: benchmark@protocol`."""
        return f"{self.entry.name}: {self.benchmark.id}@{self.protocol}"


def plan(
    entries: Sequence[EncoderEntry],
    benchmarks: Sequence[tuple[str, Benchmark]],
    context: Context,
    *,
    overwrite: bool = False,
) -> list[Step]:
    """The steps of every encoder on every benchmark, in that order, each with what is to be done about it."""
    loaded: dict[str, tuple[Split, ...] | EvalError] = {}
    for _, benchmark in benchmarks:
        loaded[benchmark.id] = _load(benchmark, context)
    steps = []
    for entry in entries:
        who = _card(entry, context)
        steps += [_step(entry, who, item, loaded[item[1].id], context, overwrite) for item in benchmarks]
    context.digests.save()
    return steps


def _load(benchmark: Benchmark, context: Context) -> tuple[Split, ...] | EvalError:
    try:
        return benchmark.splits(context.roots, context.digests)
    except EvalError as error:
        return error


def _card(entry: EncoderEntry, context: Context) -> EncoderCard | EvalError:
    try:
        return card(entry, context.digests)
    except EvalError as error:
        return error


def _step(
    entry: EncoderEntry,
    who: EncoderCard | EvalError,
    item: tuple[str, Benchmark],
    splits: tuple[Split, ...] | EvalError,
    context: Context,
    overwrite: bool,
) -> Step:
    protocol, benchmark = item
    step = Step(entry, benchmark, protocol, "error")
    if isinstance(who, EvalError):
        return replace(step, state=_state(who), message=str(who))
    task = _task(benchmark, protocol, context)
    step = replace(step, card=who, task=task, standard=not task.changed)
    if reason := benchmark.skip(who):
        path = record_path(context.results, who, task, step.standard)
        return replace(step, state="skipped", message=reason, path=path)
    if isinstance(splits, EvalError):
        path = record_path(context.results, who, task, step.standard)
        return replace(step, state=_state(splits), message=str(splits), path=path)
    dataset = _dataset(splits, context)
    standard = step.standard and benchmark.complete(protocol, splits, context.roots.world)
    path = record_path(context.results, who, task, standard, dataset)
    step = replace(step, state="todo", splits=splits, dataset=dataset, standard=standard, path=path)
    return step if overwrite or not _up_to_date(step) else replace(step, state="done")


def _task(benchmark: Benchmark, protocol: str, context: Context) -> Task:
    changed = benchmark.changed(protocol)
    if context.seed:
        # Another seed is another draw of the same protocol: kept in a file of its own, off the standard table.
        changed["seed"] = context.seed
    return Task(benchmark.id, benchmark.version, protocol, {**benchmark.params(), "seed": context.seed}, changed)


def _dataset(splits: Sequence[Split], context: Context) -> DatasetCard | None:
    if not splits:
        return None
    parts = [split.fingerprint for split in splits]
    return DatasetCard(
        name=splits[0].dataset,
        world=context.roots.world,
        splits=tuple(split.split for split in splits),
        fingerprint=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        n_original={split.split: split.n_original for split in splits},
        n_effective={split.split: len(split) for split in splits},
        limited=any(split.limited for split in splits),
    )


def _up_to_date(step: Step) -> bool:
    """A whole, successful record of the same weights, constants and data is there."""
    assert step.path is not None and step.task is not None
    if not step.path.is_file():
        return False
    try:
        record = read_record(step.path)
    except ResultsError:
        return False
    same_data = (record.dataset and record.dataset.fingerprint) == (step.dataset and step.dataset.fingerprint)
    same_encoder = step.card is not None and record.encoder.same_features(step.card)
    # Another machine has other latencies.
    same_place = step.benchmark.family != "cost" or record.environment.get("cpu") == cpu_name()
    same_task = record.task.version == step.task.version and _plain(record.task.params) == _plain(step.task.params)
    whole = all((step.path.parent / artifact.path).is_file() for artifact in record.artifacts)
    return record.status == "success" and same_data and same_encoder and same_place and same_task and whole


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Constants as JSON gives them back."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in params.items()}


def _state(error: EvalError) -> State:
    return "unavailable" if isinstance(error, UnavailableError) else "error"
