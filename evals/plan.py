"""What is left to do: reads no image, builds no encoder, imports no torch."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from evals.benchmarks.base import Benchmark
from evals.context import Context
from evals.datasets.base import Split
from evals.encoders.card import card
from evals.encoders.clip.vocabulary import require_text
from evals.encoders.entry import EncoderEntry
from evals.environment import cpu_name
from evals.errors import DataError, EvalError, Missing, NewerRecordError, ResultsError, UnavailableError
from evals.record import DatasetCard, EncoderCard, Record, Task, read_record, record_path

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
    missing: Missing | None = None
    """What is not here, of a step that is unavailable."""

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
        described = [_step(entry, who, item, loaded[item[1].id], context) for item in benchmarks]
        steps += [_settled(step, overwrite) for step in described]
    context.digests.save()
    return steps


def same_thing(record: Record, step: Step) -> bool:
    """A record of the same features, constants, data and, where they are read, texts as a step.

    Data that cannot be read are not said to differ.
    """
    assert step.card is not None and step.task is not None
    same_data = step.dataset is None or (record.dataset and record.dataset.fingerprint) == step.dataset.fingerprint
    same_task = record.task.version == step.task.version and _plain(record.task.params) == _plain(step.task.params)
    same_text = not step.benchmark.reads_text or record.encoder.same_text(step.card)
    return same_data and same_task and same_text and record.encoder.same_features(step.card)


def _load(benchmark: Benchmark, context: Context) -> tuple[Split, ...] | EvalError:
    try:
        return benchmark.splits(context.roots, context.digests)
    except EvalError as error:
        return error
    # A data set may fail in ways that nobody foresaw; what does not read it must still run.
    except Exception as error:  # noqa: BLE001
        return DataError(f"the data of {benchmark.id} cannot be loaded: {type(error).__name__}: {error}")


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
) -> Step:
    """The step, as if nothing were on disk."""
    protocol, benchmark = item
    step = Step(entry, benchmark, protocol, "error")
    if isinstance(who, EvalError):
        return _stopped(step, who)
    task = _task(benchmark, protocol, context)
    step = replace(step, card=who, task=task, standard=not task.changed)
    if reason := benchmark.skip(who):
        path = record_path(context.results, who, task, step.standard)
        return replace(step, state="skipped", message=reason, path=path)
    missing = splits if isinstance(splits, EvalError) else _text(entry, benchmark)
    if missing is not None:
        return _stopped(replace(step, path=record_path(context.results, who, task, step.standard)), missing)
    assert not isinstance(splits, EvalError)
    dataset = _dataset(splits, context)
    standard = step.standard and benchmark.complete(protocol, splits, context.roots.world)
    path = record_path(context.results, who, task, standard, dataset)
    return replace(step, state="todo", splits=splits, dataset=dataset, standard=standard, path=path)


def _text(entry: EncoderEntry, benchmark: Benchmark) -> EvalError | None:
    """Why prompts cannot be encoded: found before any image has gone through."""
    try:
        if benchmark.reads_text:
            require_text(entry)
    except EvalError as error:
        return error
    return None


def _settled(step: Step, overwrite: bool) -> Step:
    """The step in the light of the record that is there: one of a later version is not touched, a good one is done."""
    if step.path is None or not step.path.is_file():
        return step
    try:
        record = read_record(step.path)
    except NewerRecordError as error:
        return replace(step, state="error", message=str(error))
    except ResultsError:
        return step
    done = step.state == "todo" and not overwrite and _up_to_date(record, step)
    return replace(step, state="done") if done else step


def _task(benchmark: Benchmark, protocol: str, context: Context) -> Task:
    changed = benchmark.changed(protocol)
    if context.seed:
        # Another seed is another draw of the same protocol: kept in a file of its own, off the standard table.
        changed["seed"] = context.seed
    params = {**benchmark.params(), **benchmark.contents(), "seed": context.seed}
    return Task(benchmark.id, benchmark.version, protocol, params, changed)


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


def _up_to_date(record: Record, step: Step) -> bool:
    """A whole, successful record of the same thing."""
    assert step.path is not None
    # Another machine has other latencies.
    same_place = step.benchmark.family != "cost" or record.environment.get("cpu") == cpu_name()
    whole = all((step.path.parent / artifact.path).is_file() for artifact in record.artifacts)
    return record.status == "success" and same_thing(record, step) and same_place and whole


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Constants as JSON gives them back."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in params.items()}


def _stopped(step: Step, error: EvalError) -> Step:
    """The step that an error keeps from being done."""
    if isinstance(error, UnavailableError):
        return replace(step, state="unavailable", message=str(error), missing=error.missing)
    return replace(step, state="error", message=str(error))
