"""The whole flow: evaluate what is left to do, write each record when its benchmark ends."""

import hashlib
import io
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.benchmarks.base import Job, Outcome
from evals.context import Context
from evals.encoders.entry import EncoderEntry
from evals.environment import describe as describe_environment
from evals.environment import peak_memory
from evals.errors import EvalError, NewerRecordError, ResultsError, UnavailableError
from evals.files import write_atomic
from evals.plan import Step, same_thing
from evals.record import Artifact, Frozen, Record, Status, read_record, write_record

if TYPE_CHECKING:
    from evals.features import FeatureStore
    from evals.types import Encoder


def evaluate(
    steps: Sequence[Step], context: Context, bench: "Bench | None" = None
) -> Iterator[tuple[Step, Record | None]]:
    """Do the steps in order; yields each with its record when that is on disk (None: nothing was computed).

    A failed benchmark is a record with status `error` and does not stop the others. `bench` is an encoder that is
    loaded already.
    """
    for step in steps:
        if step.state != "todo":
            yield step, _without_computing(step, context)
            continue
        if bench is None or bench.entry != step.entry:
            bench = Bench(step.entry, context, steps)
        yield step, bench.run(step)


class Bench:
    """One encoder, loaded once, and its features."""

    def __init__(self, entry: EncoderEntry, context: Context, steps: Sequence[Step]) -> None:
        self.entry, self._context = entry, context
        self._todo = [step for step in steps if step.state == "todo" and step.entry == entry]
        self._encoder: Encoder | None = None
        self._digest = ""
        self._stores: dict[str, FeatureStore] = {}

    def estimate(self) -> tuple[int, float]:
        """Forward passes to come, and the seconds they will take here."""
        import torch

        from evals.estimate import seconds

        encoder = self._load()
        works = [work for step in self._todo for work in step.benchmark.work(encoder.spec, step.splits)]
        device = torch.device(self._context.device)
        return sum(work.images for work in works), seconds(encoder, works, device, self._context.batch)

    def run(self, step: Step) -> Record:
        """Score the encoder on one benchmark and write the record."""
        started, who = time.monotonic(), step.card
        assert step.path is not None and step.task is not None and who is not None, "planned steps are complete"
        frozen, outcome, error = None, None, None
        try:
            encoder = self._load()
            who = encoder.card
            outcome, frozen = self._score(encoder, step)
        except EvalError as failure:
            error = _describe(failure)
        # A benchmark may fail in ways that nobody foresaw; the others must still run, and the record keeps the trace.
        except Exception as failure:  # noqa: BLE001
            error = {**_describe(failure), "traceback": traceback.format_exc()}
        status = _status(error)
        record = Record(
            status=status,
            created=_now(),
            encoder=who,
            task=step.task,
            standard=step.standard,
            dataset=step.dataset,
            metrics=outcome.metrics if outcome else (),
            frozen=frozen,
            preprocess=outcome.preprocess if outcome else {},
            notes=outcome.notes if outcome else {},
            seeds={"run": self._context.seed},
            environment=describe_environment(self._context.device),
            cost=_cost(started, self._context),
            lineage=self.entry.lineage(),
            reason=error["missing"] if error and status == "unavailable" else None,
            error=error,
        )
        return _write(step, record, outcome)

    def _load(self) -> "Encoder":
        from evals.device import exact_arithmetic
        from evals.encoders.load import digest, load

        if self._encoder is None:
            exact_arithmetic()
            self._encoder = load(self.entry, self._context.digests).to(self._context.device)
            self._digest = digest(self._encoder)
        return self._encoder

    def _score(self, encoder: "Encoder", step: Step) -> tuple[Outcome, Frozen]:
        from evals.encoders.load import digest
        from evals.errors import WeightsError

        before = self._digest
        folder = self._checkpoints(step, before)
        outcome = step.benchmark.run(
            Job(encoder, self._store(encoder, step.benchmark.dtype), step.splits, self._context, folder)
        )
        after = digest(encoder)
        if after != before:
            # Neither this encoder nor what was computed with it may serve the next benchmark.
            self._encoder, self._stores = None, {}
            raise WeightsError(
                f"{encoder.card.name} changed while {step.benchmark.id} ran (digest {before[:12]} -> {after[:12]}): "
                "the score is not that of a frozen encoder. The adapter must not write to parameters or buffers."
            )
        shutil.rmtree(folder, ignore_errors=True)
        return outcome, Frozen(before, after, ok=True)

    def _store(self, encoder: "Encoder", dtype: str) -> "FeatureStore":
        """The features, with the requests of every benchmark to come announced, so that passes are shared."""
        from evals.features import FeatureStore

        if dtype not in self._stores:
            store = FeatureStore(encoder, self._context, dtype)
            for step in self._todo:
                if step.benchmark.dtype == dtype:
                    store.announce(step.benchmark.requests(encoder.spec, step.splits))
            self._stores[dtype] = store
        return self._stores[dtype]

    def _checkpoints(self, step: Step, weights: str) -> Path:
        assert step.task is not None
        data = step.dataset.fingerprint if step.dataset else ""
        key = repr((step.task.name, step.task.version, sorted(step.task.params.items()), weights, data))
        key += f"{self._context.seed} {self._context.device.split(':')[0]}"
        return self._context.cache / "work" / hashlib.sha256(key.encode()).hexdigest()[:24]


def _without_computing(step: Step, context: Context) -> Record | None:
    """The record of a step that needs no computing; None where the weights are unknown and no record can be filed."""
    assert step.state != "todo"
    if step.path is None or step.card is None or step.task is None:
        return None
    if step.state == "done":
        return read_record(step.path)
    status: Status = step.state
    reason = step.message if status == "skipped" else step.missing
    record = Record(
        status=status,
        created=_now(),
        encoder=step.card,
        task=step.task,
        standard=step.standard,
        seeds={"run": context.seed},
        environment=describe_environment(None),
        reason=reason,
        error=None if status == "skipped" else {"message": step.message},
    )
    return _write(step, record, None)


def _write(step: Step, record: Record, outcome: Outcome | None) -> Record:
    """Write per-sample outputs, then the record that names them.

    Only a success replaces a success of the same thing, nothing replaces the record of a later version, and a record
    that says what the one on disk says is not written again.
    """
    path = step.path
    assert path is not None, "only steps with a place have records"
    try:
        earlier = read_record(path) if path.is_file() else None
    except NewerRecordError as failure:
        return replace(record, status="error", metrics=(), reason=None, error=_describe(failure))
    except ResultsError:
        earlier = None
    if earlier and record.status != "success":
        if earlier.status == "success" and same_thing(earlier, step):
            return record
        if replace(record, created=earlier.created).to_json() == path.read_text():
            return earlier
    if outcome and outcome.samples:
        relative = f"predictions/{path.stem}.npz"
        data = _npz(outcome.samples)
        write_atomic(path.parent / relative, data)
        record = replace(record, artifacts=(Artifact(relative, hashlib.sha256(data).hexdigest()),))
    write_record(path, record)
    return record


def _npz(samples: Mapping[str, Any]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **samples)
    return buffer.getvalue()


def _describe(error: Exception) -> dict[str, Any]:
    described: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, UnavailableError):
        described["missing"] = error.missing
    return described


def _status(error: Mapping[str, Any] | None) -> Status:
    if error is None:
        return "success"
    return "unavailable" if "missing" in error else "error"


def _cost(started: float, context: Context) -> dict[str, Any]:
    return {
        "wall_s": round(time.monotonic() - started, 3),
        "peak_mem_bytes": peak_memory(context.device),
        "batch_size": context.batch,
        "workers": context.workers,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
