"""Sizes that patches divide."""

import pytest

from evals.types import nearest_multiple


@pytest.mark.parametrize(
    ("side", "patch", "expected"),
    [(512, 14, 518), (224, 14, 224), (480, 14, 476), (640, 14, 644), (24, 16, 16), (25, 16, 32), (3, 16, 16)],
)
def test_nearest_multiple(side: int, patch: int, expected: int) -> None:
    """Nearest, the smaller one at a tie, never nothing."""
    assert nearest_multiple(side, patch) == expected
