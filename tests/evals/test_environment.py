"""What a result was computed with."""

import importlib.metadata

import pytest

from evals.device import versions
from evals.environment import describe


@pytest.mark.parametrize("package", ["torch", "timm", "open_clip_torch", "transformers", "tokenizers"])
def test_libraries_that_move_a_feature_are_known(package: str) -> None:
    """Their versions are in every record, and in the key of everything that is kept of an encoder."""
    pytest.importorskip(package.removesuffix("_torch"))
    installed = importlib.metadata.version(package)
    assert versions()[package] == installed
    assert describe(None)["packages"][package] == installed
