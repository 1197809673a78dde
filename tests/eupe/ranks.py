"""Processes of their own for tests: forked from a server that has imported the trainer once, not started anew."""

import multiprocessing
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

_OPENING = """
import os, sys
os.environ.update(environment)
sys.path.insert(0, tests)
import torch
torch.set_num_threads(1)
"""


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "timm", "eupe.train"])
    return context


def run_ranks(text: str, *, ranks: int = 1, **names: Any) -> list[int | None]:
    """Run a program once on each of so many processes, with `names` as its variables; their exit codes.

    `tiny` can be imported there. `eupe.processes.world` finds the group as torchrun would have it.
    """
    context = _context()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    started = []
    for rank in range(ranks):
        environment = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": ranks,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": store.port,
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "OMP_NUM_THREADS": 1,
        }
        known = {
            "environment": {key: str(value) for key, value in environment.items()},
            "tests": str(Path(__file__).parent),
            **names,
        }
        started.append(context.Process(target=exec, args=(_OPENING + text, known)))
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=120)
    return [process.exitcode for process in started]
