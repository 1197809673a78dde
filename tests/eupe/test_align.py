"""Grids: the matrices are torch's bicubic filter, and standardising commutes with them."""

import pytest
import torch
from torch.nn import functional

from eupe.align import bicubic_matrix, common_grid, resize_map


@pytest.mark.parametrize(("wide", "out"), [(16, 32), (16, 24), (24, 32), (8, 16), (12, 16), (16, 28), (32, 16)])
def test_matrices_equal_interpolate(wide: int, out: int) -> None:
    """In float64 both give the same map; rows sum to 1."""
    map_BHWD = torch.randn(2, wide, wide + 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = functional.interpolate(map_BHWD.permute(0, 3, 1, 2), (out, out + 2), mode="bicubic", align_corners=False)
    torch.testing.assert_close(resize_map(map_BHWD, (out, out + 2)), wanted.permute(0, 2, 3, 1), rtol=0, atol=1e-10)
    torch.testing.assert_close(bicubic_matrix(wide, out).sum(1), torch.ones(out, dtype=torch.float64))


def test_standardising_and_resizing_commute() -> None:
    """The order does not matter, because rows sum to 1."""
    draws = torch.Generator().manual_seed(1)
    map_BHWD = torch.randn(1, 8, 8, 3, generator=draws, dtype=torch.float64)
    mean, std = torch.tensor([1.0, -2.0, 50.0]), torch.tensor([0.1, 3.0, 7.0])
    first = (resize_map(map_BHWD, (16, 16)) - mean) / std
    torch.testing.assert_close(first, resize_map((map_BHWD - mean) / std, (16, 16)), rtol=0, atol=1e-10)


def test_the_finer_grid_wins_and_equal_ones_are_left_alone() -> None:
    """Axis by axis; no copy where nothing is to be done."""
    assert common_grid((8, 8), (16, 16)) == (16, 16) == common_grid((16, 16), (8, 8))
    assert common_grid((8, 20), (10, 5)) == (10, 20)
    map_BHWD = torch.zeros(1, 4, 6, 2)
    assert resize_map(map_BHWD, (4, 6)) is map_BHWD
