"""One owner at a time, also when many want what a dead one left."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evals.errors import ResultsError
from evals.watch.claim import beating, owner, take
from tests.evals.watch.watching import HERE


def abandoned(place: Path, age: float = 1000.0) -> Path:
    """A claim whose owner died that many seconds ago."""
    place.mkdir(parents=True)
    token = place / "elsewhere-1-dead"
    token.touch()
    os.utime(token, (time.time() - age,) * 2)
    return token


def race(folder: Path, count: int, racers: int) -> list[list[int]]:
    """Which claims each of several processes got that start at the same moment."""
    words = [sys.executable, str(HERE / "racer.py"), str(folder), str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(words, text=True, **pipes) for _ in range(racers)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    start = f"{time.time() + 0.1}\n"
    for process in processes:
        assert process.stdin
        process.stdin.write(start)
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return [[int(word) for word in line.split()] for line in said]


def test_a_claim_is_exclusive_until_released(tmp_path: Path) -> None:
    """A second one gets nothing, sees who has it, and gets it afterwards; nothing is left behind."""
    place = tmp_path / "x.claim"
    first = take(place, 60, time.time)
    assert first is not None
    with first:
        assert take(place, 60, time.time) is None
        assert beating(place, 60, time.time()) == owner(place)
        assert str(os.getpid()) in str(owner(place))
    second = take(place, 60, time.time)
    assert second is not None
    with second:
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_heartbeat_keeps_a_claim(tmp_path: Path) -> None:
    """Held for longer than the time after which it would be stale, it is still nobody else's."""
    place = tmp_path / "x.claim"
    claim = take(place, 0.5, time.time)
    assert claim is not None
    with claim:
        time.sleep(0.8)
        assert take(place, 0.5, time.time) is None
        assert claim.holds()


def test_a_dead_owner_is_followed_by_one(tmp_path: Path) -> None:
    """The heir's claim is fresh from the start, and one with a recent heartbeat has no heir."""
    abandoned(tmp_path / "x.claim")
    assert beating(tmp_path / "x.claim", 600, time.time()) is None
    heir = take(tmp_path / "x.claim", 600, time.time)
    assert heir is not None
    assert take(tmp_path / "x.claim", 600, time.time) is None
    abandoned(tmp_path / "y.claim", age=100)
    assert take(tmp_path / "y.claim", 600, time.time) is None


def test_a_claim_is_never_without_a_heartbeat_as_it_changes_hands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the very moment of the rename nobody else may find it stale: two would think that they are the heir."""
    place, seen, real = tmp_path / "x.claim", list[str | None](), Path.rename

    def rename(self: Path, target: Path) -> Path:
        moved = real(self, target)
        seen.append(beating(place, 600, time.time()))
        return moved

    monkeypatch.setattr(Path, "rename", rename)
    abandoned(place)
    assert take(place, 600, time.time) is not None
    assert seen == [owner(place)]
    (tmp_path / "y.claim").mkdir()
    place = tmp_path / "y.claim"
    assert take(place, 600, time.time) is not None
    assert seen[1] == owner(place)


def test_the_empty_folder_of_a_crash_is_no_claim(tmp_path: Path) -> None:
    """What a crash in the middle of a release leaves hinders nobody."""
    (tmp_path / "x.claim").mkdir()
    assert take(tmp_path / "x.claim", 600, time.time) is not None


def test_an_owner_that_comes_back_late_finds_out(tmp_path: Path) -> None:
    """It no longer holds the claim, and its release does not touch the heir's."""
    place = tmp_path / "x.claim"
    claim = take(place, 0.3, time.time)
    assert claim is not None
    token = place / str(owner(place))
    with claim:
        token.rename(place / "heir")
        time.sleep(0.3)
        assert not claim.holds()
    assert owner(place) == "heir"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A file in place of the ledger's folder is one clear message."""
    (tmp_path / "ledger").touch()
    with pytest.raises(ResultsError, match="cannot claim"):
        take(tmp_path / "ledger" / "x.claim", 600, time.time)


@pytest.mark.parametrize("state", ["free", "abandoned", "empty"])
def test_of_many_processes_exactly_one_gets_each_claim(state: str, tmp_path: Path) -> None:
    """Three processes reach at the same moment for each of 200 claims: free, abandoned, or empty folders."""
    count = 200
    for at in range(count):
        if state == "abandoned":
            abandoned(tmp_path / f"{at}.claim")
        elif state == "empty":
            (tmp_path / f"{at}.claim").mkdir()
    got = race(tmp_path, count, racers=3)
    assert sorted(at for one in got for at in one) == list(range(count))
    assert all(len(list((tmp_path / f"{at}.claim").iterdir())) == 1 for at in range(count))
