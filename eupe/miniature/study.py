"""The study of the embedded family: every arm scored on the embedded world's benchmarks, and the table of them.

Arms share experts, proxy, lessons and student; a seed gives weights and order of images, the same to every arm.
"""

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eupe.miniature.retention import skills_of
from evals.encoders.card import identity
from evals.encoders.registry import resolve
from evals.errors import ResultsError
from evals.files import DigestMemo, write_atomic
from evals.record import read_records, safe_name

SUITE = ("in1k-knn", "in1k-zeroshot", "ade20k-linear", "nyuv2-linear", "spair-pck")
READING = "reading"
"""The column of a skill that no benchmark of the suite asks for, from a probe on held-out lessons."""
FILE = "study.md"
_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Of Student's t by degrees of freedom from 1: 95 % lie within, on both sides together. More seeds take the last."""


@dataclass(frozen=True, slots=True)
class Column:
    """A benchmark of the table."""

    name: str
    unit: str
    higher_is_better: bool


Values = Mapping[str, Mapping[int, float]]
"""Arm -> seed -> value."""


def score(ends: Mapping[tuple[str, int], Path], pairs: Sequence[tuple[str, str]], out: Path, lessons: Path) -> str:
    """Score every end that has no scores yet; the table, which is also written to `out`.

    Raises ResultsError where a benchmark fails.
    """
    results = out / "results"
    evaluate(ends, results)
    measure_reading(ends, lessons)
    made = table(collect(ends, results), pairs)
    write_atomic(out / FILE, (made + "\n").encode())
    return made


def evaluate(ends: Mapping[tuple[str, int], Path], results: Path) -> None:
    """Score every export that has no scores yet; an interrupted call goes on. Raises ResultsError where one fails."""
    for (arm, seed), export in ends.items():
        words = [sys.executable, "-m", "evals", "run", "--encoder", str(export), "--data", "miniature"]
        words += ["--results", str(results), *(part for name in SUITE for part in ("-b", name))]
        if subprocess.run(words, check=False).returncode:  # noqa: S603
            raise ResultsError(f"the benchmarks of {arm}, seed {seed} failed; see what was printed above.")


def measure_reading(ends: Mapping[tuple[str, int], Path], root: Path) -> None:
    """The skills of every export, measured once and kept beside it."""
    for export in ends.values():
        path = export.parent / "skills.json"
        if not path.is_file():
            write_atomic(path, json.dumps(skills_of(export, root), indent=1).encode())


def collect(ends: Mapping[tuple[str, int], Path], results: Path) -> dict[Column, dict[str, dict[int, float]]]:
    """Every score by column, arm and seed. Raises ResultsError for one that is missing."""
    found: dict[Column, dict[str, dict[int, float]]] = {}
    for (arm, seed), export in ends.items():
        entry = resolve(str(export))
        folder = results / safe_name(entry.name) / identity(entry, DigestMemo(None))[:12]
        records = [
            record
            for path, record in read_records(results)
            if path.parent == folder and not isinstance(record, ResultsError)
        ]
        for name in SUITE:
            scores = [record.primary for record in records if record.task.name == name and record.status == "success"]
            if len(scores) != 1 or scores[0] is None or scores[0].value is None:
                raise ResultsError(
                    f"{folder} has {len(scores)} scores of {name}; one was expected. Run the study again."
                )
            column = Column(name, scores[0].unit, scores[0].higher_is_better)
            found.setdefault(column, {}).setdefault(arm, {})[seed] = scores[0].value
        skills = json.loads((export.parent / "skills.json").read_text())
        found.setdefault(Column(READING, "percent", True), {}).setdefault(arm, {})[seed] = 100 * skills[READING]
    return found


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and the standard error of the mean (nan for a single value)."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def table(found: Mapping[Column, Values], pairs: Sequence[tuple[str, str]]) -> str:
    """Arms by benchmarks, then the paired differences of some arms over seeds, as markdown."""
    columns = list(found)
    arms = list(next(iter(found.values())))
    seeds = sorted(next(iter(next(iter(found.values())).values())))
    head = ["arm", *(f"{column.name}, {column.unit} {'↑' if column.higher_is_better else '↓'}" for column in columns)]
    rows = [
        [arm, *(_shown(list(found[column][arm].values()), column, sign=False) for column in columns)] for arm in arms
    ]
    for one, other in pairs:
        differences = ([found[column][one][seed] - found[column][other][seed] for seed in seeds] for column in columns)
        shown = [_shown(each, column, sign=True) for each, column in zip(differences, columns, strict=True)]
        rows.append([f"{one} - {other}", *shown])
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] + ["---:"] * len(columns), *rows))


def _shown(values: Sequence[float], column: Column, *, sign: bool) -> str:
    mean, error = mean_and_error(values)
    places = 1 if column.unit == "percent" else 3
    text = f"{mean:{'+' if sign else ''}.{places}f}"
    if math.isnan(error):
        return text
    # A difference whose 95 % interval (Student's t: few seeds, unknown spread) leaves out nothing stands out.
    within = _QUANTILES[min(len(values) - 1, len(_QUANTILES)) - 1]
    clear = "**" if sign and abs(mean) > within * error else ""
    return f"{clear}{text}{clear} ± {error:.{places}f}"
