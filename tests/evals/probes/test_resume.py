"""Checkpoints are whole, of the same work, or absent."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evals.context import Context
from evals.probes.resume import Checkpoint, work_key


def test_a_state_comes_back(tmp_path: Path) -> None:
    """Tensors and plain values survive."""
    checkpoint = Checkpoint(tmp_path / "a" / "head.pt", "work")
    checkpoint.save({"step": 3, "head": {"w": torch.arange(4.0)}})
    state = checkpoint.load()
    assert state is not None and state["step"] == 3 and state["head"]["w"].tolist() == [0, 1, 2, 3]


def test_no_file_is_no_state(tmp_path: Path) -> None:
    """The first run starts at the beginning."""
    assert Checkpoint(tmp_path / "head.pt", "work").load() is None


@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_flipped_bit_counts_as_absent(tmp_path: Path, at: int) -> None:
    """In the digest, in the archive, at the end."""
    checkpoint = Checkpoint(tmp_path / "head.pt", "work")
    checkpoint.save({"step": 3})
    content = bytearray(checkpoint.path.read_bytes())
    content[at] ^= 1
    checkpoint.path.write_bytes(content)
    assert checkpoint.load() is None


def test_a_cut_file_counts_as_absent(tmp_path: Path) -> None:
    """A half and an empty file."""
    checkpoint = Checkpoint(tmp_path / "head.pt", "work")
    checkpoint.save({"step": 3})
    content = checkpoint.path.read_bytes()
    for part in (content[: len(content) // 2], b""):
        checkpoint.path.write_bytes(part)
        assert checkpoint.load() is None


def test_other_work_counts_as_absent(tmp_path: Path) -> None:
    """A checkpoint of other constants is not taken up."""
    Checkpoint(tmp_path / "head.pt", "work").save({"step": 3})
    assert Checkpoint(tmp_path / "head.pt", "other").load() is None


def test_the_key_follows_what_moves_a_score(toy: type, context: Context) -> None:
    """Constants and seed change it; batch and workers do not."""
    encoder = toy()
    key = work_key({"steps": 2}, encoder, (), context)
    assert key == work_key({"steps": 2}, encoder, (), replace(context, workers=4, batch=7))
    assert key != work_key({"steps": 3}, encoder, (), context)
    assert key != work_key({"steps": 2}, encoder, (), replace(context, seed=4))
