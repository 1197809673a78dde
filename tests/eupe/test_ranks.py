"""Several processes against one: whole and sharded students, checkpoints from one number to another, a killed run."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eupe.checkpoint import checkpoints
from eupe.config import Stage
from eupe.log import Log
from eupe.log import read as read_log
from eupe.processes import Stop, World, world
from eupe.train import Run, set_up, train
from evals.context import silent_bar
from tests.eupe.ranks import run_ranks
from tests.eupe.tiny import pictures, raw_stage, stage

pytestmark = pytest.mark.golden
ALONE = World(0, 1, torch.device("cpu"))
CHANGES: dict[str, Any] = {"average": 0.9, "micro": 2, "saving": {"every": 10, "keep": 2}}
PROGRAM = """
from pathlib import Path
from eupe.checkpoint import checkpoints
from eupe.log import Log
from eupe.processes import Stop, world
from eupe.train import set_up, train
from evals.context import silent_bar
from evals.errors import NumericsError
from tiny import stage
with world("cpu") as here:
    def go(folder, **more):
        run = set_up(stage(root, **{**changes, **more}), folder, here, silent_bar)
        train(run, Log(folder, "t") if here.first else None, silent_bar, Stop())
        return run

    def whole(tensors):
        return {key: getattr(value, "full_tensor", lambda value=value: value)() for key, value in tensors.items()}

    run = go(Path(folder) / "two")
    proxy = run.pupils["proxy"]
    torch.save({name: whole(pupil.learner.state_dict()) for name, pupil in run.pupils.items()},
               Path(folder) / f"rank{here.rank}.pt")
    split = [name for name, value in proxy.learner.named_parameters() if hasattr(value, "to_local")]
    assert len(split) == len(list(proxy.learner.parameters())), "every parameter is sharded, those of heads too"
    assert proxy.average.whole().keys() == dict(proxy.learner.named_parameters()).keys()
    assert go(Path(folder) / "one-two").done == 20
    go(Path(folder) / "half", dtype="bf16", rate={"base": 1e-3, "steps": 3})
    go(Path(folder) / "lamb", optimisation={"name": "lamb"}, rate={"base": 1e-3, "steps": 3})

    # A signal that reaches one process stops both after the same step.
    stop = Stop()
    stop.asked = here.rank == 1
    stopped = set_up(stage(root, **changes), Path(folder) / "stopped", here, silent_bar)
    train(stopped, None, silent_bar, stop)
    assert stopped.done == 1
    here.wait()
    assert [path.name for path in checkpoints(Path(folder) / "stopped")] == ["step-00000001"]

    # What is not finite on one process alone stops all of them.
    broken = set_up(stage(root, **changes), Path(folder) / "broken", here, silent_bar)
    before = whole(broken.pupils["proxy"].learner.state_dict())
    if here.rank == 1:
        broken.pupils["proxy"].learner.mean.fill_(float("nan"))
    try:
        train(broken, None, silent_bar, Stop())
    except NumericsError as error:
        assert "student proxy" in str(error), error
        assert broken.done == 3, broken.done
    else:
        raise AssertionError("went on")
    after = whole(broken.pupils["proxy"].learner.state_dict())
    assert all(torch.equal(before[key], after[key]) for key in before)
"""


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Micro-batches, and a third student: sharded where there are several processes, and computed again."""
    root = pictures(tmp_path_factory.mktemp("pictures"))
    students = raw_stage(root)["students"]
    proxy = {**students["vit"], "shard": True, "recompute": True}
    return {"root": root, "students": {**students, "proxy": proxy}, **CHANGES}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]) -> Iterator[Path]:
    """Folders `one`, `two` (processes), `one-two` and `two-one` (begun with the first number, ended with the other)."""
    folder, config = tmp_path_factory.mktemp("runs"), stage(**changes)
    with world("cpu"):
        go(config, folder / "one", until=10)
        shutil.copytree(folder / "one", folder / "one-two")
        go(config, folder / "one")
        rest = {key: value for key, value in changes.items() if key != "root"}
        assert run_ranks(PROGRAM, ranks=2, folder=str(folder), root=changes["root"], changes=rest) == [0, 0]
        shutil.copytree(folder / "two", folder / "two-one")
        shutil.rmtree(checkpoints(folder / "two-one")[-1])
        assert go(config, folder / "two-one").done == 20
        yield folder


