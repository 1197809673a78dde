"""The timeline: made from records and ledger, and made again from them."""

import csv
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from evals.watch.timeline import sparkline
from tests.evals.watch.watching import Scene, export, scored

FILES = ("timeline.csv", "timeline.md", "timeline.svg")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Two trainings, evaluated."""
    scene = Scene(tmp_path)
    for step, knn in ((100, 20.0), (200, 40.0), (300, 30.0)):
        notes = {"scores": scored(knn=knn, depth=1 - knn / 100), "interval": 2.0}
        export(scene.exports / "run" / f"step-{step}", step=step, **notes)
    export(scene.exports / "other|one" / "final", name="b", scores=scored(knn=5.0), standard=False)
    scene.round()
    return scene


def test_the_table_of_all_scores(scene: Scene) -> None:
    """One line a score, in the order of the steps, with its interval; what departs from its protocol says so."""
    lines = list(csv.DictReader((scene.order.ledger / "timeline.csv").read_text().splitlines()))
    assert list(lines[0]) == [
        *("step", "name", "identity12", "benchmark@protocol", "metric", "score", "low", "high", "when"),
        *("lineage", "standard"),
    ]
    knn = [line for line in lines if line["benchmark@protocol"] == "in1k-knn@miniature"]
    assert [(line["step"], line["score"], line["low"], line["high"]) for line in knn] == [
        ("100", "20.0", "18.0", "22.0"),
        ("200", "40.0", "38.0", "42.0"),
        ("300", "30.0", "28.0", "32.0"),
    ]
    assert len(lines) == 7
    (other,) = (line for line in lines if line["standard"] == "no")
    assert (other["step"], other["name"]) == ("", "other|one/final")
    assert other["benchmark@protocol"].startswith("in1k-knn@miniature-")
    assert other["when"] == "2026-01-01T00:00:00Z"


def test_the_small_tables(scene: Scene) -> None:
    """One a lineage: first, best by the metric's direction, last, and the trend."""
    text = (scene.order.ledger / "timeline.md").read_text()
    assert text.count("\n## ") == 2
    assert (
        "| `in1k-knn@miniature` | top1, percent ↑ | 3 | 20 (step 100) | 40 (step 200) | 30 (step 300) | ▁█▅ |" in text
    )
    assert (
        "| `nyuv2-linear@miniature` | rmse, m ↓ | 3 | 0.8 (step 100) | 0.6 (step 200) | 0.7 (step 300) | █▁▄ |" in text
    )
    assert "| 5 (other\\|one/final) |" in text


def test_sparklines() -> None:
    """Lowest to highest; one value, or equal ones, stand in the middle."""
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.5, 2.5]) == "▄▄"


def test_the_picture(scene: Scene) -> None:
    """A panel a benchmark with labelled axes, a point a score within its panel, a line a lineage."""
    root = ET.parse(scene.order.ledger / "timeline.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    words = [text.text for text in root.iter(f"{space}text")]
    assert words.count("step") == 2
    assert {"top1, percent", "rmse, m", "in1k-knn@miniature (higher is better)"} <= set(words)
    assert {"100", "200", "300", "18", "30", "42"} <= set(words)
    circles = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter(f"{space}circle")]
    assert len(circles) == 6
    knn = circles[:3]
    assert [x for x, _ in knn] == sorted(x for x, _ in knn)
    assert knn[1][1] < knn[2][1] < knn[0][1], "higher scores are further up"
    assert all(0 < y < 220 for _, y in circles)
    assert len(list(root.iter(f"{space}polyline"))) == 2


@pytest.mark.parametrize("lost", ["timeline", "ledger"])
def test_nothing_is_lost_with_it(lost: str, scene: Scene) -> None:
    """Deleted, the timeline comes back the same from the records; so it does without the ledger, scoring nothing."""
    before = {name: (scene.order.ledger / name).read_bytes() for name in FILES}
    if lost == "timeline":
        for name in FILES:
            (scene.order.ledger / name).unlink()
    else:
        shutil.rmtree(scene.order.ledger)
    done = scene.round()
    assert done.evaluated == (0 if lost == "timeline" else 4)
    assert {name: (scene.order.ledger / name).read_bytes() for name in FILES} == before


def test_checkpoints_that_are_gone_stay_in_it(scene: Scene) -> None:
    """A training that keeps its last checkpoints only keeps all of its scores."""
    before = (scene.order.ledger / "timeline.csv").read_bytes()
    shutil.rmtree(scene.exports / "run" / "step-100")
    scene.round()
    assert (scene.order.ledger / "timeline.csv").read_bytes() == before


def test_what_is_the_same_is_not_written_again(scene: Scene) -> None:
    """A round with nothing new leaves the files as they are."""
    before = {name: (scene.order.ledger / name).stat().st_mtime_ns for name in FILES}
    scene.round()
    assert {name: (scene.order.ledger / name).stat().st_mtime_ns for name in FILES} == before
