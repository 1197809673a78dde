"""The command line as a user meets it: what it prints, what it writes, and how it fails."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from evals.miniature import world
from tests.evals.helpers import SHORT_HEADS, call, command, environment, records

KINDS = ["--suite=image", "--suite=dense", "--benchmark=cost"]
"""Every benchmark for which no language model is trained (those are run in benchmarks/test_questions.py)."""
ALL = ["run", "-e", "pixels", "-e", "eupe-vit-t", "--weights=random", *KINDS, "--data=miniature-tiny", "--quiet"]
ALL += SHORT_HEADS


@pytest.fixture
def folder(tmp_path: Path, tiny_world: Path) -> Path:
    """A working folder whose cache holds the tiny world already."""
    target = tmp_path / "cache" / "miniature"
    target.mkdir(parents=True)
    (target / tiny_world.name).symlink_to(tiny_world)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_world: Path) -> Path:
    """A folder with a complete run of every benchmark."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "cache" / "miniature").mkdir(parents=True)
    (folder / "cache" / "miniature" / tiny_world.name).symlink_to(tiny_world)
    done = call(*ALL, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_writes_a_record_a_benchmark(finished: Path) -> None:
    """Every benchmark leaves a record with its proof of frozenness and its per-sample outputs."""
    found = records(finished / "results")
    assert len(found) == 12
    for path, record in found.items():
        if record["task"]["name"] == "in1k-zeroshot":
            assert (record["status"], record["reason"]) == ("skipped", "no txt")
            continue
        assert record["status"] == "success", path
        assert record["frozen"]["ok"], path
        assert record["frozen"]["digest_before"] == record["frozen"]["digest_after"]
        assert sum(metric["primary"] for metric in record["metrics"]) == 1
        folder = (finished / "results" / path).parent
        assert all((folder / artifact["path"]).is_file() for artifact in record.get("artifacts", []))
    assert not any(record["standard"] for path, record in found.items() if "cost" not in path and record["dataset"])
    assert not list((finished / "cache" / "work").glob("*")), "finished work leaves no checkpoints"


def test_a_second_run_does_nothing_and_says_so(finished: Path) -> None:
    """What is there is not computed again: files keep their times, the exit code is 0."""
    before = {path: path.stat().st_mtime_ns for path in (finished / "results").rglob("*@*.json")}
    done = call(*[word for word in ALL if word != "--quiet"], folder=finished)
    assert done.returncode == 0, done.stderr
    assert "nothing left to do" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_two_runs_give_the_same_bytes(finished: Path, folder: Path) -> None:
    """Same seed, same machine: every record and every per-sample file but for times (latency is a time)."""
    done = call(*ALL, folder=folder)
    assert done.returncode == 0, done.stderr
    assert records(folder / "results") == records(finished / "results")


@pytest.mark.golden
def test_kill_and_resume_gives_the_same_records(finished: Path, folder: Path) -> None:
    """SIGKILL at three random moments, then a run to the end: the records of an undisturbed run."""
    killed(folder, times=3, seed=7)
    assert records(folder / "results") == records(finished / "results")


@pytest.mark.slow
def test_kill_at_many_points(finished: Path, folder: Path) -> None:
    """The same with 24 kills spread over the whole run."""
    killed(folder, times=24, seed=11)
    assert records(folder / "results") == records(finished / "results")


def killed(folder: Path, times: int, seed: int) -> None:
    """Start the run `times` times and kill it at a random moment, then let it end.

    Killed before anything new is kept, a start would only repeat itself: moments grow until a start gets further.
    """
    rng = random.Random(seed)
    for turn in range(times):
        process = subprocess.Popen(
            command(*ALL), cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(1.0, 4.0 + 8.0 * turn / times))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in (folder / "results").rglob("*@*.json"):
            json.loads(path.read_text())
    done = call(*ALL, folder=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_termination_leaves_no_litter(folder: Path, number: int, code: int) -> None:
    """SIGTERM or Ctrl-C in the middle: their exit codes, no trace, no temporary file, and how to go on after Ctrl-C."""
    words = [word for word in ALL if word != "--quiet"]
    process = subprocess.Popen(command(*words), cwd=folder, env=environment(folder), stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert any(b" to run" in line for line in process.stderr), "it ended before it began"
    time.sleep(1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.count(b"interrupted; the same command goes on from here\n") == (number == signal.SIGINT)
    assert b"Traceback" not in errors
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "-e", "eupe-vit-bb"], "unknown encoder 'eupe-vit-bb'. Nearest: eupe-vit-b"),
        (["run", "-e", "pixels", "-b", "in1k-kn"], "unknown benchmark 'in1k-kn'. Nearest: in1k-knn"),
        (["run", "-e", "pixels", "-s", "imag"], "unknown suite 'imag'. Nearest: image"),
        (["run", "-e", "pixels", "-o", "in1k-knn.kk=3", "--data", "miniature-tiny"], "unknown key of in1k-knn 'kk'"),
        (["run", "-e", "pixels", "-o", "batchh=3"], "cannot apply -o batchh=3"),
        (["run", "-e", "pixels", "-o", "batch"], "-o takes key=value; got 'batch'"),
        (["run", "-e", "pixels", "--protocol", "offical", "--data", "miniature-tiny"], "Nearest: official"),
        (["run", "-e", "pixels", "--dtype", "fp16"], "unknown dtype 'fp16'"),
        (["run", "-e", "pixels", "--limit", "0"], "limit must be a whole number from 1; got 0"),
        (["run", "-e", "pixels", "--data", "nowhere"], "data folder 'nowhere' does not exist"),
        (["run", "-e", "eupe-vit-t", "--weights", "nothing.pt", "--data", "miniature-tiny"], "no such file"),
        (["info", "pixel"], "Nearest: pixels"),
        (["data", "make", "--size", "huge"], "unknown"),
        (["data", "make", "--workers", "0"], "Invalid value for '--workers'"),
        (["cache", "prune", "lots"], "a size is a number with a unit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_one_message_and_exit_2(words: list[str], expected: str, folder: Path) -> None:
    """Usage errors say what is wrong and what is near; nothing is computed or written."""
    done = call(*words, folder=folder)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "results").exists()


def test_without_data_every_benchmark_says_how_to_get_some(folder: Path) -> None:
    """Missing data are `unavailable`, exit 1, and name the embedded world; what needs none still runs."""
    done = call("run", "-e", "pixels", "-b", "in1k-knn", "-b", "cost", folder=folder)
    assert done.returncode == 1
    assert "in1k-knn@official: unavailable: no folder is configured for 'imagenet'" in done.stderr
    assert "--data miniature" in done.stderr
    found = {record["task"]["name"]: record for record in records(folder / "results").values()}
    assert (found["in1k-knn"]["status"], found["in1k-knn"]["reason"]) == ("unavailable", "data")
    assert found["in1k-knn"]["metrics"] == []
    assert found["cost"]["status"] == "success"


def test_missing_weights_are_unavailable(folder: Path) -> None:
    """Hub weights that are not here and cannot be had: what to get, exit 1, no record with a made-up identity."""
    done = call("run", "-e", "eupe-vit-t", "-b", "in1k-knn", "--data", "miniature-tiny", folder=folder)
    assert done.returncode == 1
    assert "unavailable" in done.stderr
    assert "--weights" in done.stderr
    assert records(folder / "results") == {}


def test_a_failed_benchmark_stops_no_other_and_harms_no_record(finished: Path, folder: Path) -> None:
    """A damaged image fails the benchmarks that read it, by name; the rest succeed; exit 1."""
    source = (folder / "cache" / "miniature" / world.world_name("tiny", 0)).resolve()
    data = folder / "data"
    data.mkdir()
    for name in ("ade20k", "nyu", "SPair-71k"):
        (data / name).symlink_to(source / name)
    copy = subprocess.run(["cp", "-r", source / "imagenet", data / "imagenet"], check=True)
    assert copy.returncode == 0
    broken = sorted((data / "imagenet" / "val").rglob("*.JPEG"))[4]
    broken.write_bytes(broken.read_bytes()[:300])
    words = ["run", "-e", "pixels", "-b", "in1k-knn", "-b", "spair-pck", "--protocol", "miniature", "--data", str(data)]
    done = call(*words, folder=folder)
    assert done.returncode == 1
    assert f"{broken.name} cannot be decoded" in done.stderr
    found = {record["task"]["name"]: record["status"] for record in records(folder / "results").values()}
    assert found == {"in1k-knn": "error", "spair-pck": "success"}


def test_results_that_cannot_be_written_are_known_before_the_work(folder: Path) -> None:
    """A results path that is a file: one message, exit 1."""
    (folder / "file").write_text("")
    words = ["run", "-e", "pixels", "-b", "cost", "--data", "miniature-tiny", "--results", "file"]
    done = call(*words, folder=folder)
    assert done.returncode == 1
    assert "error: cannot write" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_prints_one_launch_and_one_done_record(folder: Path) -> None:
    """Two JSON lines on stdout and nothing else."""
    done = call("run", "-e", "pixels", "-b", "in1k-knn", "--data", "miniature-tiny", "--json", folder=folder)
    launch, end = (json.loads(line) for line in done.stdout.splitlines())
    assert (launch["event"], end["event"]) == ("launch", "done")
    assert end["outcomes"][0]["status"] == "success"


@pytest.mark.parametrize("words", [["list", "suites", "--json"], ["run", "-e", "pixels", "-b", "cost", "--dry-run"]])
def test_an_output_that_cannot_be_written(words: list[str], folder: Path) -> None:
    """A full disk behind stdout is one message and exit 1; a reader that went away is no message."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*words), cwd=folder, env=environment(folder), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"error: cannot write the output: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    gone = subprocess.run(
        command(*words), cwd=folder, env=environment(folder), stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (gone.returncode, gone.stderr) == (1, b"")


def test_dry_run_writes_nothing(folder: Path) -> None:
    """The plan names each step and its data, and no record appears."""
    done = call("run", "-e", "pixels", *KINDS, "--data", "miniature-tiny", "--dry-run", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "in1k-knn@miniature" in done.stdout
    assert "train 30, val 15" in done.stdout
    assert not (folder / "results").exists()


def test_limit_is_never_standard(folder: Path) -> None:
    """A limited result has a file name of its own and says so."""
    done = call("run", "-e", "pixels", "-b", "in1k-knn", "--data", "miniature-tiny", "--limit", "10", folder=folder)
    assert done.returncode == 0, done.stderr
    (path, record), *others = records(folder / "results").items()
    assert not others
    assert record["dataset"]["limited"]
    assert record["dataset"]["n_effective"] == {"train": 10, "val": 10}
    assert not record["standard"]
    assert "@miniature-" in path


def test_a_change_of_protocol_is_named_in_the_record(folder: Path) -> None:
    """A changed constant is listed, and keeps the record off the standard name."""
    words = ["run", "-e", "pixels", "-b", "in1k-knn", "--data", "miniature-tiny", "-o", "in1k-knn.ks=[3]"]
    done = call(*words, folder=folder)
    assert done.returncode == 0, done.stderr
    (record,) = records(folder / "results").values()
    assert record["task"]["changed"] == {"ks": [3]}
    assert not record["standard"]


def test_views_of_a_finished_run(finished: Path) -> None:
    """Status, leaderboard and cache show what is there."""
    status = call("status", folder=finished).stdout
    assert "in1k-knn@miniature" in status
    assert "success" in status
    board = call("leaderboard", folder=finished).stdout
    assert "pixels" in board
    assert call("leaderboard", "--format", "csv", folder=finished).stdout.count("\n") >= 12
    assert "features/eupe-vit-t" in call("cache", "stats", folder=finished).stdout


@pytest.mark.golden
def test_cache_can_be_cleared_and_comes_back_the_same(folder: Path) -> None:
    """Features are only a cache: without them the same record is made."""
    words = ["run", "-e", "pixels", "-b", "in1k-knn", "--data", "miniature-tiny", "--overwrite"]
    assert call(*words, folder=folder).returncode == 0
    first = records(folder / "results")
    assert call("cache", "clear", "--encoder", "pixels", folder=folder).stdout.startswith("freed ")
    assert not list((folder / "cache" / "features").rglob("*.safetensors"))
    assert call(*words, folder=folder).returncode == 0
    assert records(folder / "results") == first


def test_data_check_and_show(folder: Path) -> None:
    """The world is whole; a removed label is found and its effect on the score is named."""
    good = call("data", "check", "--data", "miniature-tiny", "--quiet", folder=folder)
    assert good.returncode == 0, good.stdout
    shown = call("data", "show", "--data", "miniature-tiny", "--output", "sheet.png", folder=folder)
    assert shown.returncode == 0, shown.stderr
    assert (folder / "sheet.png").read_bytes().startswith(b"\x89PNG")
    missing = call("data", "check", folder=folder)
    assert missing.returncode == 2
    assert "--data miniature" in missing.stderr
