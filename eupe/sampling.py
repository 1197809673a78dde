"""Which images a step sees, as a pure function of (seed, step): no state to save, lose or restart.

A permutation of any number of items is computed item by item (a Feistel network on the next power of four, walked until
the number falls inside), so resuming and changing the number of processes need nothing but the step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from evals.device import generator

_ROUNDS = 4
_SOURCE, _SCALE, _KEYS = 1, 2, 3
"""Streams of draws that must not depend on each other."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
"""An odd constant with well spread bits, for multiplicative mixing."""


def permute(positions: NDArray[np.int64], count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The items at these positions of a permutation of range(count) that seed and epoch choose.

    A bijection for every count; positions must lie in range(count).
    """
    half = max(1, (max(1, count - 1).bit_length() + 1) // 2)
    keys = generator(seed, _KEYS, epoch).integers(2**63, size=_ROUNDS, dtype=np.int64).astype(np.uint64)
    items = _feistel(positions.astype(np.uint64), half, keys)
    # The network permutes a power of four: numbers outside walk along their cycle until they are inside.
    outside = items >= count
    while outside.any():
        items[outside] = _feistel(items[outside], half, keys)
        outside = items >= count
    return items.astype(np.int64)


def _feistel(numbers: NDArray[np.uint64], half: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = numbers >> shift, numbers & mask
    for key in keys:
        mixed = (right ^ key) * _MIX
        mixed ^= mixed >> np.uint64(29)
        mixed *= _MIX
        left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
    return (left << shift) | right


@dataclass(frozen=True, slots=True)
class Mixture:
    """Sources of images and how often each is drawn from."""

    counts: tuple[int, ...]
    """Items of each source."""
    shares: tuple[float, ...]
    """Chance of each source; the sum is 1."""
    seed: int
    whole: bool = True
    """A step's batch comes from one source; otherwise each of its images is drawn by itself."""

    def sources(self, step: int, batch: int) -> NDArray[np.int64]:
        """The source of every image of a step, the same on every process (the paper's: ImageNet in 10 % of steps)."""
        draws = generator(self.seed, _SOURCE, step)
        chosen = draws.choice(len(self.shares), size=1 if self.whole else batch, p=self.shares)
        return np.broadcast_to(chosen.astype(np.int64), (batch,))

    def items(self, step: int, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(sources, items) of the global batch of a step.

        Every source is gone through in order of its permutation; a source's position is step times batch, so that it
        needs no history. An epoch ends in the middle of a batch; the next has another permutation.
        """
        sources = self.sources(step, batch)
        positions = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
        items = np.empty(batch, np.int64)
        for source in np.unique(sources):
            count = self.counts[source]
            epochs, within = positions // count, positions % count
            for epoch in np.unique(epochs[sources == source]):
                chosen = (sources == source) & (epochs == epoch)
                items[chosen] = permute(within[chosen], count, self.seed + int(source), int(epoch))
        return sources, items


def scales(seed: int, step: int, student: Sequence[int], teacher: Sequence[int]) -> tuple[int, int | None]:
    """(side for the student, side for the teacher) of a step in pixels: independent draws, alike on every process.

    Without sides for the teacher there is none to draw.
    """
    first, second = generator(seed, _SCALE, step).integers([len(student), max(1, len(teacher))])
    return student[first], teacher[second] if teacher else None


class StepSampler(Sampler[list[tuple[int, int, int]]]):
    """Batches of one process for the given steps: (source, item, position in the stream of samples) of each image.

    With `ranks` processes, process `rank` takes every ranks-th image of the global batch, so that the set of a step
    does not depend on their number.
    """

    def __init__(self, mixture: Mixture, steps: Sequence[int], *, batch: int, rank: int = 0, ranks: int = 1) -> None:
        assert batch % ranks == 0, "the planner checks that the global batch divides by the number of processes"
        self._mixture, self._steps, self._batch = mixture, steps, batch
        self._rank, self._ranks = rank, ranks

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for step in self._steps:
            sources, items = self._mixture.items(step, self._batch)
            mine = range(self._rank, self._batch, self._ranks)
            yield [(int(sources[at]), int(items[at]), step * self._batch + at) for at in mine]

    def __len__(self) -> int:
        return len(self._steps)
