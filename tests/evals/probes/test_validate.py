"""The resumable pass over validation images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evals.context import Context
from evals.errors import DataError
from evals.probes import validate as module
from evals.probes.resume import Checkpoint
from evals.probes.validate import validate


def make(index: int) -> tuple[Tensor, Tensor]:
    """An item."""
    if index == 50:
        raise DataError("image 50 is damaged")
    return torch.tensor(index), torch.tensor(10 * index)


def measure(index: int, image: Tensor, target: Tensor) -> Tensor:
    """Index, image and target in one row."""
    return torch.stack([torch.tensor(index), image, target])


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_come_in_order(context: Context, tmp_path: Path, workers: int) -> None:
    """Whatever the workers."""
    rows = validate("t", make, 7, measure, replace(context, workers=workers), Checkpoint(tmp_path / "s.pt", "w"))
    assert rows.tolist() == [[i, i, 10 * i] for i in range(7)]


def test_a_killed_pass_goes_on(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images before the last checkpoint are not measured again."""
    monkeypatch.setattr(module, "CHECKPOINT_EVERY", 3)
    measured: list[int] = []

    def fragile(index: int, image: Tensor, target: Tensor) -> Tensor:
        measured.append(index)
        if index == 5 and measured.count(5) == 1:
            raise KeyboardInterrupt
        return measure(index, image, target)

    checkpoint = Checkpoint(tmp_path / "s.pt", "w")
    with pytest.raises(KeyboardInterrupt):
        validate("t", make, 7, fragile, context, checkpoint)
    rows = validate("t", make, 7, fragile, context, checkpoint)
    assert rows.tolist() == [[i, i, 10 * i] for i in range(7)]
    assert measured == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6]


def test_a_damaged_image_stops_with_its_own_message(context: Context, tmp_path: Path) -> None:
    """Also from a worker process."""
    with pytest.raises(DataError, match=r"^image 50 is damaged$"):
        validate("t", make, 60, measure, replace(context, workers=1), Checkpoint(tmp_path / "s.pt", "w"))