def go(config: Stage, folder: Path, until: int | None = None) -> Run:
    """Train in this process, going on from what the folder has."""
    run = set_up(config, folder, ALONE, silent_bar)
    train(run, Log(folder, config.name), silent_bar, Stop(), until)
    return run


def test_two_processes_are_one(runs: Path) -> None:
    """Same global batches: first loss and gradient to 1e-6, the twentieth to 1e-4, whole students and sharded ones."""
    one, two = read_log(runs / "one"), read_log(runs / "two")
    for student in ("vit", "convnext", "proxy"):
        for key in (f"{student}/loss", f"{student}/vit/patch", f"{student}/gradient"):
            assert one[0][key] == pytest.approx(two[0][key], rel=1e-6)
            assert one[19][key] == pytest.approx(two[19][key], rel=1e-4)


def test_every_process_ends_with_the_same_weights(runs: Path) -> None:
    """Bit by bit; a sharded student learned what its twin of copies did."""
    first, second = (torch.load(runs / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, weights in first.items():
        assert all(torch.equal(value, second[name][key]) for key, value in weights.items())
    for key, value in first["vit"].items():
        torch.testing.assert_close(value, first["proxy"][key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["half", "lamb"])
def test_a_sharded_student_learns_what_a_copy_does(runs: Path, name: str) -> None:
    """Its losses and gradients: bf16 gathers what autocast rounds, and LAMB sees the norms of whole matrices."""
    lines = read_log(runs / name)
    assert len(lines) == 3
    for line in lines:
        assert line["proxy/loss"] == pytest.approx(line["vit/loss"], abs=1e-5)
        assert line["proxy/gradient"] == pytest.approx(line["vit/gradient"], rel=1e-4)
    assert lines[2]["vit/loss"] != read_log(runs / "two")[2]["vit/loss"]


@pytest.mark.parametrize("name", ["one-two", "two-one"])
def test_checkpoints_serve_another_number_of_processes(runs: Path, name: str) -> None:
    """Saved after ten steps with one number and ended with the other: the twentieth loss is that of a straight run."""
    one, other = read_log(runs / "one"), read_log(runs / name)
    assert [line["step"] for line in other] == list(range(20))
    for student in ("vit", "convnext", "proxy"):
        assert one[19][f"{student}/loss"] == pytest.approx(other[19][f"{student}/loss"], rel=1e-4)


KILLED = """
import os, signal
from pathlib import Path
from eupe import train as module
from eupe.processes import Stop, world
from evals.context import silent_bar
from tiny import stage
inner = module.train_step
def killed(stage, step, *rest):
    if step == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(stage, step, *rest)
module.train_step = killed
with world("cpu") as here:
    module.train(module.set_up(stage(root, **changes), Path(folder), here, silent_bar), None, silent_bar, Stop())
"""


def test_a_killed_run_goes_on_exactly(runs: Path, changes: dict[str, Any], tmp_path: Path) -> None:
    """SIGKILL in the middle: the next start goes on from the last whole checkpoint to the same bits."""
    rest = {key: value for key, value in changes.items() if key != "root"} | {"saving": {"every": 5}}
    ended = run_ranks(KILLED, folder=str(tmp_path / "run"), root=changes["root"], changes=rest)
    assert ended == [-signal.SIGKILL]
    assert checkpoints(tmp_path / "run")
    again, straight = go(stage(**changes), tmp_path / "run"), set_up(stage(**changes), runs / "one", ALONE, silent_bar)
    for name, pupil in straight.pupils.items():
        mine, kept = again.pupils[name], pupil.average
        assert kept is not None
        assert mine.average is not None
        assert all(torch.equal(kept.weights[key], value) for key, value in mine.average.weights.items())
        theirs = mine.learner.state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in pupil.learner.state_dict().items())
