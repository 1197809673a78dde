"""Vision-language records judged again, from the raw answers that lie beside them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from evals.benchmarks import base
from evals.benchmarks.base_questions import QuestionBenchmark
from evals.errors import ResultsError
from evals.record import Record, read_records, write_record


def rescore(results: Path) -> tuple[list[Path], int]:
    """Judge every successful record of a question benchmark again; (records that changed, how many did not).

    A record that changed is replaced whole, of the version that judged it. Raises ResultsError where raw answers are
    missing or are not those that the record names.
    """
    changed: list[Path] = []
    kept = 0
    for path, record in read_records(results):
        kind = None if isinstance(record, ResultsError) else _kind(record)
        if kind is None or isinstance(record, ResultsError):
            continue
        seed = int(record.seeds.get("run", 0))
        judged = replace(
            record, metrics=kind.rescored(_samples(path, record), seed), task=replace(record.task, version=kind.version)
        )
        if judged.to_json() == record.to_json():
            kept += 1
        else:
            write_record(path, judged)
            changed.append(path)
    return changed, kept


def _kind(record: Record) -> type[QuestionBenchmark] | None:
    """The benchmark of a record that has answers to judge."""
    if record.status != "success" or record.task.name not in base.names():
        return None
    kind = base.find(record.task.name)
    return kind if issubclass(kind, QuestionBenchmark) else None


def _samples(path: Path, record: Record) -> dict[str, np.ndarray]:
    if len(record.artifacts) != 1:
        raise ResultsError(f"{path} names {len(record.artifacts)} files of answers; one was expected. Run it again.")
    (artifact,) = record.artifacts
    file = path.parent / artifact.path
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ResultsError(f"the answers {file} cannot be read: {error.strerror or error}. Run it again.") from error
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        raise ResultsError(f"{file} is not the file that {path.name} names. Restore it, or run that benchmark again.")
    with np.load(file, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
