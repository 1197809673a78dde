"""Exports while a stage trains, and their evaluation beside it, which cannot hurt it."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from eupe import session
from eupe.compose import Order, compose
from eupe.config import ScheduleConfig, read
from eupe.processes import Stop, World, world
from eupe.schedule import COMMAND, LOG, Scores, after_step
from eupe.train import set_up, train
from evals.context import silent_bar
from evals.encoders.exports.manifest import check_whole
from evals.errors import UsageError
from tests.eupe.tiny import pictures, stage

HERE = Path(__file__).parent
STUB = (sys.executable, str(HERE / "stub_watch.py"))
WATCH = (sys.executable, str(HERE.parent / "evals" / "watch" / "cli.py"))
ALONE = World(0, 1, torch.device("cpu"))
VIT = {"vit": {"model": "vit_tiny_patch16_dinov3_qkvb", "options": {"embed_dim": 48, "depth": 1, "num_heads": 3}}}
PIXELS = {"pixels": {"encoder": "pixels", "side": 64, "cls": "none"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures."""
    return pictures(tmp_path_factory.mktemp("data"), 12)


@pytest.fixture
def group() -> Iterator[None]:
    """A group of this one process, for a test that needs one already."""
    with world("cpu"):
        yield


def small(data: Path, **changes: Any) -> Any:
    """A stage of four steps of one student."""
    few = {"batch": 2, "statistics": {"batches": 2, "batch": 2}, "rate": {"base": 1e-3, "steps": 4, "warmup": 1}}
    return stage(data, students=VIT, teachers=PIXELS, **{**few, **changes})


def notes(folder: Path, **values: Any) -> None:
    """What the stand-in is to do."""
    (folder / "notes.json").write_text(json.dumps(values))


def calls(run: Path) -> list[dict[str, Any]]:
    """How the stand-in was called."""
    return [json.loads(line) for line in (run / "calls.jsonl").read_text().splitlines()]


def scores(run: Path, said: list[str], stop: Stop | None = None, command: Any = STUB, **changes: Any) -> Scores:
    """Of a run in that folder, which was made."""
    config = read(ScheduleConfig, {"watch": {}, **changes}, "schedule")
    (run / "exports").mkdir(parents=True, exist_ok=True)
    return Scores(config, run, said.append, stop or Stop(), command)


