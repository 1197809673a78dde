"""Learning rates, counted by hand."""

import pytest

from eupe.schedules import CosineRate


def test_the_scaling_rule_of_the_released_configuration() -> None:
    """2e-5 at a batch of 8192 is 2.26e-4, 1e-5 at 4096 is 8e-5."""
    assert CosineRate(2e-5, 390_000).peak(8192) == pytest.approx(2.263e-4, rel=1e-3)
    assert CosineRate(1e-5, 100_000).peak(4096) == pytest.approx(8e-5)
    assert CosineRate(3e-4, 10, scaling="linear_256").peak(512) == pytest.approx(6e-4)
    assert CosineRate(3e-4, 10, scaling="none").peak(512) == 3e-4


def test_warm_up_then_cosine() -> None:
    """Linear to the peak, half of it in the middle, the final share at the last step."""
    rate = CosineRate(1.0, steps=101, warmup=1, final=1e-6, scaling="none")
    assert rate.at(0, 1) == 1.0
    assert rate.at(1, 1) == pytest.approx(1.0)
    assert rate.at(50, 1) == pytest.approx(0.5, abs=0.02)
    assert rate.at(100, 1) == pytest.approx(1e-6)
    slow = CosineRate(1.0, steps=100, warmup=4, scaling="none")
    assert [slow.at(step, 1) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
