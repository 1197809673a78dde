"""Starting from an export: a stage takes over what the one before learned, and says what it could not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from eupe.checkpoint import checkpoints
from eupe.processes import Stop, World
from eupe.train import Run, export_student, set_up, train
from evals.context import silent_bar
from evals.encoders.exports.manifest import BACKBONE
from evals.errors import UsageError, WeightsError
from tests.eupe.tiny import SIDE, pictures, stage

HERE = World(0, 1, torch.device("cpu"))

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures."""
    return pictures(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def made(alone: None, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A stage of one step, and exports of its students beside its folder."""
    folder = tmp_path_factory.mktemp("made")
    run = set_up(stage(data), folder / "run", HERE, silent_bar)
    train(run, None, silent_bar, Stop(), until=1)
    for name in run.pupils:
        export_student(run, name, folder / name)
    return run


@pytest.fixture
def before(made: Run, tmp_path: Path) -> Run:
    """The same, with copies of its exports in `tmp_path`."""
    for name in made.pupils:
        shutil.copytree(made.folder.parent / name, tmp_path / name)
    return made


def students(run: Run, folder: Path) -> dict[str, Any]:
    """Those of a run, started from their exports in a folder."""
    return {
        name: {"model": config.model, "options": dict(config.options), "start": str(folder / name)}
        for name, config in run.stage.students.items()
    }


def test_backbone_and_heads_are_those_of_the_export(before: Run, data: Path, tmp_path: Path) -> None:
    """To the bit, whatever the seed; the optimiser is fresh, and there is nothing to tell."""
    again = set_up(stage(data, students=students(before, tmp_path), seed=5), tmp_path / "again", HERE, silent_bar)
    for name, pupil in again.pupils.items():
        earlier, now = before.pupils[name].learner.state_dict(), pupil.learner.state_dict()
        assert earlier.keys() == now.keys()
        assert all(torch.equal(earlier[key], now[key]) for key in earlier)
        assert not any(bool(moments["exp_avg"].any()) for moments in pupil.optimiser.state.values())
    assert (again.done, again.notes) == (0, [])


def test_a_teacher_that_it_did_not_know_gets_a_fresh_head(before: Run, data: Path, tmp_path: Path) -> None:
    """Which is told; the backbone is taken all the same, and the other teacher's heads too."""
    taught = {
        "vit": {"encoder": "timm:test_vit.r160_in1k", "side": SIDE, "weights": "random"},
        "other": {"encoder": "pixels", "side": SIDE, "cls": "none"},
    }
    made = stage(data, students={"vit": students(before, tmp_path)["vit"]}, teachers=taught)
    run = set_up(made, tmp_path / "other", HERE, silent_bar)
    assert run.notes == [f"vit starts from {tmp_path / 'vit'} with fresh heads for other."]
    earlier, now = before.pupils["vit"].learner.state_dict(), run.pupils["vit"].learner.state_dict()
    shared = [key for key in now if not key.startswith("heads.other")]
    assert all(torch.equal(earlier[key], now[key]) for key in shared)


def test_heads_alone_learn_at_first(before: Run, data: Path, tmp_path: Path) -> None:
    """Statistics are measured anew, so the heads' targets move; the backbone waits until they have followed."""
    made = stage(data, students=students(before, tmp_path), heads_only=2)
    run = set_up(made, tmp_path / "again", HERE, silent_bar)
    earlier = {key: value.clone() for key, value in run.pupils["vit"].learner.state_dict().items()}
    train(run, None, silent_bar, Stop(), until=2)
    now = run.pupils["vit"].learner.state_dict()
    assert all(torch.equal(earlier[key], now[key]) for key in now if key.startswith("backbone."))
    assert not torch.equal(earlier["heads.vit.cls.outer.weight"], now["heads.vit.cls.outer.weight"])
    train(run, None, silent_bar, Stop(), until=3)
    now = run.pupils["vit"].learner.state_dict()
    assert not torch.equal(earlier["backbone.patch_embed.proj.weight"], now["backbone.patch_embed.proj.weight"])


def test_a_run_that_goes_on_needs_its_start_no_more(before: Run, data: Path, tmp_path: Path) -> None:
    """What it became is in its checkpoint."""
    made = stage(data, students={"vit": students(before, tmp_path)["vit"]})
    first = set_up(made, tmp_path / "run", HERE, silent_bar)
    train(first, None, silent_bar, Stop(), until=1)
    assert checkpoints(tmp_path / "run")
    (tmp_path / "vit").rename(tmp_path / "elsewhere")
    assert set_up(made, tmp_path / "run", HERE, silent_bar).done == 1


def test_another_architecture_is_no_start(before: Run, data: Path, tmp_path: Path) -> None:
    """Named with what it is and what is wanted."""
    wrong = {"vit": {**students(before, tmp_path)["vit"], "start": str(tmp_path / "convnext")}}
    with pytest.raises(UsageError, match=r"students\.vit\.start: .* is convnext_atto.* the student is vit_tiny"):
        set_up(stage(data, students=wrong), tmp_path / "wrong", HERE, silent_bar)


def test_a_broken_export_is_no_start(before: Run, data: Path, tmp_path: Path) -> None:
    """Every byte is checked first."""
    path = tmp_path / "vit" / BACKBONE
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="is not the file that was exported"):
        set_up(stage(data, students=students(before, tmp_path)), tmp_path / "wrong", HERE, silent_bar)
