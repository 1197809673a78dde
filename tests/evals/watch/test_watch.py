"""Rounds of a watcher: everything once, failures in their order, nothing lost and nothing twice."""

import json
import os
import time
from pathlib import Path

import pytest

from evals.encoders.exports.manifest import BACKBONE, MANIFEST
from evals.errors import NewerRecordError, UsageError
from evals.watch.ledger import Entry
from evals.watch.watch import Watcher
from tests.evals.watch.watching import STUB, Scene, export, scored


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An empty watched folder."""
    (tmp_path / "exports").mkdir()
    return Scene(tmp_path)


def test_each_candidate_is_evaluated_once(scene: Scene) -> None:
    """In the order of their steps; later rounds, also of a new watcher, do nothing."""
    for step in (300, 20, 100):
        export(scene.exports / f"step-{step}", step=step, scores=scored(knn=float(step)))
    first = scene.round()
    assert (first.evaluated, first.regressions, first.failed, first.code) == (3, 0, [], 0)
    assert scene.calls() == ["step-20 quick", "step-100 quick", "step-300 quick"]
    assert scene.round().evaluated == 0
    assert len(scene.calls()) == 3
    assert set(scene.states().values()) == {"done"}


def test_the_words_of_an_evaluation(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options are passed on, long runs are agreed to, and a setting of weights for all is not: each has its own."""
    monkeypatch.setenv("EUPE_EVAL_WEIGHTS", "random")
    scene.changes |= {"scoring": ("--data=/data",), "conduct": ("--device=cpu",), "encoder": "eupe-vit-t"}
    identity = export(scene.exports / "step-1")
    (scene.exports / "step-2.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    scene.round()
    results = scene.order.results
    log = (results / "watch" / f"{identity[:12]}.log").read_text().splitlines()
    expected = f"run --encoder {scene.exports / 'step-1'} --suite quick --data=/data --device=cpu"
    assert log[1] == f"words: {expected} --results {results} --yes weights setting: None"
    (other,) = (path for path in (results / "watch").glob("*.log") if path.name != f"{identity[:12]}.log")
    weights = scene.exports / "step-2.safetensors"
    assert f"run --encoder eupe-vit-t --weights {weights} --suite quick" in other.read_text()


def test_what_is_not_whole_is_never_evaluated(scene: Scene) -> None:
    """Half-written exports wait without being failures, and are evaluated once they are whole."""
    for name in ("short", "wrong", "bare"):
        export(scene.exports / name)
    manifest = (scene.exports / "bare" / MANIFEST).read_text()
    (scene.exports / "bare" / MANIFEST).unlink()
    (scene.exports / "short" / BACKBONE).write_bytes(b"tensors")
    (scene.exports / "wrong" / BACKBONE).write_bytes(b"Tensors of wrong")
    assert scene.round().code == 0
    assert scene.calls() == []
    assert scene.states() == {"short": "not ready", "wrong": "not ready", "bare": "passed over"}
    assert any("step" not in line and "cut short" in line for line in scene.said)
    (scene.exports / "bare" / MANIFEST).write_text(manifest)
    (scene.exports / "short" / BACKBONE).write_bytes(b"tensors of short")
    assert scene.round().evaluated == 2
    assert sorted(scene.calls()) == ["bare quick", "short quick"]


def test_what_changes_between_two_looks_waits(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grows while a round waits is left for the next round, whole as it may seem."""
    scene.changes |= {"settle": 0.05, "encoder": "eupe-vit-t"}
    path = scene.exports / "step-1.safetensors"
    path.write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    steady = scene.exports / "step-2.safetensors"
    steady.write_bytes(b"\x03" + b"\0" * 7 + b"{ }")
    real, slept = time.sleep, []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        os.utime(path, (len(slept), len(slept)))
        real(seconds)

    watcher = scene.watcher()
    monkeypatch.setattr("evals.watch.watch.time.sleep", sleep)
    assert watcher.round().evaluated == 1
    monkeypatch.undo()
    assert 0.04 < slept[0] <= 0.05
    assert watcher.round().evaluated == 1
    watcher.round()
    assert len(scene.calls()) == 2


def test_copies_are_one(scene: Scene) -> None:
    """The same export at two places is evaluated once, and neither place is read again."""
    export(scene.exports / "step-1", step=1)
    for path in [*(scene.exports / "step-1").iterdir()]:
        (scene.exports / "latest").mkdir(exist_ok=True)
        (scene.exports / "latest" / path.name).write_bytes(path.read_bytes())
    scene.round()
    assert scene.calls() == ["step-1 quick"]
    places = scene.entry("step-1").places
    assert {Path(place).name for place in places} == {"latest", "step-1"}
    scene.changes["settle"] = 1000
    assert set(scene.states().values()) == {"done"}


def test_a_failure_is_tried_three_times_then_left_alone_until_freed(scene: Scene) -> None:
    """Exit code 1 at each round; quarantined with its reason; `free` gives it three tries more."""
    export(scene.exports / "bad", exit=1)
    export(scene.exports / "good")
    for tries in (1, 2, 3):
        done = scene.round()
        assert (done.code, done.failed) == (1, ["bad"])
        assert scene.entry("bad").tries == tries
    assert scene.round().code == 1, "it is still there and not scored"
    assert scene.calls().count("bad quick") == 3
    assert scene.states() == {"bad": "quarantined", "good": "done"}
    assert "ended with exit code 1" in scene.entry("bad").reason
    assert scene.entry("bad").reason.endswith("it broke")
    assert sum(line.startswith("! bad: failed") for line in scene.said) == 3
    assert [entry.name for entry in scene.ledger.free("bad", 600)] == ["bad"]
    scene.round()
    assert scene.calls().count("bad quick") == 4
    (scene.exports / "bad").rename(scene.exports / ".bad")
    assert scene.round().code == 0, "what is gone is nobody's failure"


def test_a_failure_waits_longer_each_time() -> None:
    """The second try comes after one interval, the third after two more; wrong usage is for good at once."""
    entry = Entry("0" * 64, "a", "a", "a", None, 0.0)
    once = entry.failed("why", 1000.0, 60.0, for_good=False)
    twice = once.failed("why", 2000.0, 60.0, for_good=False)
    assert (once.not_before, once.quarantined) == (1060.0, False)
    assert (twice.not_before, twice.quarantined) == (2120.0, False)
    assert twice.failed("why", 3000.0, 60.0, for_good=False).quarantined
    assert entry.failed("why", 1000.0, 60.0, for_good=True).quarantined
    assert twice.freed() == entry


def test_a_failure_is_not_tried_before_its_pause_is_over(scene: Scene) -> None:
    """Until then it waits, says for how long and why, and counts as failed."""
    scene.changes["interval"] = 3600.0
    export(scene.exports / "bad", exit=1)
    assert [scene.round().code for _ in range(3)] == [1, 1, 1]
    assert scene.calls() == ["bad quick"]
    (item,) = scene.watcher().survey(scene.ledger.now(), wait=False)
    assert (item.state, item.suite) == ("waiting", "quick")
    assert item.why.startswith("try 2 of 3 in 3")


def test_wrong_usage_is_not_tried_again(scene: Scene) -> None:
    """Exit code 2 cannot get better by waiting."""
    export(scene.exports / "odd", exit=2)
    scene.round()
    scene.round()
    assert scene.calls() == ["odd quick"]
    assert scene.states() == {"odd": "quarantined"}


def test_a_killed_evaluation_is_a_failure(scene: Scene) -> None:
    """So is one that takes too long, which is ended."""
    export(scene.exports / "killed", kill=True)
    scene.round()
    assert "was ended by signal 9" in scene.entry("killed").reason
    scene.changes["timeout"] = 0.5
    export(scene.exports / "slow", sleep=60)
    started = time.monotonic()
    scene.round()
    assert time.monotonic() - started < 15
    assert "took more than 0.5 s" in scene.entry("slow").reason


def test_scores_of_a_failed_evaluation_are_kept(scene: Scene) -> None:
    """What was scored before the failure is in the timeline."""
    export(scene.exports / "half", exit=1, scores=scored(knn=12.0))
    scene.round()
    assert ",12.0," in (scene.order.ledger / "timeline.csv").read_text()


def test_a_candidate_that_changes_meanwhile_is_not_blamed(scene: Scene) -> None:
    """Overwritten while it is evaluated: neither done nor failed; what is there now is looked at afresh."""
    target = scene.exports / "step-1" / BACKBONE
    export(scene.exports / "step-1", exit=1, touch=str(target))
    assert scene.round().code == 0
    assert scene.entry("step-1").tries == 0
    target.write_bytes(b"tensors of step-1")
    assert scene.round().evaluated == 1


def test_a_candidate_that_changes_before_its_turn_waits(scene: Scene) -> None:
    """What was proved at the beginning of a round is not evaluated as something else later in it."""
    export(scene.exports / "a", step=1, touch=str(scene.exports / "b" / BACKBONE))
    export(scene.exports / "b", step=2)
    assert scene.round().evaluated == 1
    assert scene.calls() == ["a quick"]
    assert "not ready" in scene.states().values()


def test_a_stale_claim_is_taken_over(scene: Scene) -> None:
    """A watcher that died is followed by another; one that lives is waited for."""
    dead, live = export(scene.exports / "dead"), export(scene.exports / "live")
    for identity, age in ((dead, 1000), (live, 10)):
        token = scene.order.ledger / f"{identity}.claim" / "elsewhere-1-x"
        token.parent.mkdir(parents=True)
        token.touch()
        os.utime(token, (time.time() - age,) * 2)
    assert scene.states() == {"dead": "todo", "live": "running"}
    assert scene.round().code == 0
    assert scene.calls() == ["dead quick"]


def test_a_watcher_that_lost_its_claim_leaves_the_candidate_alone(scene: Scene) -> None:
    """Its evaluation is ended and nothing is written down: all that is for the new owner."""
    scene.changes["stale"] = 1.0
    identity = export(scene.exports / "step-1", sleep=30, touch=str(scene.root / "done"))
    place = scene.order.ledger / f"{identity}.claim"

    class Thief(Watcher):
        def _announce(self, items: object) -> None:
            import threading

            threading.Timer(0.7, lambda: next(place.iterdir()).rename(place / "thief")).start()

    started = time.monotonic()
    Thief(scene.order, lambda message, always=False: scene.said.append(message), lambda: None, STUB).round()
    assert time.monotonic() - started < 20
    assert scene.ledger.entries() == []
    assert [path.name for path in place.iterdir()] == ["thief"]
    assert any("took it over" in line for line in scene.said)


def test_another_command_is_another_evaluation(scene: Scene) -> None:
    """With other words that move scores everything is evaluated again, with other devices nothing is."""
    export(scene.exports / "step-1")
    for changes in ({}, {"conduct": ("--device=cuda",)}, {"scoring": ("--limit=5",)}, {"scoring": ("--limit=5",)}):
        scene.changes |= changes
        scene.round()
    assert len(scene.calls()) == 2


def test_settings_that_hold_for_nobody_are_held_against_nobody(scene: Scene) -> None:
    """A data folder that is gone stops the round; no candidate is tried."""
    export(scene.exports / "step-1")

    def check() -> None:
        raise UsageError("data folder 'x' does not exist")

    with pytest.raises(UsageError, match="does not exist"):
        Watcher(scene.order, lambda message, always=False: None, check, STUB).round()
    assert scene.calls() == []
    assert scene.ledger.entries() == []


def test_a_broken_entry_is_found_out_again_and_a_newer_one_is_not_touched(scene: Scene) -> None:
    """What the ledger forgot costs a look; what a later version wrote stops the watcher."""
    identity = export(scene.exports / "step-1")
    scene.round()
    path = scene.order.ledger / f"{identity}.json"
    for text in ("{", "[]", '{"identity": 5}', path.read_text().replace('"tries": 0', '"tries": "none"')):
        path.write_text(text)
        assert scene.round().evaluated == 1
    newer = json.dumps({**json.loads(path.read_text()), "schema": 2})
    path.write_text(newer)
    with pytest.raises(NewerRecordError, match="Upgrade eupe-eval"):
        scene.round()
    assert path.read_text() == newer


def test_only_what_failed_can_be_freed(scene: Scene) -> None:
    """An unknown name lists the failed ones; one that is being evaluated is not touched; digits of the digest do."""
    identity = export(scene.exports / "bad", exit=2)
    scene.round()
    with pytest.raises(UsageError, match=r"unknown failed candidate 'bed'\. Nearest: bad"):
        scene.ledger.free("bed", 600)
    claim = scene.ledger.take(identity, 600)
    assert claim is not None
    with claim, pytest.raises(UsageError, match="at this moment"):
        scene.ledger.free("bad", 600)
    (freed,) = scene.ledger.free(identity[:12], 600)
    assert (freed.name, scene.entry("bad").tries, scene.entry("bad").quarantined) == ("bad", 0, False)


def test_messages_are_said_once(scene: Scene) -> None:
    """A watcher repeats neither what waits nor that nothing happened."""
    export(scene.exports / "cut")
    (scene.exports / "cut" / BACKBONE).write_bytes(b"")
    export(scene.exports / "bad", exit=1)
    scene.changes["interval"] = 3600.0
    watcher = scene.watcher()
    watcher.round()
    watcher.round()
    said = list(scene.said)
    assert [line.split(":")[0] for line in said[:3]] == ["cut", "bad", "! bad"]
    assert sum("not ready" in line and "cut" in line for line in said) == 1
    time.sleep(1)
    watcher.round()
    assert scene.said == said


def test_a_file_that_is_overwritten_again_and_again(scene: Scene) -> None:
    """Each content is evaluated once under the same name; what is there now is not read again."""
    scene.changes["encoder"] = "eupe-vit-t"
    path = scene.exports / "latest.safetensors"
    for at, spaces in enumerate((3, 1, 2), start=1):
        path.write_bytes(bytes([2 + spaces]) + b"\0" * 7 + b"{" + b" " * spaces + b"}")
        os.utime(path, (at, at))
        assert scene.round().evaluated == 1
    assert [entry.modified for entry in scene.ledger.entries()] == [1.0, 2.0, 3.0]
    scene.changes["settle"] = 1000.0
    assert scene.states() == {"latest.safetensors": "done"}
