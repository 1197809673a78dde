"""What the terminal shows of a results folder, a cache and a data check, good or bad."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import typer
import yaml
from huggingface_hub import constants
from typer.testing import CliRunner

from evals import __main__ as verbs
from evals import compose, show
from evals import verbs as encoder_verbs
from evals.datasets.check import Finding
from evals.encoders.registry import resolve
from evals.encoders.routes import TRUST
from evals.errors import UnavailableError, UsageError
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

MINE = {
    "source": "timm",
    "model": "vit_tiny_patch16_224",
    "global_feature": "cls",
    "licence": "Apache-2.0",
    "size": 224,
    "patch": 16,
    "dim": 192,
    "hub": "owner/name@" + "ab" * 20,
    "gated": True,
}
DEFAULTS = {
    "text": False,
    "interpolation": "bicubic",
    "antialias": True,
    "resize": "crop",
    "normalise": "imagenet",
    "rope_periods": "fp32",
    "positions": "library",
    "weights": "hub",
}


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


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good entry and a broken one; nothing is on this machine."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("EUPE_EVAL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "entries"
    folder.mkdir()
    (folder / "mine.yaml").write_text(yaml.safe_dump(MINE))
    (folder / "broken.yaml").write_text(yaml.safe_dump({**MINE, "patch": "big"}))
    return folder


def test_list_shows_what_can_be_read(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken entry is named on stderr with its file, the others are listed, exit 1; without it, exit 0."""
    assert code(encoder_verbs.list_, what="encoders", config_dir=own) == 1
    shown = capsys.readouterr()
    row = next(line for line in shown.out.splitlines() if line.startswith("mine "))
    assert row.split(maxsplit=7) == ["mine", "timm", "16", "192", "224", "cls", "no", "txt  Apache-2.0 (gated)"]
    assert "eupe-vit-b" in shown.out
    (line,) = shown.err.splitlines()
    assert line.startswith("left out: broken: patch in the entry of encoder 'broken'")
    assert "broken.yaml" in line
    (own / "broken.yaml").unlink()
    encoder_verbs.list_(what="encoders", config_dir=own)
    assert capsys.readouterr().err == ""


def test_list_built_adds_what_the_models_tell(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth, parameters and structure of each; one that cannot be built keeps its row and is named."""
    monkeypatch.setattr(show, "names", lambda folder: ["mine", "pe-core-t", "pixels"])
    steps: list[int] = []

    class Counter:
        def __init__(self, title: str, total: int) -> None:
            assert total == 3

        def __enter__(self) -> "Counter":
            return self

        def __exit__(self, *rest: object) -> None: ...

        def update(self, n: int = 1) -> None:
            steps.append(n)

    def absent(name: str) -> None:
        raise UnavailableError("package", f"{name} needs open_clip")

    monkeypatch.setattr("evals.encoders.clip.config.library", absent)
    table = show.encoders(own, Counter)
    mine, core, pixels = table.rows
    assert (mine["depth"], mine["params"], mine["prefix"], mine["norm"]) == ("12", "5.5 M", "cls", "final")
    assert mine["positions"].startswith("learnt")
    assert (pixels["dim"], pixels["depth"], pixels["norm"]) == ("768", "0", "none_exists")
    assert (core["licence"], core["depth"], core["norm"]) == ("Apache-2.0", "-", "-")
    assert table.left_out == ["pe-core-t: pe-core-t needs open_clip"]
    assert sum(steps) == 3


def test_only_encoders_can_be_built() -> None:
    """Benchmarks and suites have nothing to build."""
    with pytest.raises(UsageError, match="--built is about encoders"):
        encoder_verbs.list_(what="suites", built=True)


def test_info_of_an_entry(own: Path) -> None:
    """The entry as YAML, and as comments its structure, what to download, and where to ask for it."""
    text = show.info("mine", own)
    assert yaml.safe_load(text) == {**MINE, **DEFAULTS}
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for words in (
        "#   params: 5.5 M",
        "#   prefix: cls",
        f"#   not here: model.safetensors of owner/name at commit {MINE['hub'][-40:]} (pinned by the entry)",
        f"#   to get it: hf download owner/name model.safetensors --revision {MINE['hub'][-40:]}",
    ):
        assert words in comments
    assert re.search(r"#   access is granted on request at \S+/owner/name;", text)


@pytest.mark.parametrize(
    ("weights", "words"),
    [("random", "never trained"), ("nowhere.pt", "not here: nowhere.pt"), ("hub", "no weights on")],
)
def test_info_of_weights_that_are_elsewhere(weights: str, words: str, own: Path) -> None:
    """Random weights, a file, and weights that were never published."""
    (own / "mine.yaml").write_text(yaml.safe_dump({**MINE, "hub": None, "weights": weights}))
    assert words in show.info("mine", own).rpartition("# weights")[2]


def test_info_says_what_it_cannot_build(own: Path) -> None:
    """An entry that does not fit its model is shown all the same, with the reason."""
    (own / "mine.yaml").write_text(yaml.safe_dump({**MINE, "dim": 100}))
    assert "#   not built: the entry of encoder 'mine' says dim 100" in show.info("mine", own)


def test_info_of_a_route_is_an_entry_to_save(own: Path) -> None:
    """What is printed for a route, saved as a file, is listed and gives the same entry."""
    name = "timm:vit_tiny_patch16_224?global_feature=none&size=192"
    (own / "saved.yaml").write_text(show.info(name, own))
    assert resolve("saved", extra=own) == dataclasses.replace(resolve(name), name="saved")
    assert "save as <name>.yaml" in show.info(name, own)
    assert "save as <name>.yaml" not in show.info("saved", own)


def test_a_run_tells_what_a_route_came_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr once, as YAML that can be saved; stdout has the plan alone."""
    monkeypatch.chdir(tmp_path)
    words = ["run", "-e", "timm:vit_tiny_patch16_224", "-e", "pixels", "-b", "cost", "--weights", "random", "--dry-run"]
    done = CliRunner().invoke(verbs.app, words)
    assert done.exit_code == 0, done.stderr
    first, *text = done.stderr.splitlines()
    assert first.startswith("timm:vit_tiny_patch16_224 is taken as follows; save as <name>.yaml")
    entry = yaml.safe_load("\n".join(text))
    assert (entry["prefix"], entry["norm"], entry["global_feature"]) == ("cls", "final", "cls")
    assert "taken as" not in done.stdout


def test_the_option_is_what_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it code of a repository is refused; with it the refusal is about the next thing."""
    monkeypatch.setenv(TRUST, "0")
    name = f"hub:owner/name@{'a' * 40}:point"
    refused = CliRunner().invoke(verbs.app, ["info", name])
    assert isinstance(refused.exception, UsageError)
    assert "add --trust-remote-code" in str(refused.exception)
    trusted = CliRunner().invoke(verbs.app, ["info", "--trust-remote-code", name])
    assert "a repository's code does not tell patch, size" in str(trusted.exception)


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
