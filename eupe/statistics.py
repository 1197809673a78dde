"""Mean and deviation of every coordinate of a teacher's outputs, measured before training and fixed from then on.

Batches are merged by Chan's rule in float64: the one-pass formula E[x^2] - E[x]^2 in fp32 is wrong exactly where it
matters, at coordinates whose mean is large against their spread. Deviations are floored, because dividing by that of a
nearly constant coordinate would blow it up (paper section 3.3; PHI-S appendix A.5.4).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from evals.errors import WeightsError

FLOOR = 1e-3
"""Least deviation, as a share of the median over coordinates."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one kind of output (class token or patches) of one teacher."""

    mean_D: Float[Tensor, " D"]
    std_D: Float[Tensor, " D"]
    """Floored; fp32 like the mean."""
    count: int
    """Vectors that were measured."""
    floored: int
    """Coordinates whose deviation was below the floor."""

    def standardise(self, values: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """(value - mean) / deviation, coordinate by coordinate, in fp32."""
        return (values.float() - self.mean_D) / self.std_D

    def restore(self, values: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """The inverse."""
        return values.float() * self.std_D + self.mean_D

    def to(self, device: torch.device) -> "Statistics":
        """On a device."""
        return Statistics(self.mean_D.to(device), self.std_D.to(device), self.count, self.floored)


class Measurement:
    """Running count, mean and sum of squared distances from it, in float64."""

    def __init__(self, dim: int) -> None:
        self._count = 0
        self._mean_D = torch.zeros(dim, dtype=torch.float64)
        self._squares_D = torch.zeros(dim, dtype=torch.float64)

    def add(self, values: Float[Tensor, "*S D"]) -> None:
        """Take in a batch of vectors."""
        flat_ND = values.detach().flatten(0, -2).double()
        mean_D = flat_ND.mean(0)
        self._merge(len(flat_ND), mean_D.cpu(), (flat_ND - mean_D).square().sum(0).cpu())

    def gather(self) -> None:
        """Merge what all processes measured, in order of rank, so that every one of them ends with the same bits."""
        mine = (self._count, self._mean_D, self._squares_D)
        parts: list[tuple[int, Tensor, Tensor]] = [mine] * distributed.get_world_size()
        distributed.all_gather_object(parts, mine)
        self._count = 0
        self._mean_D, self._squares_D = torch.zeros_like(self._mean_D), torch.zeros_like(self._squares_D)
        for part in parts:
            self._merge(*part)

    def result(self, share: float = FLOOR) -> Statistics:
        """The statistics so far, deviations floored at a share of their median.

        Raises WeightsError where nothing or nothing finite was measured.
        """
        if self._count < 2 or not bool(self._squares_D.isfinite().all()):
            raise WeightsError(f"statistics of {self._count} vectors of a teacher are not finite; nothing to train on.")
        std_D = (self._squares_D / self._count).sqrt()
        median = std_D.median()
        if median == 0:
            raise WeightsError("more than half of a teacher's coordinates never vary: its weights are broken.")
        floor = share * median
        low = int((std_D < floor).sum())
        return Statistics(self._mean_D.float(), std_D.clamp_min(floor).float(), self._count, low)

    def _merge(self, count: int, mean_D: Tensor, squares_D: Tensor) -> None:
        if count == 0:
            return
        total = self._count + count
        delta_D = mean_D - self._mean_D
        self._squares_D += squares_D + delta_D.square() * (self._count * count / total)
        self._mean_D += delta_D * (count / total)
        self._count = total
