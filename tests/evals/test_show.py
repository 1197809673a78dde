"""What the terminal shows of a results folder, a cache and a data check, good or bad."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import typer

from evals import __main__ as verbs
from evals import compose, show
from evals.datasets.check import Finding
from evals.errors import UsageError
from evals.record import EncoderCard, Record, Score, Task, write_record

GOOD = Record(
    status="success",
    created="2026-01-01T00:00:00Z",
    encoder=EncoderCard("x", "timm", "x", "hub", "ab" * 32, "MIT", 16, 224, "cls", text=False),
    task=Task("in1k-knn", 1, "paper", {}),
    standard=True,
    metrics=(Score("top1", 50.0, "percent", True, primary=True),),
)
FAILED = dataclasses.replace(GOOD, status="error", metrics=(), error={"message": "the disk broke\nin two"})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A success, a failure, and a file that is no record."""
    folder = tmp_path / "x" / "abab"
    write_record(folder / "in1k-knn@paper.json", GOOD)
    write_record(folder / "nyuv2-linear@paper.json", FAILED)
    (folder / "spair-pck@paper.json").write_text("{")
    return tmp_path


def code(verb: Callable[..., None], **words: object) -> int:
    """Exit code of a verb."""
    with pytest.raises(typer.Exit) as caught:
        verb(**words)
    return caught.value.exit_code


def test_status_shows_every_file_and_why(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row each: the score, the first line of the failure, and what could not be read; exit 1 for the last."""
    assert code(verbs.status, results=str(results)) == 1
    _, success, error, unreadable = capsys.readouterr().out.splitlines()
    assert "50 percent" in success
    assert error.endswith("the disk broke")
    assert unreadable.split()[:4] == ["x", "abab", "spair-pck@paper", "unreadable"]
    assert "is not a result record" in unreadable
    (results / "x" / "abab" / "spair-pck@paper.json").unlink()
    assert code(verbs.status, results=str(results)) == 0


def test_leaderboard_leaves_out_what_cannot_be_read(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tables of the others, the name of the file on stderr, exit 1."""
    assert code(verbs.leaderboard, results=str(results)) == 1
    shown = capsys.readouterr()
    assert "50.0" in shown.out
    (line,) = shown.err.splitlines()
    assert line.startswith("left out: ")
    assert "spair-pck@paper.json is not a result record" in line
    (results / "x" / "abab" / "spair-pck@paper.json").unlink()
    assert code(verbs.leaderboard, results=str(results)) == 0


@pytest.mark.parametrize("verb", [verbs.status, verbs.leaderboard])
def test_a_named_results_folder_must_be_there(verb: Callable[..., None], tmp_path: Path) -> None:
    """A slip of the pen is no empty folder; a folder without records is fine."""
    with pytest.raises(UsageError, match=r"no folder .*nowhere"):
        verb(results=str(tmp_path / "nowhere"))
    assert code(verb, results=str(tmp_path)) == 0


def test_a_cache_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Absent, empty and a file are three things."""
    verbs.cache_stats(cache=str(tmp_path / "nowhere"))
    verbs.cache_stats(cache=str(tmp_path))
    absent, empty = capsys.readouterr().out.splitlines()
    assert absent.endswith("nowhere does not exist yet.")
    assert empty.endswith("is empty.")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file' is a file: give --cache"):
        verbs.cache_stats(cache=str(tmp_path / "file"))


def test_findings_of_several_lines_are_indented() -> None:
    """Every line of a mend stands under its first."""
    found = show.findings([Finding("nyu", "error", "train", "no files", "no score", "Get it:\n  one\ntwo")])
    assert found.splitlines() == [
        "[error] nyu: train: no files",
        "    effect: no score",
        "    mend:   Get it:",
        "              one",
        "            two",
    ]


def test_the_examples_of_the_help_work() -> None:
    """What `-o` shows as examples are keys that exist."""
    (option,) = get_args(verbs.Override)[1:]
    examples = re.findall(r"\S+=\S*[^\s.,]", option.help.partition("e.g.")[2])
    assert len(examples) == 2
    compose.build(compose.compose(overrides=examples, flags={"data": "miniature"}))
