"""The encoder that comes with the project: whole, small, and loaded like any other."""

import json

import pytest
import torch

from evals.encoders.exports.manifest import MANIFEST, check_whole
from evals.encoders.load import load
from evals.encoders.registry import SHIPPED, names, resolve
from evals.files import DigestMemo
from evals.types import TextAlignedEncoder

MINIATURE = "eupe-miniature"
_MEGABYTES = 16
_EXPERTS = ("semantic", "dense", "reading")


def test_what_is_shipped_is_listed_and_small() -> None:
    """A folder of exports, each an encoder of that name, whole to the byte; a few megabytes with all that it needs."""
    shipped = sorted(path.name for path in SHIPPED.iterdir())
    assert shipped == [MINIATURE]
    assert set(shipped) <= set(names())
    assert check_whole(SHIPPED / MINIATURE).name == MINIATURE
    size = sum(path.stat().st_size for path in (SHIPPED / MINIATURE).rglob("*") if path.is_file())
    assert size < _MEGABYTES * 2**20


def test_it_says_how_it_was_made() -> None:
    """The command, the stage that it comes from, and who taught whom on the way to text."""
    entry = resolve(MINIATURE)
    assert entry.note is not None
    assert "eupe-train run recipe=miniature" in entry.note
    manifest = json.loads((SHIPPED / MINIATURE / MANIFEST).read_text())
    assert manifest["training"]["stage"]["name"] == "student-s0/stage3"
    assert [each["name"] for each in manifest["teachers"]] == ["proxy"]
    lineage = {
        path.parent.name: json.loads(path.read_text())
        for path in (SHIPPED / MINIATURE / "lineage").glob(f"*/{MANIFEST}")
    }
    assert set(lineage) == {"stage1-proxy", "miniature-semantic"}
    assert set(lineage["stage1-proxy"]["training"]["stage"]["teachers"]) == set(_EXPERTS)


def test_no_folder_of_a_machine_is_told() -> None:
    """Manifests name nothing by an absolute path."""
    for path in (SHIPPED / MINIATURE).rglob(MANIFEST):
        for value in _texts(json.loads(path.read_text())):
            assert not value.startswith("/"), f"{path}: {value}"


@pytest.mark.parametrize("weights", [None, "random"])
def test_it_encodes_images_and_text(weights: str | None) -> None:
    """Trained, it has unit text vectors; untrained, it is the same network without text."""
    encoder = load(resolve(MINIATURE, weights=weights), DigestMemo(None))
    found = encoder(torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)))
    assert found.pooled_BD is not None
    assert (found.pooled_BD.shape, found.patches_BHWD.shape) == ((1, 256), (1, 8, 8, 256))
    assert isinstance(encoder, TextAlignedEncoder) == (weights is None)
    if isinstance(encoder, TextAlignedEncoder):
        vectors = encoder.encode_text(["a striped mug", "a wooden chair"])
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
        assert vectors[0] @ vectors[1] < 0.99


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    return [text for each in value for text in _texts(each)] if isinstance(value, list) else []
