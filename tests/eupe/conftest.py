"""What tests of the trainer share."""

from collections.abc import Iterator

import pytest

from eupe.processes import world


@pytest.fixture(scope="module")
def alone() -> Iterator[None]:
    """A group of this one process."""
    with world("cpu"):
        yield
