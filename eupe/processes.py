"""The processes of a run: started by torchrun, on CPUs (gloo) and GPUs (nccl) alike, or a single one."""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed
from torch._C._distributed_c10d import HashStore


@dataclass(frozen=True, slots=True)
class World:
    """Who this process is."""

    rank: int
    ranks: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes logs and manifests."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.ranks > 1:
            distributed.barrier()


SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What schedulers send before they end a job."""


class Stop:
    """Whether the run was asked to stop."""

    def __init__(self) -> None:
        self.asked = False
        self.number: int | None = None
        """The signal that asked."""

    def listen(self, numbers: Iterable[int] = SIGNALS) -> None:
        """From now on those signals ask; the step at hand is finished and saved first."""
        for number in numbers:
            signal.signal(number, self._ask)

    def agreed(self, world: World) -> bool:
        """Whether any process was asked: a signal that reaches them at different steps stops all at the same one.

        Every process must call it once a step.
        """
        if world.ranks == 1:
            return self.asked
        # On the CPU, whatever computes: the device is not waited for.
        asked = torch.tensor(int(self.asked))
        distributed.all_reduce(asked, distributed.ReduceOp.MAX)
        return bool(asked)

    def _ask(self, number: int, frame: object) -> None:
        self.asked, self.number = True, number


@contextmanager
def world(device: str) -> Iterator[World]:
    """The world of this process, with a group of processes inside: those that torchrun started, or this one alone."""
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    if chosen == "cuda":
        chosen = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(chosen)
    backend = "cpu:gloo,cuda:nccl" if chosen.startswith("cuda") else "gloo"
    # One process is a group of one: what saves and merges then has a single way.
    alone: dict[str, Any] = {"store": HashStore(), "rank": 0, "world_size": 1} if ranks == 1 else {}
    distributed.init_process_group(backend, **alone)
    try:
        yield World(rank, ranks, torch.device(chosen))
    finally:
        distributed.destroy_process_group()
