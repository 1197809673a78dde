"""Depth errors counted by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_percentage_error, root_mean_squared_error

from evals.metrics.depth import depth_errors, scaled, valid_mask


def frame(value: float, rows: int = 480, columns: int = 640) -> np.ndarray:
    """A depth map of one value."""
    return np.full((rows, columns), value, np.float32)


def test_the_eigen_crop() -> None:
    """Rows 45 .. 470 and columns 41 .. 600, both included."""
    mask = valid_mask(frame(3.0))
    assert mask.sum() == 426 * 560
    assert mask[45, 41] and mask[470, 600]
    assert not mask[44, 41] and not mask[471, 600] and not mask[45, 40] and not mask[470, 601]


def test_the_crop_scales_with_the_frame() -> None:
    """A quarter of the size: rows 11 .. 117, columns 10 .. 149."""
    rows, columns = np.nonzero(valid_mask(frame(3.0, 120, 160)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 117, 10, 149)
    assert scaled(384, 120, 480) == 96


@pytest.mark.parametrize(
    ("depth", "scored"), [(0.0, False), (0.001, False), (0.002, True), (9.999, True), (10.0, False), (12.0, False)]
)
def test_truth_beyond_the_range_is_not_scored(depth: float, scored: bool) -> None:
    """Missing, 1 mm and below, 10 m and beyond."""
    assert valid_mask(frame(depth)).any() == scored


def test_errors_by_hand() -> None:
    """Three scored pixels: 2 -> 2, 4 -> 5 (a factor of exactly 1.25 does not count), 1 -> 4."""
    truth, prediction = frame(0.0), frame(7.0)
    truth[100, 100:103] = 2, 4, 1
    prediction[100, 100:103] = 2, 5, 4
    a1, abs_rel, rmse = depth_errors(prediction, truth)
    assert a1 == pytest.approx(1 / 3)
    assert abs_rel == pytest.approx((0 + 1 / 4 + 3) / 3)
    assert rmse == pytest.approx(math.sqrt((0 + 1 + 9) / 3))


def test_predictions_are_clamped() -> None:
    """15 m counts as 10 m, and -1 m as 1 mm."""
    truth = frame(0.0)
    truth[100, 100] = 9.0
    assert depth_errors(frame(15.0), truth) == pytest.approx((1.0, 1 / 9, 1.0))
    assert depth_errors(frame(-1.0), truth)[2] == pytest.approx(8.999)


def test_an_image_without_truth_has_no_errors() -> None:
    """NaN, never zero."""
    assert all(math.isnan(value) for value in depth_errors(frame(3.0), frame(0.0)))


def test_equal_to_scikit_learn() -> None:
    """Both means over the pixels of the Eigen crop."""
    rng = np.random.default_rng(0)
    truth, prediction = (rng.uniform(0.5, 9.5, (480, 640)).astype(np.float32) for _ in range(2))
    window = slice(45, 471), slice(41, 601)
    _, abs_rel, rmse = depth_errors(prediction, truth)
    assert rmse == pytest.approx(root_mean_squared_error(truth[window].ravel(), prediction[window].ravel()), rel=1e-5)
    theirs = mean_absolute_percentage_error(truth[window].ravel(), prediction[window].ravel())
    assert abs_rel == pytest.approx(theirs, rel=1e-5)
