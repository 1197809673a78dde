"""`eupe-eval watch` as a user meets it: two at once, signals, views, wrong words, and one real evaluation."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals import __main__ as verbs
from evals.encoders.exports.files import write_export
from evals.errors import UsageError
from tests.evals.encoders.exporting import VIT, authors_names, model_of
from tests.evals.helpers import call
from tests.evals.watch.watching import Scene, export, scored, start

AT_ONCE = ("--once", "--settle=0")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An empty watched folder."""
    (tmp_path / "exports").mkdir()
    return Scene(tmp_path)


def invoke(*words: str) -> tuple[int, str]:
    """Exit code and output of the command line in this process."""
    done = CliRunner().invoke(verbs.app, ["watch", *words], env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and stderr of a process that comes to its end."""
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return process.returncode, errors


def wait_for(what: Callable[[], object]) -> None:
    """Until it is so."""
    deadline = time.monotonic() + 40
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_watchers_evaluate_everything_once(scene: Scene) -> None:
    """When ten exports appear at once they share the work, never do any twice, and keep one timeline."""
    words = ("watch", "exports", "--settle=0", "--interval=0.1")
    watchers = [start(*words, folder=scene.root) for _ in range(2)]
    for watcher in watchers:
        assert watcher.stderr
        assert watcher.stderr.readline().startswith("0 evaluated")
    for step in range(1, 11):
        export(scene.root / "aside" / f"step-{step}", step=step, scores=scored(knn=float(step)), sleep=0.15)
    (scene.root / "aside").rename(scene.exports / "run")
    wait_for(lambda: len(scene.ledger.entries()) == 10 and not list(scene.order.ledger.glob("*.claim")))
    for watcher in watchers:
        watcher.terminate()
    said = [ended(watcher) for watcher in watchers]
    assert [code for code, _ in said] == [143, 143]
    assert sorted(scene.calls()) == sorted(f"step-{step} quick" for step in range(1, 11))
    shares = [errors.count(" done in ") for _, errors in said]
    assert sum(shares) == 10
    assert min(shares) > 0
    scene.round()
    assert len((scene.order.ledger / "timeline.csv").read_text().splitlines()) == 11


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_evaluation_and_frees_the_candidate(number: int, code: int, scene: Scene) -> None:
    """The child is gone, the claim is released, no try is counted: the next watcher goes on."""
    export(scene.exports / "step-1", sleep=100)
    watcher = start("watch", "exports", "--settle=0", folder=scene.root)
    calls = scene.order.results / "calls.txt"
    wait_for(lambda: calls.is_file() and calls.read_text().endswith("\n"))
    child = int(calls.read_text().split()[-1])
    watcher.send_signal(number)
    assert ended(watcher)[0] == code
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert not [path for path in scene.order.ledger.iterdir() if path.suffix in (".claim", ".json", ".tmp")]
    assert scene.states() == {"step-1": "todo"}


def test_a_watcher_sees_what_comes_later(scene: Scene) -> None:
    """Without --once it goes on: an export that appears between rounds is evaluated, and nothing is said twice."""
    export(scene.exports / "step-1")
    watcher = start("watch", "exports", "--settle=0", "--interval=0.2", folder=scene.root)
    wait_for(lambda: scene.calls() == ["step-1 quick"])
    (scene.root / "aside").mkdir()
    export(scene.root / "aside" / "step-2")
    (scene.root / "aside" / "step-2").rename(scene.exports / "step-2")
    wait_for(lambda: scene.calls() == ["step-1 quick", "step-2 quick"])
    wait_for(lambda: len(scene.ledger.entries()) == 2)
    watcher.terminate()
    _, errors = ended(watcher)
    assert errors.count("step-1: quick done") == 1


def test_exit_codes_and_quiet(scene: Scene) -> None:
    """Nothing new: 0 and silence. A regression: 3 and one line. A failure: 1 and one line."""
    words = (str(scene.exports), *AT_ONCE, "--quiet", "--results", str(scene.order.results))
    assert invoke(*words) == (0, "")
    for step, knn in ((1, 50.0), (2, 40.0)):
        export(scene.exports / f"step-{step}", step=step, scores=scored(knn=knn))
    code, said = ended(start("watch", "exports", *AT_ONCE, "--quiet", "--tolerance=5", folder=scene.root))
    assert (code, said.count("\n")) == (3, 1)
    assert said.startswith("regression: step-2: in1k-knn@miniature top1 = 40 percent, after 50 percent of step-1")
    export(scene.exports / "step-3", exit=2)
    code, said = ended(start("watch", "exports", *AT_ONCE, "--quiet", folder=scene.root))
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("step-3: failed, left alone until --retry: quick ended with exit code 2: ")


def test_views_write_nothing(scene: Scene) -> None:
    """Dry run and status say what would be done and why something is not; --retry frees."""
    export(scene.exports / "bad", exit=2)
    results = ("--results", str(scene.order.results))
    code, said = invoke(str(scene.exports), "--status", *results)
    assert code == 0
    assert "not ready" in said
    code, said = invoke(str(scene.exports), "--dry-run", "--settle=0.1", *results)
    assert said.split() == ["candidate", "step", "state", "next", "why", "bad", "todo", "quick"]
    assert not scene.order.results.exists()
    scene.round()
    (scene.exports / "x.pt").touch()
    said = invoke(str(scene.exports), "--status", *results)[1]
    assert re.search("bad +quarantined +quick ended with exit code 2", said)
    assert re.search("x.pt +passed over +a weight file alone: --encoder would name its architecture", said)
    assert invoke(str(scene.exports), "--retry=bad", *results) == (0, "freed bad\n")
    assert scene.states()["bad"] == "todo"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere", "--once"), "no folder"),
        (("--suite", "quik"), "unknown suite 'quik'. Nearest: quick"),
        (("--gate", "in1k-knn>=30"), "every --gate opens one --then"),
        (("--gate", "in1k-knn>=30", "--then", "dens"), "unknown suite 'dens'. Nearest: dense"),
        (("--encoder", "eupe-vit-bb"), "unknown encoder 'eupe-vit-bb'. Nearest: eupe-vit-b"),
        (("--encoder", "./exports"), "is an export"),
        (("--tolerance", "some"), "--tolerance takes"),
        (("--on-regression", "mail 'me"), "--on-regression takes a command"),
        (("--data", "nowhere"), "data folder 'nowhere' does not exist"),
        (("-o", "in1k-knn.kk=3"), "unknown key of in1k-knn 'kk'"),
        (("--retry", "x"), "unknown failed candidate 'x'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words_are_told_before_anything_starts(words: tuple[str, ...], message: str, scene: Scene) -> None:
    """One message with what was expected; nothing is written but what a failed round finds out."""
    folder = () if words[0] == "nowhere" else (str(scene.exports),)
    with pytest.raises(UsageError) as caught:
        invoke(*folder, *words, "--results", str(scene.order.results))
    assert message in str(caught.value)
    assert scene.calls() == []


def test_looking_is_light(scene: Scene) -> None:
    """Help and a look load neither torch nor timm."""
    for words in (["--help"], ["exports", "--status"]):
        code = "import sys; from evals.__main__ import main; main()"
        script = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); {code}"
        command = [sys.executable, "-c", script, "watch", *words]
        done = subprocess.run(command, cwd=scene.root, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "False\n")


@pytest.mark.slow
def test_real_exports_are_scored_by_step(scene: Scene, tiny_world: Path) -> None:
    """Two exports of a small ViT and one copy cut short: two records of the embedded world, and their timeline."""
    target = scene.root / "cache" / "miniature"
    target.mkdir(parents=True)
    (target / tiny_world.name).symlink_to(tiny_world)
    for step in (100, 200):
        manifest = replace(VIT, training={"step": step})
        write_export(scene.exports / f"step-{step}", manifest, authors_names(model_of(manifest, seed=step)))
    half = scene.exports / "step-300"
    half.mkdir()
    for path in (scene.exports / "step-200").iterdir():
        (half / path.name).write_bytes(path.read_bytes()[: -1 if path.suffix == ".safetensors" else None])
    manifest_text = (half / "export.json").read_text().replace('"step": 200', '"step": 300')
    (half / "export.json").write_text(manifest_text)
    words = ("watch", "exports", "--once", "--settle=0.1", "--suite=image", "--data=miniature-tiny", "--tolerance=100")
    done = call(*words, folder=scene.root)
    assert done.returncode == 0, done.stderr
    assert "step-300: not ready: " in done.stderr
    assert "2 evaluated, 0 regression(s), 0 failed, 1 not ready" in done.stderr
    lines = list(csv.DictReader((scene.order.ledger / "timeline.csv").read_text().splitlines()))
    assert [(line["step"], line["metric"]) for line in lines] == [("100", "top1"), ("200", "top1")]
    for line in lines:
        (path,) = (scene.order.results / "tiny-student" / line["identity12"]).glob("in1k-knn@*.json")
        record = json.loads(path.read_text())
        (value,) = (metric["value"] for metric in record["metrics"] if metric["primary"])
        assert (float(line["score"]), line["standard"]) == (value, "no")
    again = call(*words, folder=scene.root)
    assert again.returncode == 0, again.stderr
    assert "0 evaluated" in again.stderr
