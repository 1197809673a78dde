"""Learning rates and momenta at the landmarks of the published schedules."""

import math
from functools import partial

import pytest

from evals.probes.schedules import depth_beta1, depth_rate, segmentation_rate

ade20k = partial(segmentation_rate, peak=1e-3, steps=40_000, warmup=1_500)
nyuv2 = partial(depth_rate, peak=3e-4, steps=38_400, warmup=12_800)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 1e-9), (1, 1e-9), (1_500, 9.6188e-4), (1_501, 9.9653e-4), (39_999, 1.5e-12)],
)
def test_segmentation_landmarks(step: int, rate: float) -> None:
    """Both ends, and both sides of the jump at the end of the warm-up."""
    assert ade20k(step) == pytest.approx(rate, rel=3e-2 if rate < 1e-10 else 2e-5)


def test_segmentation_halfway() -> None:
    """Step 751 has s = 750, half the warm-up: 1 - (1 - r) / 2 of the peak, times 1 - 750 / 40,000."""
    expected = 1e-3 * (0.5 + 0.5e-6) * (1 - 750 / 40_000)
    assert ade20k(751) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("step", "rate"), [(0, 3e-7), (12_799, 2.253e-4), (38_399, 1.2e-8)])
def test_depth_landmarks(step: int, rate: float) -> None:
    """A thousandth at the start, the peak at the last step of the warm-up, a 25,000th at the end."""
    assert nyuv2(step) == pytest.approx(rate, rel=1e-3)


def test_depth_rate_is_highest_before_the_jump() -> None:
    """The rate peaks at step 12,799."""
    rates = [nyuv2(step) for step in range(38_400)]
    assert max(range(len(rates)), key=rates.__getitem__) == 12_799


def test_depth_rate_after_the_warmup() -> None:
    """Step 19,199 is half of the cosine: midway between the peak and its floor."""
    assert nyuv2(19_199) == pytest.approx((3e-4 + 1.2e-8) / 2, rel=1e-12)


@pytest.mark.parametrize(("step", "beta"), [(0, 0.0), (12_799, 0.0), (12_800, 0.85), (25_600, 0.9), (38_400, 0.95)])
def test_depth_momentum(step: int, beta: float) -> None:
    """0 in the warm-up, then from 0.85 to 0.95 along a cosine."""
    assert depth_beta1(step, steps=38_400, warmup=12_800) == pytest.approx(beta, abs=1e-12)


def test_schedules_scale_with_their_length() -> None:
    """A tenth of the steps and of the warm-up: the same depth rate at a tenth of the step."""
    assert depth_rate(640, peak=3e-4, steps=3_840, warmup=1_280) == pytest.approx(nyuv2(6_400), rel=1e-12)
    assert math.isclose(depth_beta1(2_560, steps=3_840, warmup=1_280), 0.9)
