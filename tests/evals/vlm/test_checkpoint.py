"""Vision-language models on disk."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.encoders.load import digest
from evals.errors import ResultsError, UsageError, WeightsError
from evals.vlm.checkpoint import PROJECTOR, VlmCard, read_card, read_vlm, write_vlm
from evals.vlm.model import VisionLanguage
from evals.vlm.recipe import MANIFEST
from tests.evals.vlm.small import DIM, GRID, SIDE, SmallEncoder, model, tokenizer


@pytest.fixture
def small() -> VisionLanguage:
    """What is written."""
    return model(tokenizer())


@pytest.fixture
def card() -> VlmCard:
    """What is told of it."""
    return VlmCard(
        recipe={"name": "test"},
        encoder="small-0",
        encoder_digest=digest(SmallEncoder()),
        dim=DIM,
        layer=-2,
        side=SIDE,
        grid=GRID,
        pad_id=3,
        data={"alignment": "0" * 64},
        losses={"alignment": {"first": 2.5, "last": 0.5}},
        skipped={"alignment": ("7", "9")},
        versions={"torch": "1"},
    )


@pytest.fixture
def written(tmp_path: Path, small: VisionLanguage, card: VlmCard) -> Path:
    """A folder with a model."""
    write_vlm(tmp_path / "vlm", card, small, tokenizer())
    return tmp_path / "vlm"


def test_what_is_read_is_what_was_written(written: Path, small: VisionLanguage, card: VlmCard) -> None:
    """Every weight bit for bit, the tokenizer, and the card; weights are in safetensors alone."""
    loaded = read_vlm(written, SmallEncoder())
    assert loaded.card == card == read_card(written)
    told = loaded.model.state_dict()
    assert told.keys() == small.state_dict().keys()
    assert all(torch.equal(value, told[key]) for key, value in small.state_dict().items())
    assert loaded.tokenizer("what colour")["input_ids"] == tokenizer()("what colour")["input_ids"]
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    suffixes = {path.suffix for path in written.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}
    assert [path.name for path in written.parent.iterdir()] == ["vlm"]


def test_it_comes_in_the_type_asked_for(written: Path) -> None:
    """Half of the memory on a device that computes in bf16."""
    loaded = read_vlm(written, SmallEncoder(), torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}


def test_another_encoder_is_refused(written: Path) -> None:
    """Also one that differs in a single weight."""
    changed = SmallEncoder()
    with torch.no_grad():
        changed.norm.bias[3] += 1e-6
    for other in (SmallEncoder(1), changed):
        with pytest.raises(WeightsError, match=r"trained on the encoder small-0 .* and this is small-"):
            read_vlm(written, other)


@pytest.mark.parametrize("name", [PROJECTOR, "language/model.safetensors", "language/config.json"])
def test_a_damaged_file_is_named(written: Path, name: str) -> None:
    """One byte is enough, as is a file that is gone."""
    content = bytearray((written / name).read_bytes())
    content[-1] ^= 1
    (written / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_vlm(written, SmallEncoder())
    (written / name).unlink()
    with pytest.raises(WeightsError, match=name):
        read_vlm(written, SmallEncoder())


def test_nothing_is_overwritten(written: Path, small: VisionLanguage, card: VlmCard) -> None:
    """A folder that is there stays as it is."""
    with pytest.raises(UsageError, match="never overwritten"):
        write_vlm(written, replace(card, grid=9), small, tokenizer())
    assert read_card(written).grid == GRID


def test_a_failed_write_leaves_nothing(tmp_path: Path, small: VisionLanguage, card: VlmCard) -> None:
    """Neither the folder nor what was begun beside it."""

    class Full:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(ResultsError, match="No space left"):
        write_vlm(tmp_path / "vlm", card, small, Full())
    assert list(tmp_path.iterdir()) == []


def test_other_folders_and_manifests(tmp_path: Path, written: Path) -> None:
    """A folder without a model, a later schema, a manifest that was cut, one that lacks a key."""
    with pytest.raises(UsageError, match=r"no vlm\.json"):
        read_card(tmp_path)
    told: dict[str, Any] = json.loads((written / MANIFEST).read_text())
    for text, match in (
        (json.dumps({**told, "schema": 2}), "schema 2"),
        (json.dumps(told)[:-9], "cannot be read"),
        ("[]", "cannot be read"),
        (json.dumps({key: value for key, value in told.items() if key != "grid"}), r"\['grid'\]"),
    ):
        (written / MANIFEST).write_text(text)
        with pytest.raises(ResultsError, match=match):
            read_card(written)


def test_sampling_settings_of_the_weights_do_not_stand_in_the_way(
    tmp_path: Path, small: VisionLanguage, card: VlmCard
) -> None:
    """Vicuna's generation_config has a temperature without sampling, which transformers refuses to save."""
    small.language.generation_config.temperature = 0.9  # type: ignore[union-attr]
    write_vlm(tmp_path / "vlm", card, small, tokenizer())
    assert read_vlm(tmp_path / "vlm", SmallEncoder()).card == card
