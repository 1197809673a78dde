"""What the tests of encoders share: errors of files that do not fit come without advice, unless it is asked for."""

import pytest


@pytest.fixture
def advised() -> None:
    """The names of entries that a file would fit stand in the error, as for a user."""


@pytest.fixture(autouse=True)
def unadvised(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying the entries takes longer than the rest of a test, and says nothing of what is wrong with the file."""
    if "advised" not in request.fixturenames:
        monkeypatch.setattr("evals.encoders.load.advice", lambda entry: "")
