"""Runs as jobs: what the scheduler is asked for, and what a job does when it is preempted."""

import os
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eupe.checkpoint import checkpoints
from eupe.compose import Order
from eupe.launch import Allocation, Job, launch
from eupe.log import read as read_log
from evals.errors import UnavailableError, UsageError
from tests.eupe.tiny import pictures, stage


class Executor:
    """Stands in for submitit's, and keeps what it was asked."""

    made: "list[Executor]" = []

    def __init__(self, folder: Path, cluster: str | None) -> None:
        self.folder, self.cluster, self.asked, self.jobs = folder, cluster, {}, []
        Executor.made.append(self)

    def update_parameters(self, **asked: object) -> None:
        """Take in what is wanted."""
        self.asked |= asked

    def submit(self, job: Job) -> types.SimpleNamespace:
        """A job with an id."""
        self.jobs.append(job)
        return types.SimpleNamespace(job_id="4711")


class Environment:
    """Stands in for what submitit knows of the processes of a job."""

    def export(self, **settings: object) -> None:
        """Every process keeps its place among the others, and sees every GPU."""
        assert settings == {"set_cuda_visible_devices": False, "overwrite": True}


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in for the package."""
    module = types.ModuleType("submitit")
    helpers = types.SimpleNamespace(
        TorchDistributedEnvironment=Environment, DelayedSubmission=lambda job: ("again", job)
    )
    monkeypatch.setattr(module, "AutoExecutor", Executor, raising=False)
    monkeypatch.setattr(module, "helpers", helpers, raising=False)
    monkeypatch.setitem(sys.modules, "submitit", module)
    monkeypatch.setattr(Executor, "made", [])
    return module


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers as they were before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """What any overrides compose to."""
    made = Order(stage(pictures(tmp_path / "pictures", 12)), tmp_path / "run", "cpu")
    monkeypatch.setattr("eupe.launch.compose", lambda overrides: made)
    return made


@pytest.mark.usefixtures("submitit")
def test_the_scheduler_is_asked_for_a_process_a_gpu(order: Order) -> None:
    """Two nodes of four GPUs: four tasks each, with processors for the loader and time to save."""
    assert launch(["recipe=x"], Allocation(2, 4, 90, "gpu", "slurm")) == "4711"
    (executor,) = Executor.made
    assert (executor.folder, executor.cluster) == (order.folder / "jobs", "slurm")
    assert executor.asked == {
        "name": "tiny",
        "nodes": 2,
        "tasks_per_node": 4,
        "gpus_per_node": 4,
        "cpus_per_task": 1,
        "timeout_min": 90,
        "slurm_signal_delay_s": 180,
        "slurm_partition": "gpu",
    }
    assert executor.jobs == [Job(("recipe=x",))]


@pytest.mark.usefixtures("submitit", "order")
def test_a_batch_that_does_not_divide_is_not_submitted() -> None:
    """Three processes of a batch of eight are refused before a job waits for hours."""
    with pytest.raises(UsageError, match="does not divide into 3 processes"):
        launch(["recipe=x"], Allocation(1, 3))
    assert not Executor.made


def test_without_submitit_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a traceback."""
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UnavailableError, match="pip install submitit"):
        launch(["recipe=x"], Allocation())


@pytest.mark.usefixtures("submitit", "signals")
@pytest.mark.parametrize(("sent", "queued"), [(signal.SIGUSR2, 1), (signal.SIGUSR1, 1), (signal.SIGTERM, 0)])
def test_a_preempted_job_saves_before_it_is_queued_again(
    order: Order, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, queued: int
) -> None:
    """What submitit does on its signal waits until the checkpoint is whole; a job that was cancelled is not queued."""
    seen: list[list[str]] = []
    signal.signal(signal.SIGUSR2, lambda number, frame: seen.append([path.name for path in checkpoints(order.folder)]))
    inner = __import__("eupe.train", fromlist=["train_step"]).train_step

    def preempted(stage: Any, step: int, *rest: Any) -> Any:
        if step == 1:
            os.kill(os.getpid(), sent)
        return inner(stage, step, *rest)

    monkeypatch.setattr("eupe.train.train_step", preempted)
    job = Job(("recipe=x",))
    assert job() is False
    assert seen == [["step-00000002"]] * queued
    assert [path.name for path in checkpoints(order.folder)] == ["step-00000002"]
    assert job.checkpoint() == ("again", job)


@pytest.mark.slow
def test_a_job_runs_with_submitit_itself(tmp_path: Path) -> None:
    """Two processes of this machine as the local executor starts them: the run ends, with one log."""
    package, cloudpickle = pytest.importorskip("submitit"), pytest.importorskip("cloudpickle")
    # The job is sent whole, with what it would compose: tests cannot be imported where it runs.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    root = pictures(tmp_path / "pictures", 12)
    order = Order(stage(root, rate={"base": 1e-3, "steps": 3}), tmp_path / "run", "cpu")
    executor = package.AutoExecutor(folder=tmp_path / "jobs", cluster="local")
    executor.update_parameters(nodes=1, tasks_per_node=2, timeout_min=5)
    job = executor.submit(_composed, order)
    assert job.results() == [True, True]
    assert [line["step"] for line in read_log(order.folder)] == [0, 1, 2]


def _composed(order: Order) -> bool:
    import eupe.launch

    eupe.launch.compose = lambda overrides: order  # type: ignore[attr-defined]
    return Job(("recipe=x",))()
