"""Training as a whole, on tiny stand-ins: exact resuming, exact accumulation, several processes, faults."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from eupe.checkpoint import checkpoints
from eupe.config import Stage
from eupe.log import Log
from eupe.log import read as read_log
from eupe.processes import Stop, World
from eupe.step import train_step
from eupe.teachers import Lesson, Teacher
from eupe.train import STATISTICS, Run, set_up, train
from evals.context import silent_bar
from evals.errors import DataError, NumericsError, ResultsError, UsageError
from tests.eupe.tiny import SIDE, pictures, stage

ALONE = World(0, 1, torch.device("cpu"))

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    return pictures(tmp_path_factory.mktemp("pictures"))


def go(config: Stage, folder: Path, until: int | None = None, stop: Stop | None = None) -> Run:
    """Set up in a folder (going on from what is there) and train."""
    run = set_up(config, folder, ALONE, silent_bar)
    train(run, Log(folder, config.name), silent_bar, stop or Stop(), until)
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    """Every parameter of every student."""
    return {
        f"{name}.{key}": value
        for name, pupil in run.pupils.items()
        for key, value in pupil.learner.state_dict().items()
    }


def same(one: Run, other: Run) -> bool:
    """Whether two runs ended with the same bits."""
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_the_first_loss_is_that_of_unrelated_targets(root: Path, tmp_path: Path) -> None:
    """Statistics, reduction and grids are right: nearly two a teacher, nearly one without a class token."""
    go(stage(root, batch=32, statistics={"batches": 6, "batch": 32}), tmp_path, until=1)
    line = read_log(tmp_path)[0]
    for student in ("vit", "convnext"):
        whole = line[f"{student}/vit/cls"] + line[f"{student}/vit/patch"]
        assert 1.90 <= whole <= 2.05
        assert 0.90 <= line[f"{student}/pixels/patch"] <= 1.05
        assert f"{student}/pixels/cls" not in line


def test_twenty_steps_are_ten_and_ten(root: Path, tmp_path: Path) -> None:
    """Stopping and going on changes no bit of any student, and the log has every step once."""
    straight = go(stage(root), tmp_path / "a")
    go(stage(root), tmp_path / "b", until=10)
    assert same(straight, go(stage(root), tmp_path / "b"))
    lines = read_log(tmp_path / "b")
    assert [line["step"] for line in lines] == list(range(20))
    assert lines[-1]["vit/loss"] < lines[0]["vit/loss"]


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_resuming_is_exact_while_only_heads_learn(root: Path, tmp_path: Path, name: str) -> None:
    """A checkpoint also holds the moments of what does not learn yet, of either optimiser, and the average."""
    config = stage(root, optimisation={"name": name}, heads_only=4, average=0.9, saving={"every": 3})
    straight = go(config, tmp_path / "a", until=6)
    go(config, tmp_path / "b", until=3)
    again = go(config, tmp_path / "b", until=6)
    assert same(straight, again)
    for student, pupil in straight.pupils.items():
        other = again.pupils[student]
        assert pupil.average is not None
        assert other.average is not None
        assert all(torch.equal(value, other.average.weights[key]) for key, value in pupil.average.weights.items())
        steps = [float(state.get("step", 0)) for state in pupil.optimiser.state.values()]
        assert sorted(set(steps)) == ([2, 6] if name == "adamw" else [0])


def test_a_batch_that_does_not_divide_is_refused(root: Path, tmp_path: Path) -> None:
    """Before anything is loaded."""
    with pytest.raises(UsageError, match="a batch of 8 does not divide into 1 processes and micro-batches of 3"):
        go(stage(root, micro=3), tmp_path)


def test_a_step_does_not_wait_for_its_device(root: Path, tmp_path: Path) -> None:
    """After the first step of its shapes no number is read from a tensor, whatever the students."""

    class Reads(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            Reads.found += function is torch.ops.aten._local_scalar_dense.default
            return function(*args, **(kwargs or {}))

    run = go(stage(root, average=0.9), tmp_path, until=1)
    images = torch.rand(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with Reads():
        train_step(run.stage, 1, images, run.teachers, run.standards, run.pupils)
        assert Reads.found == 0
        run.pupils["vit"].guard.check()
    assert Reads.found == 1


def test_teachers_look_once_for_all_students(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two students and two micro-batches: each teacher sees two batches of four."""
    seen: list[tuple[str, int]] = []
    inner = Teacher.__call__

    def counted(teacher: Teacher, images: torch.Tensor) -> Lesson:
        seen.append((teacher.name, len(images)))
        return inner(teacher, images)

    run = set_up(stage(root, micro=4), tmp_path, ALONE, silent_bar)
    monkeypatch.setattr(Teacher, "__call__", counted)
    train(run, None, silent_bar, Stop(), until=1)
    assert seen == [("vit", 4), ("pixels", 4)] * 2


def test_a_stop_is_saved_at_once(root: Path, tmp_path: Path) -> None:
    """When the scheduler asks to stop, the step at hand is finished and saved; the rest goes on from there."""
    stop = Stop()
    stop.listen()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        run = go(stage(root), tmp_path, stop=stop)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert run.done == 1
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000001"]