def test_exports_on_schedule_and_scores_of_each(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every second step and at the end, each whole; the settings are tried before the first step; a failure is told."""
    notes(tmp_path, exit=1)
    monkeypatch.setattr(session, "Scores", partial(Scores, command=STUB))
    watched = {"every": 2, "background": False, "watch": {"suite": "quick", "gate": ["in1k-knn>=30"], "limit": None}}
    run = tmp_path / "run"
    assert session.train_stage(Order(small(data, schedule=watched), run, "cpu"), Stop(), quiet=True)
    assert [call["there"] for call in calls(run)] == [[], ["vit-step-00000002"], ["vit", "vit-step-00000002"]]
    words = ["watch", str(run / "exports"), f"--results={run / 'results'}", "--settle=0", "--suite=quick"]
    assert [call["words"] for call in calls(run)] == [
        [*words, "--gate=in1k-knn>=30", last] for last in ("--status", "--once", "--once")
    ]
    assert [check_whole(run / "exports" / name).training["step"] for name in ("vit-step-00000002", "vit")] == [2, 4]
    assert capsys.readouterr().err.count(f"something failed; see {run / LOG}") == 2
    assert (run / LOG).read_text().count("scoring\n===") == 2


@pytest.mark.usefixtures("group")
def test_a_schedule_changes_nothing_that_is_learned(data: Path, tmp_path: Path) -> None:
    """Same bits with exports in between; a run may go on with another schedule, and writes no export twice."""
    plain = set_up(small(data), tmp_path / "a", ALONE, silent_bar)
    train(plain, None, silent_bar, Stop())
    often = small(data, schedule={"every": 1})
    for until in (2, 4):
        run = set_up(often, tmp_path / "b", ALONE, silent_bar)
        none = Scores(often.schedule, run.folder, print, Stop())
        train(run, None, silent_bar, Stop(), until, lambda: after_step(run, none, print))  # noqa: B023
        often = small(data, schedule={"every": 3})
    one, other = (each.pupils["vit"].learner.state_dict() for each in (plain, run))
    assert all(torch.equal(one[key], other[key]) for key in one)
    names = ["vit-step-00000001", "vit-step-00000002", "vit-step-00000003"]
    assert sorted(path.name for path in (tmp_path / "b" / "exports").iterdir()) == names


@pytest.mark.usefixtures("group")
def test_an_export_that_cannot_be_written_does_not_stop_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told; the steps go on."""

    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evals.encoders.exports.files.save_file", full)
    made = small(data, schedule={"every": 3})
    said: list[str] = []
    run = set_up(made, tmp_path / "run", ALONE, silent_bar)
    none = Scores(made.schedule, run.folder, said.append, Stop())
    train(run, None, silent_bar, Stop(), after_step=lambda: after_step(run, none, said.append))
    assert run.done == 4
    assert [text.partition(":")[0] for text in said] == ["after 3 steps"]
    assert "No space left" in said[0]


def test_one_evaluation_at_a_time_and_none_is_missed(tmp_path: Path) -> None:
    """What comes while something is scored is scored next, however often it was asked for; nobody waits meanwhile."""
    notes(tmp_path, sleep=1.0)
    run = tmp_path / "run"
    said: list[str] = []
    made = scores(run, said)
    started = time.monotonic()
    for _ in range(3):
        made.ask()
    assert time.monotonic() - started < 0.9
    assert made.wait()
    assert len(calls(run)) == 2
    assert said == []


def test_a_stop_ends_the_evaluation(tmp_path: Path) -> None:
    """A training that is asked to stop does not wait for scores; what was being scored is ended."""
    notes(tmp_path, sleep=600)
    stop, run = Stop(), tmp_path / "run"
    made = scores(run, [], stop)
    made.ask()
    while not (run / "calls.jsonl").is_file():
        time.sleep(0.05)
    stop.asked = True
    assert not made.wait()
    started = time.monotonic()
    made.close()
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (STUB, 3, r"a score regressed; see .*evaluations\.log"),
        (STUB, 2, "the settings do not hold"),
        (STUB, 143, "exit code 143"),
        (("/nowhere/eupe-eval",), 0, "cannot be scored: .*No such file.* The training goes on"),
    ],
)
def test_what_went_wrong_is_told_and_no_more(tmp_path: Path, command: Any, code: int, words: str) -> None:
    """By the exit codes of the watcher."""
    notes(tmp_path, exit=code)
    said: list[str] = []
    made = scores(tmp_path / "run", said, command=command)
    made.ask()
    assert made.wait()
    (text,) = said
    assert re.search(words, text)


def test_settings_that_do_not_hold_are_told_before_the_first_step(tmp_path: Path) -> None:
    """In the words of the command that refuses them; and nobody lets other processes wait."""
    notes(tmp_path, refusal="error: unknown suite 'quikc'")
    made = scores(tmp_path / "run", [])
    with pytest.raises(UsageError, match=r"schedule\.watch: error: unknown suite 'quikc'"):
        made.check(ALONE)
    two = World(1, 2, torch.device("cpu"))
    made.check(two)
    with pytest.raises(UsageError, match="makes 1 other processes wait"):
        scores(tmp_path / "run", [], background=False).check(two)
    Scores(ScheduleConfig(), tmp_path / "run", print, Stop(), ("/nowhere",)).check(ALONE)


@pytest.mark.golden
def test_the_real_watcher_takes_these_words(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`configs/schedule/quick` with exports of a run: each is claimed, scored by a stand-in and in the timeline."""
    monkeypatch.setenv("EUPE_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(session, "Scores", partial(Scores, command=WATCH))
    roots = ["sources.web.root=a", "sources.imagenet.root=b", "schedule.watch.data=miniature-tiny"]
    config = compose(["recipe=stage2-vit-b", "schedule=quick", "schedule.every=2", *roots]).stage.schedule
    made = small(data, schedule={"every": 2, "watch": config.watch})
    run = tmp_path / "run"
    assert session.train_stage(Order(made, run, "cpu"), Stop(), quiet=True)
    log = (run / LOG).read_text()
    assert "vit-step-00000002: quick done" in log
    assert "vit: quick done" in log
    assert (run / "results" / "watch" / "timeline.csv").is_file()
    assert log.rstrip().endswith("ended with exit code 0")


def test_the_command_is_that_of_the_suite() -> None:
    """In this interpreter."""
    words = [*COMMAND, "watch", "--help"]
    assert "--once" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
