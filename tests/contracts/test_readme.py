"""What the README says of the code is what the code says."""

from tests.contracts import readme


def test_generated_parts_are_current() -> None:
    """Tree, constants and encoders equal the sources; `python tests/contracts/readme.py` mends a difference."""
    text = (readme.ROOT / "README.md").read_text()
    assert readme.generate(text) == text
