"""Scores against the best earlier one: directions, tolerances, intervals, and what is done about it."""

import sys
from pathlib import Path

import pytest

from evals.errors import UsageError
from evals.watch.regression import Tolerance, parse_tolerance
from tests.evals.watch.watching import Scene, export, scored


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An empty watched folder."""
    (tmp_path / "exports").mkdir()
    return Scene(tmp_path)


def line(scene: Scene, *values: float, key: str = "knn", folder: str = "run", **notes: object) -> None:
    """Exports of one training at steps 100, 200, ... that score these values."""
    for at, value in enumerate(values, start=1):
        export(scene.exports / folder / f"step-{at}00", step=100 * at, scores=scored(**{key: value}), **notes)


def regressions(scene: Scene) -> list[str]:
    """What was said of them."""
    return [said.removeprefix("! regression: ") for said in scene.said if said.startswith("! regression: ")]


@pytest.mark.parametrize(("key", "values"), [("knn", (40.0, 50.0, 45.0, 55.0)), ("depth", (0.9, 0.5, 0.7, 0.4))])
def test_both_directions(key: str, values: tuple[float, ...], scene: Scene) -> None:
    """The third is worse than the best before it, by the metric's own direction; the exit code says so."""
    line(scene, *values, key=key)
    done = scene.round()
    assert (done.evaluated, done.regressions, done.code) == (4, 1, 3)
    (said,) = regressions(scene)
    unit = "m" if key == "depth" else "percent"
    assert said.startswith("run/step-300: ")
    assert f"= {values[2]:g} {unit}, after {values[1]:g} {unit} of run/step-200: worse by" in said
    assert scene.round().code == 0, "a regression is told once"


def test_only_earlier_steps_of_the_same_lineage_count(scene: Scene) -> None:
    """Neither another training's score, nor a later step's that was evaluated before, nor another student's."""
    line(scene, 90.0, folder="other")
    export(scene.exports / "run" / "step-900", step=900, scores=scored(knn=80.0))
    export(scene.exports / "run" / "small-300", name="small", step=300, scores=scored(knn=70.0))
    scene.round()
    line(scene, 40.0, 50.0)
    assert scene.round().code == 0
    assert regressions(scene) == []


def test_scores_of_another_kind_are_not_compared(scene: Scene) -> None:
    """Another benchmark, or the same with other constants."""
    line(scene, 90.0, key="pck")
    line(scene, 80.0, folder="run/a", standard=False)
    export(scene.exports / "run" / "step-300", step=300, scores=scored(knn=1.0))
    assert scene.round().code == 0


def test_intervals_decide_where_both_are_known(scene: Scene) -> None:
    """Overlapping ones are no regression and are said; those apart are, and the rule is named."""
    line(scene, 50.0, 46.0, 40.0, interval=3.0)
    assert scene.round().regressions == 1
    (said,) = regressions(scene)
    assert said.endswith("worse by 10, and the intervals [37, 43] and [47, 53] are apart")
    (fine,) = (said for said in scene.said if "no regression" in said)
    assert fine.endswith("worse by 4, and the intervals [43, 49] and [47, 53] overlap")


def test_intervals_where_lower_is_better(scene: Scene) -> None:
    """Worse is above."""
    line(scene, 0.5, 0.59, 0.61, key="depth", interval=0.05)
    assert scene.round().regressions == 1
    assert regressions(scene)[0].startswith("run/step-300")


@pytest.mark.parametrize(("text", "expected"), [("4.9", 1), ("5", 0), ("9.9%", 1), ("10 %", 0)])
def test_tolerance(text: str, expected: int, scene: Scene) -> None:
    """In the metric's unit, or in percent of the best; a loss that equals it is within."""
    scene.changes["tolerance"] = parse_tolerance(text)
    line(scene, 50.0, 45.0)
    assert scene.round().regressions == expected


def test_tolerance_is_not_a_matter_of_rounding() -> None:
    """50.3 - 50.0 is more than 0.3 in binary fractions."""
    assert 50.3 - 50.0 > 0.2999999
    assert not Tolerance(0.3, relative=False).exceeded(50.3 - 50.0, 50.3)
    assert not Tolerance(0.7, relative=False).exceeded(0.7 + 1e-12, 1.0)
    assert Tolerance(0.3, relative=False).exceeded(0.31, 50.3)


@pytest.mark.parametrize("text", ["", "-1", "much", "5 %%", "1e3"])
def test_tolerances_that_make_no_sense(text: str) -> None:
    """A number from 0, with or without a percent sign."""
    with pytest.raises(UsageError, match="--tolerance takes"):
        parse_tolerance(text)


def test_the_users_command_is_run_without_a_shell(scene: Scene) -> None:
    """Placeholders are filled within their words, and a name that a shell would run is only a name."""
    told = scene.root / "told"
    script = f"import sys, pathlib; pathlib.Path({str(told)!r}).write_text(repr(sys.argv[1:]))"
    words = ("{name}", "{step} of {benchmark}", "{score}<{best}", "{other} {", "{}")
    scene.changes["on_regression"] = (sys.executable, "-c", script, *words)
    line(scene, 50.0, 45.0, folder="$(touch boom); {best} x")
    scene.round()
    name = "$(touch boom); {best} x/step-200"
    assert told.read_text() == repr([name, "200 of in1k-knn@miniature", "45<50", "{other} {", "{}"])
    assert not list(scene.root.rglob("boom"))


@pytest.mark.parametrize("command", [(sys.executable, "-c", "import sys; sys.exit('no mail')"), ("no-such-command",)])
def test_a_users_command_that_fails_is_said(command: tuple[str, ...], scene: Scene) -> None:
    """The regression is still one, and the evaluation is done."""
    scene.changes["on_regression"] = command
    line(scene, 50.0, 45.0)
    assert scene.round().code == 3
    (said,) = (line for line in scene.said if "--on-regression failed" in line)
    assert said.startswith("! ")
    assert "no mail" in said or "no-such-command" in said
    assert set(scene.states().values()) == {"done"}


def test_a_regression_is_told_even_if_the_evaluation_failed(scene: Scene) -> None:
    """One score came, another did not: exit code 3 goes first, the failure is still there at the next round."""
    line(scene, 50.0)
    export(scene.exports / "run" / "step-200", step=200, scores=scored(knn=40.0), exit=1)
    assert scene.round().code == 3
    assert scene.round().code == 1
