"""Target statistics against NumPy in float64, where the usual one-pass formula fails."""

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed

from eupe.statistics import FLOOR, Measurement, Statistics
from evals.errors import WeightsError


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    """Coordinates of very unequal mean and spread."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=draws) * torch.tensor([0.5, 0.1, 1.0, 3.0]) + torch.tensor(
        [1000.0, 100.0, 0.0, 5.0]
    )


def measured(parts: list[torch.Tensor]) -> Statistics:
    """The statistics of these batches."""
    measurement = Measurement(4)
    for part in parts:
        measurement.add(part)
    return measurement.result()


def test_equal_numpy_where_means_are_large() -> None:
    """Batches of unequal size merge to what NumPy finds over all of them at once."""
    values = vectors(20_000)
    found = measured([*values[:7_001].split(999), values[7_001:]])
    exact = values.double().numpy()
    np.testing.assert_allclose(found.mean_D.numpy(), exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.std_D.numpy(), exact.std(0), rtol=1e-6)
    sums = sum(torch.stack([part.sum(0), part.square().sum(0)]) for part in values.split(20)) / len(values)
    once = (sums[1] - sums[0].square())[0]
    assert abs(float(once) - 0.25) > 0.02, "the case no longer shows what the one-pass formula does"


def test_maps_count_every_token() -> None:
    """A map of patches is as many vectors as it has cells."""
    assert measured([vectors(24).view(2, 3, 4, 4)]).count == 24


def test_standardised_and_restored() -> None:
    """Standardised coordinates have mean 0 and deviation 1; restoring is the inverse."""
    values = vectors(5000)
    found = measured([values])
    standard = found.standardise(values)
    assert standard.mean(0).abs().max() < 1e-2
    assert (standard.std(0) - 1).abs().max() < 1e-2
    torch.testing.assert_close(found.restore(standard), values, rtol=1e-5, atol=1e-3)


def test_coordinates_that_hardly_vary_are_floored_and_counted() -> None:
    """Their deviation is a share of the median, so that dividing by it stays tame."""
    values = vectors(1000)
    values[:, 1] = 7.0
    found = measured([values])
    assert found.floored == 1
    assert float(found.std_D[1]) == pytest.approx(FLOOR * 0.5, rel=0.1)


def test_what_cannot_be_standardised_is_refused() -> None:
    """Constant outputs and NaN come from broken weights."""
    with pytest.raises(WeightsError, match="never vary"):
        measured([torch.ones(10, 4)])
    with pytest.raises(WeightsError, match="not finite"):
        measured([torch.full((10, 4), torch.nan)])


def _half(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    measurement = Measurement(4)
    measurement.add(vectors(4000)[rank::2])
    measurement.gather()
    found = measurement.result()
    torch.save({"mean": found.mean_D, "std": found.std_D}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_find_what_one_does(tmp_path: object) -> None:
    """Merged over processes: the same bits on both, and the statistics of all vectors."""
    mp.start_processes(_half, args=(str(tmp_path),), nprocs=2, start_method="fork")
    one, other = (torch.load(f"{tmp_path}/{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = measured([vectors(4000)])
    assert torch.equal(one["mean"], other["mean"])
    assert torch.equal(one["std"], other["std"])
    torch.testing.assert_close(one["mean"], alone.mean_D)
    torch.testing.assert_close(one["std"], alone.std_D)
