"""Bringing token grids to one size: bicubic resizing as a pair of fixed matrices (paper section 3.3, text after eq. 3).

`torch.nn.functional.interpolate` has no deterministic backward for the bicubic filter on CUDA; a matrix product has, is
as fast, and gives the same numbers. Rows sum to 1, so standardising a map before or after resizing it is the same.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Grid = tuple[int, int]
"""Rows and columns of a token map; never the root of a number of tokens."""


@lru_cache(maxsize=64)
def bicubic_matrix(wide: int, out: int) -> Float[Tensor, "O I"]:
    """The matrix [out, wide] that resizes one axis (a = -0.75, half-pixel centres, no antialias), in float64.

    Its columns are what the filter makes of unit impulses.
    """
    impulses = torch.eye(wide, dtype=torch.float64)[None, None]
    resized = functional.interpolate(impulses, size=(out, wide), mode="bicubic", align_corners=False)
    return resized[0, 0]


@lru_cache(maxsize=64)
def _placed(wide: int, out: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Where it is used: a copy to the device at every call would wait for it."""
    return bicubic_matrix(wide, out).to(device, dtype)


def resize_map(map_BHWD: Float[Tensor, "B H W D"], grid: Grid) -> Float[Tensor, "B Y X D"]:
    """A token map on another grid; one that is there already is returned as it is."""
    rows, columns = map_BHWD.shape[1:3]
    if (rows, columns) == grid:
        return map_BHWD
    down = _placed(rows, grid[0], map_BHWD.device, map_BHWD.dtype)
    across = _placed(columns, grid[1], map_BHWD.device, map_BHWD.dtype)
    return torch.einsum("yh,xw,bhwd->byxd", down, across, map_BHWD)


def common_grid(one: Grid, other: Grid) -> Grid:
    """The finer of two grids, axis by axis."""
    return max(one[0], other[0]), max(one[1], other[1])
