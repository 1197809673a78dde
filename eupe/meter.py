"""Numbers of a run between two lines of its log: losses, speed, and how long it waited for images."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, distributed

from eupe.processes import World

T = TypeVar("T")


class Meter:
    """Means over the steps since the last line. Scalars stay on the device until a line is asked for."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps, self._waited, self._since = 0, 0.0, time.perf_counter()

    def waiting(self, images: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each is there counts as waiting."""
        source = iter(images)
        while True:
            start = time.perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                return
            self._waited += time.perf_counter() - start
            yield batch

    def add(self, numbers: dict[str, Tensor]) -> None:
        """Take in a step."""
        for key, value in numbers.items():
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        self._steps += 1

    def line(self, world: World, **more: float) -> dict[str, float]:
        """Means since the last line over steps and processes, with one copy from the device, and a fresh start.

        Every process must call it.
        """
        keys = list(self._sums)
        stacked = torch.stack([self._sums[key].detach().float() for key in keys]) / world.ranks
        distributed.all_reduce(stacked)
        values = stacked.tolist()
        taken = time.perf_counter() - self._since
        line = {key: value / self._steps for key, value in zip(keys, values, strict=True)}
        line |= {"images/s": self._steps * self._batch / taken, "data_wait": self._waited / taken, **more}
        self._begin()
        return line
