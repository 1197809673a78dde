"""Runs as jobs of a scheduler (Slurm, by way of submitit): one process a GPU, saved and queued again when preempted."""

import importlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eupe.compose import compose
from eupe.processes import SIGNALS, Stop
from eupe.session import train_stage
from evals.errors import UnavailableError

JOBS = "jobs"
"""Below the folder of a run: what the scheduler printed."""
_SECONDS_TO_SAVE = 180
"""Between the signal of the scheduler and the end of the job."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What to ask the scheduler for."""

    nodes: int = 1
    gpus_per_node: int = 8
    """As many processes; 0: one process on CPUs."""
    timeout: int = 24 * 60
    """Minutes, after which the job is queued again."""
    partition: str | None = None
    cluster: str | None = None
    """`slurm`, `local` (processes of this machine); None: what submitit finds."""


@dataclass(frozen=True)
class Job:
    """A run as submitit calls it, on every process."""

    overrides: tuple[str, ...]

    def __call__(self) -> bool:
        """Train; whether the stage is complete. When asked to stop, save and let submitit queue the job again."""
        submitit = _submitit()
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        preempted = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
        requeue = signal.getsignal(preempted)
        stop = Stop()
        stop.listen({*SIGNALS, preempted})
        done = train_stage(compose(self.overrides), stop, quiet=True)
        if not done and stop.number != signal.SIGTERM and callable(requeue):
            # That of submitit, which this job kept waiting until the checkpoint was whole. SIGTERM: it was cancelled.
            requeue(preempted, None)
        return done

    def checkpoint(self) -> Any:
        """What to queue again: the same job, which goes on from its last checkpoint."""
        return _submitit().helpers.DelayedSubmission(self)


def launch(overrides: Sequence[str], allocation: Allocation) -> str:
    """Submit a run; the id of its job.

    Raises UsageError for overrides that do not fit or a batch that does not divide, UnavailableError without submitit.
    """
    submitit = _submitit()
    order = compose(overrides)
    tasks = max(1, allocation.gpus_per_node)
    order.stage.share(allocation.nodes * tasks)
    executor = submitit.AutoExecutor(folder=order.folder / JOBS, cluster=allocation.cluster)
    wanted = {
        "name": order.stage.name,
        "nodes": allocation.nodes,
        "tasks_per_node": tasks,
        "gpus_per_node": allocation.gpus_per_node,
        "cpus_per_task": order.stage.workers + 1,
        "timeout_min": allocation.timeout,
        "slurm_signal_delay_s": _SECONDS_TO_SAVE,
    }
    if allocation.partition is not None:
        wanted["slurm_partition"] = allocation.partition
    executor.update_parameters(**wanted)
    return str(executor.submit(Job(tuple(overrides))).job_id)


def _submitit() -> Any:
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise UnavailableError(
            "package", f"eupe-train launch needs submitit: pip install submitit ({error})"
        ) from error
