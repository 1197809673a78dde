"""The table of the study: means, standard errors and paired differences, counted by hand and against scipy."""

import math
from pathlib import Path

import pytest
from scipy import stats

from eupe.miniature.study import Column, collect, mean_and_error, table
from evals.errors import ResultsError
from tests.evals.encoders.exporting import write

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


def test_a_missing_score_is_told(tmp_path: Path) -> None:
    """No table is made of what is not there."""
    write(tmp_path / "export")
    with pytest.raises(ResultsError, match="has 0 scores of in1k-knn"):
        collect({("a", 0): tmp_path / "export"}, tmp_path / "results")
