"""What the README says of the code is what the code says."""

import pytest

from tests.contracts import encoder_page, readme


def test_generated_parts_are_current() -> None:
    """Tree and constants equal the sources; `python tests/contracts/readme.py` mends a difference."""
    text = (readme.ROOT / "README.md").read_text()
    assert readme.generate(text) == text


@pytest.mark.golden
def test_the_page_of_encoders_is_current() -> None:
    """Its tables equal the entries and their models; `python tests/contracts/encoder_page.py` mends a difference."""
    text = encoder_page.PAGE.read_text()
    assert encoder_page.generate(text) == text
