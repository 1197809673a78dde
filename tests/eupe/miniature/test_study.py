"""The table of the study: means, standard errors and paired differences, counted by hand and against scipy."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from eupe.miniature import study
from eupe.miniature.study import READING, SUITE, Column, collect, mean_and_error, table
from evals.encoders.card import identity
from evals.encoders.registry import resolve
from evals.errors import ResultsError
from evals.files import DigestMemo
from evals.record import Score, record_path, write_record
from tests.evals.encoders.exporting import write
from tests.evals.test_record import CARD, TASK, record

KNN, RMSE = Column("in1k-knn", "percent", True), Column("nyuv2-linear", "m", False)


def test_mean_and_standard_error() -> None:
    """(1, 2, 6): mean 3, deviation sqrt(7), error sqrt(7 / 3); one value has none."""
    mean, error = mean_and_error([1.0, 2.0, 6.0])
    assert (mean, error) == (3.0, pytest.approx(math.sqrt(7 / 3)))
    assert error == pytest.approx(stats.sem([1.0, 2.0, 6.0]))
    assert math.isnan(mean_and_error([4.0])[1])


def test_differences_are_paired_by_seed() -> None:
    """Arms that swing together by seed differ clearly, though their own errors overlap; what is not clear is plain."""
    found = {
        KNN: {"a": {0: 10.0, 1: 20.0, 2: 30.0}, "b": {2: 32.0, 0: 11.0, 1: 22.0}},
        RMSE: {"a": {0: 1.0, 1: 1.2, 2: 1.1}, "b": {0: 1.1, 1: 1.0, 2: 1.2}},
    }
    lines = table(found, [("b", "a")]).splitlines()
    assert lines[0] == "| arm | in1k-knn, percent ↑ | nyuv2-linear, m ↓ |"
    assert lines[2] == "| a | 20.0 ± 5.8 | 1.100 ± 0.058 |"
    assert lines[4] == "| b - a | **+1.7** ± 0.3 | +0.000 ± 0.100 |"


def test_a_difference_is_clear_by_students_t() -> None:
    """The quantiles are those of scipy; three seeds three errors apart are not clear, and many seeds are."""
    assert tuple(round(float(stats.t.ppf(0.975, freedom)), 3) for freedom in range(1, 10)) == study._QUANTILES
    values = {seed: 3.0 + swing for seed, swing in enumerate((-math.sqrt(3), 0.0, math.sqrt(3)))}
    found = {KNN: {"a": dict.fromkeys(values, 0.0), "b": values}}
    assert "| b - a | +3.0 ± 1.0 |" in table(found, [("b", "a")])
    many = dict(enumerate([*values.values()] * 4))
    assert "**+3.0**" in table({KNN: {"a": dict.fromkeys(many, 0.0), "b": many}}, [("b", "a")])


def test_scores_are_collected_by_arm_and_seed(tmp_path: Path) -> None:
    """From the records of exactly these weights: another export of the same name beside them is left alone."""
    results, export = tmp_path / "results", tmp_path / "run" / "export"
    write(export)
    entry = resolve(str(export))
    for digest, value in ((identity(entry, DigestMemo(None)), 40.0), ("f" * 64, 99.0)):
        for name in SUITE:
            made = replace(
                record(),
                encoder=replace(CARD, name=entry.name, weights_sha256=digest),
                task=replace(TASK, name=name),
                metrics=(Score("top1", value, "percent", True, True, None),),
            )
            write_record(record_path(results, made.encoder, made.task, made.standard), made)
    (export.parent / "skills.json").write_text(json.dumps({READING: 0.25}))
    found = collect({("a", 7): export}, results)
    assert found == {
        **{Column(name, "percent", True): {"a": {7: 40.0}} for name in SUITE},
        Column(READING, "percent", True): {"a": {7: 25.0}},
    }


def test_a_missing_score_is_told(tmp_path: Path) -> None:
    """No table is made of what is not there."""
    write(tmp_path / "export")
    with pytest.raises(ResultsError, match="has 0 scores of in1k-knn"):
        collect({("a", 0): tmp_path / "export"}, tmp_path / "results")
