"""Gates, and the dear suite behind them."""

from pathlib import Path

import pytest

from evals.errors import UsageError
from evals.watch.cascade import parse_gate, stages
from tests.evals.watch.watching import Scene, export


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An empty watched folder, and a cascade of three."""
    (tmp_path / "exports").mkdir()
    cascade = stages("quick", ["in1k-knn>=30", "nyuv2-linear<1"], ["dense", "all"])
    return Scene(tmp_path, {"stages": cascade})


def notes(knn: float, depth: float) -> dict[str, dict[str, float]]:
    """What the stand-in gives for the suites."""
    return {"quick": {"in1k-knn": knn}, "dense": {"nyuv2-linear": depth}}


def test_the_dearer_suite_runs_past_the_gate_only(scene: Scene) -> None:
    """Each goes as far as its own scores carry it; a score equal to `>=` passes, one equal to `<` does not."""
    export(scene.exports / "low", scores=notes(29.9, 0.1))
    export(scene.exports / "mid", scores=notes(30.0, 1.0))
    export(scene.exports / "top", scores=notes(99.0, 0.9))
    assert scene.round().code == 0
    calls = scene.calls()
    assert [call for call in calls if call.startswith("low")] == ["low quick"]
    assert [call for call in calls if call.startswith("mid")] == ["mid quick", "mid dense"]
    assert [call for call in calls if call.startswith("top")] == ["top quick", "top dense", "top all"]
    whys = {item.name: item.why for item in scene.watcher().survey(scene.ledger.now(), wait=False)}
    assert whys == {
        "low": "dense is behind in1k-knn>=30: in1k-knn@miniature is 29.9 percent",
        "mid": "all is behind nyuv2-linear<1: nyuv2-linear@miniature is 1 m",
        "top": "",
    }


def test_a_gate_that_is_moved_lets_the_waiting_through(scene: Scene) -> None:
    """Only the suite that is missing is run."""
    export(scene.exports / "low", scores=notes(25.0, 0.1))
    scene.round()
    scene.changes["stages"] = stages("quick", ["in1k-knn>=20"], ["dense"])
    scene.round()
    assert scene.calls() == ["low quick", "low dense"]


@pytest.mark.parametrize(
    "what", [{"standard": False}, {"failed": True}, {"scores": {"quick": {"spair-pck": 50.0}}}, {"scores": {}}]
)
def test_only_a_standard_score_opens_a_gate(what: dict[str, object], scene: Scene) -> None:
    """Neither one that departs from its protocol, nor one of a failure, nor another benchmark's, nor none."""
    export(scene.exports / "step-1", **{"scores": notes(50.0, 0.1), **what})
    scene.round()
    assert scene.calls() == ["step-1 quick"]
    (item,) = scene.watcher().survey(scene.ledger.now(), wait=False)
    assert item.why.endswith("there is no standard score")


def test_a_gate_may_name_its_protocol(scene: Scene) -> None:
    """Scores of another protocol do not open it."""
    export(scene.exports / "step-1", scores=notes(50.0, 0.1))
    scene.changes["stages"] = stages("quick", ["in1k-knn@official>=30"], ["dense"])
    scene.round()
    scene.changes["stages"] = stages("quick", ["in1k-knn@miniature>=30"], ["dense"])
    scene.round()
    assert scene.calls() == ["step-1 quick", "step-1 dense"]


def test_a_failure_in_a_later_stage_is_a_failure(scene: Scene) -> None:
    """The suite that was done stays done."""
    export(scene.exports / "step-1", scores=notes(50.0, 0.1), exit_dense=1)
    assert scene.round().code == 1
    assert scene.round().code == 1
    assert scene.calls() == ["step-1 quick", "step-1 dense", "step-1 dense"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in1k-knn>=30", "in1k-knn>=30"),
        (" ade20k-linear@paper > 4.5e1 ", "ade20k-linear@paper>45"),
        ("nyuv2-linear<=.5", "nyuv2-linear<=0.5"),
    ],
)
def test_gates_are_read(text: str, expected: str) -> None:
    """With or without spaces, protocol and fraction."""
    assert str(parse_gate(text)) == expected


@pytest.mark.parametrize(
    ("gates", "suites", "message"),
    [
        (["in1k-knn>=30"], [], "every --gate opens one --then; got 1 and 0"),
        (["in1k-knn=30"], ["dense"], "--gate takes"),
        (["in1k-knn>=much"], ["dense"], "--gate takes"),
        (["in1k-kn>=30"], ["dense"], "Nearest: in1k-knn"),
        (["in1k-knn@offical>=30"], ["dense"], "Nearest: official"),
    ],
)
def test_gates_that_make_no_sense(gates: list[str], suites: list[str], message: str) -> None:
    """What is wrong, and what was expected."""
    with pytest.raises(UsageError) as caught:
        stages("quick", gates, suites)
    assert message in str(caught.value)