def test_accumulation_is_exact(root: Path, tmp_path: Path) -> None:
    """Four micro-batches of two give the gradient of eight, up to the order of sums."""
    whole = go(stage(root), tmp_path / "a", until=1)
    parts = go(stage(root, micro=2), tmp_path / "b", until=1)
    assert read_log(tmp_path / "a")[0]["vit/loss"] == pytest.approx(read_log(tmp_path / "b")[0]["vit/loss"], abs=1e-6)
    norms = [read_log(tmp_path / name)[0]["vit/gradient"] for name in "ab"]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert weights(whole).keys() == weights(parts).keys()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": 32}, "the configuration"),
        ({"rate": {"base": 2e-3, "steps": 20}}, "the configuration"),
    ],
)
def test_another_configuration_does_not_go_on(
    root: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    """A folder holds one run; what changed is named."""
    go(stage(root), tmp_path, until=1)
    with pytest.raises(ResultsError, match=words):
        go(stage(root, **changes), tmp_path)


def test_other_images_do_not_go_on(tmp_path: Path) -> None:
    """A picture more is another data index."""
    folder = pictures(tmp_path / "pictures", 20)
    go(stage(folder), tmp_path / "run", until=1)
    (folder / "zzz.png").write_bytes((folder / "000.png").read_bytes())
    with pytest.raises(ResultsError, match="the images of a source"):
        go(stage(folder), tmp_path / "run")


def test_statistics_of_other_weights_are_refused(root: Path, tmp_path: Path) -> None:
    """Statistics belong to the weights that they were measured on."""
    go(stage(root), tmp_path, until=1)
    changed = stage(root)
    teachers = {**changed.teachers, "vit": replace(changed.teachers["vit"], encoder="dinov3-vit-s")}
    with pytest.raises(ResultsError, match="other weights of teacher vit"):
        go(replace(changed, teachers=teachers), tmp_path)


def test_a_broken_image_is_replaced_and_counted_and_too_many_stop(tmp_path: Path) -> None:
    """The next image stands in; the log counts; a larger share than set is an error that names one."""
    folder = pictures(tmp_path / "pictures")
    (folder / "007.png").write_bytes(b"no image")
    go(stage(folder, broken=0.2), tmp_path / "a", until=6)
    assert read_log(tmp_path / "a")[-1]["broken"] >= 1
    for number in range(10, 30, 2):
        (folder / f"{number:03d}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"could not be read.*\.png"):
        go(stage(folder, broken=0.05), tmp_path / "b", until=6)


def test_a_nan_in_one_student_leaves_the_others_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That student's step is skipped; the other ends with the same bits; three in a row stop the run."""
    clean = go(stage(root), tmp_path / "a", until=4)
    config = stage(root)
    run = set_up(config, tmp_path / "b", ALONE, silent_bar)
    inner = run.pupils["vit"].learner.forward
    at = {2}

    def broken(images: torch.Tensor, scales: torch.Tensor | None = None) -> object:
        said = inner(images, scales)
        factor = float("nan") if run.done in at else 1.0
        return {name: (None if cls is None else cls * factor, patch * factor) for name, (cls, patch) in said.items()}

    monkeypatch.setattr(run.pupils["vit"].learner, "forward", broken)
    train(run, None, silent_bar, Stop(), until=4)
    for key, value in clean.pupils["convnext"].learner.state_dict().items():
        assert torch.equal(value, run.pupils["convnext"].learner.state_dict()[key])
    assert all(bool(value.isfinite().all()) for value in run.pupils["vit"].learner.state_dict().values())
    at.update(range(4, 20))
    with pytest.raises(NumericsError, match="student vit"):
        train(run, None, silent_bar, Stop())


def test_a_full_disk_keeps_the_last_checkpoint(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved before stays, nothing half-written is left, and the message says so."""
    go(stage(root), tmp_path, until=1)
    before = checkpoints(tmp_path)

    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eupe.checkpoint.state_dict_saver.save", full)
    with pytest.raises(ResultsError, match=r"No space left.*the last one stays"):
        go(stage(root), tmp_path, until=2)
    assert checkpoints(tmp_path) == before
    assert not list(tmp_path.glob(".*partial"))


def test_teachers_are_never_saved(root: Path, tmp_path: Path) -> None:
    """A checkpoint has the students, their heads and optimisers, and nothing of a teacher."""
    run = go(stage(root), tmp_path, until=1)
    keys = {key for part in run.state().values() for key in part["learner"]}
    assert any(key.startswith("heads.vit.cls") for key in keys)
    assert all(key.startswith(("backbone.", "heads.")) for key in keys)
    assert set(run.state()) == set(run.pupils)


def test_statistics_of_an_attempt_with_another_configuration_are_measured_again(root: Path, tmp_path: Path) -> None:
    """Those that were measured for other crops, and nothing was learned with; those of the same run are kept."""
    first = set_up(stage(root), tmp_path, World(0, 1, torch.device("cpu")), silent_bar)
    path = tmp_path / STATISTICS
    before = path.read_bytes()
    set_up(stage(root), tmp_path, first.world, silent_bar)
    assert path.read_bytes() == before
    other = set_up(stage(root, augment={"scale": [0.9, 1.0]}), tmp_path, first.world, silent_bar)
    assert path.read_bytes() != before
    assert not torch.equal(other.standards["vit"].patch.mean_D, first.standards["vit"].patch.mean_D)
