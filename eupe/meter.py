"""Numbers of a run between two lines of its log: losses, speed, and how long it waited for images."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, distributed

from eupe.processes import World

T = TypeVar("T")
_SIDES = {"cuda": 8192, "cpu": 512}
"""Of the product that measures a device: large enough to keep it busy."""
_ROUNDS = 10


def peak(known: float, device: torch.device, dtype: str) -> float:
    """FLOP/s of a device at best: those of the configuration in TFLOP/s, or where that says 0, as measured now."""
    return known * 1e12 or measured_peak(device, dtype)


class Meter:
    """Means over the steps since the last line. Scalars stay on the device until a line is asked for.

    `peak`: FLOP/s of one device at best; without it there is no MFU. `data_wait` is the share of the time in which this
    process had nothing to do but wait for images; where it runs ahead of its device, an upper bound of the stall.
    """

    def __init__(self, batch: int, peak: float | None = None) -> None:
        self._batch, self._peak = batch, peak
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps, self._waited, self._flops, self._since = 0, 0.0, 0.0, time.perf_counter()

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

    def add(self, numbers: dict[str, Tensor], flops: float = 0.0) -> None:
        """Take in a step; `flops` of one of its images, with the backward passes."""
        for key, value in numbers.items():
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        self._steps += 1
        self._flops += flops * self._batch

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
        line |= {"images/s": self._steps * self._batch / taken, "data_wait": self._waited / taken}
        if self._peak is not None:
            line["mfu"] = self._flops / taken / (self._peak * world.ranks)
        self._begin()
        return line | more


def measured_peak(device: torch.device, dtype: str) -> float:
    """FLOP/s of a square matrix product in that arithmetic, the median of several."""
    side = _SIDES.get(device.type, _SIDES["cpu"])
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    one, other = (torch.full((side, side), value, device=device, dtype=kind) for value in (0.5, 0.25))
    times = []
    for _ in range(_ROUNDS):
        since = time.perf_counter()
        # Reading one number waits for the product.
        (one @ other)[0, 0].item()
        times.append(time.perf_counter() - since)
    return 2 * side**3 / sorted(times)[_ROUNDS // 2]
