"""The gate before a stage: a teacher that lost an expert teaches nobody."""

import json
from pathlib import Path
from typing import Any

import pytest

from eupe.compose import Order
from eupe.gate import RETENTION, Kept, check_kept, check_teachers, read_retention
from eupe.processes import Stop
from eupe.session import train_stage
from evals.errors import ResultsError, UsageError
from tests.eupe.tiny import SIDE, stage

MEASURED = {
    "semantic": {"expert": 0.98, "proxy": 0.97, "kept": 0.99, "metric": "top-1"},
    "reading": {"expert": 0.9, "proxy": 0.12, "kept": 0.133, "metric": "accuracy", "by": "ocr"},
    "depth": {"expert": 0.087, "proxy": 0.111, "kept": 0.784},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A measurement beside an export."""
    (tmp_path / "exports" / "proxy").mkdir(parents=True)
    (tmp_path / "exports" / "proxy" / "export.json").write_text("{}")
    made = tmp_path / "exports" / RETENTION
    made.write_text(json.dumps(MEASURED))
    return made


def test_what_was_kept_is_read(path: Path) -> None:
    """By expert, in the order of the file."""
    assert read_retention(path)["depth"] == Kept(0.087, 0.111, 0.784)
    assert list(read_retention(path)) == ["semantic", "reading", "depth"]


def test_enough_is_enough(path: Path) -> None:
    """A share that is just reached opens the gate; experts that it does not name are not asked for."""
    check_kept(path, {"semantic": 0.99, "depth": 0.7})


def test_what_was_lost_is_named_with_how_much(path: Path) -> None:
    """Each expert, its score, what is left, and what was wanted; and what to do."""
    with pytest.raises(ResultsError) as told:
        check_kept(path, {"semantic": 0.9, "reading": 0.6, "depth": 0.8})
    words = str(told.value)
    assert "reading of the ocr expert (0.9 -> 0.12 accuracy, 13.3% kept, at least 60.0% wanted)" in words
    assert "depth (0.087 -> 0.111, 78.4% kept, at least 80.0% wanted)" in words
    assert "semantic" not in words
    assert "Train that export for longer" in words
    assert told.value.exit_code == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "Measure it, or leave gate out"),
        ("[]", "Measure it"),
        ('{"reading": {"expert": 1.0, "kept": 1.0}}', "proxy"),
        ('{"reading": {"expert": 1.0, "proxy": 1.0, "kept": "all"}}', "kept must be a number"),
        ('{"depth": {"expert": 1.0, "proxy": 1.0, "kept": 1.0}}', "has no measurement of reading; it has depth"),
        ('{"reading": {"expert": 1.0, "proxy": 1.0, "kept": NaN}}', "nan% kept"),
    ],
)
def test_no_measurement_opens_no_gate(path: Path, text: str | None, words: str) -> None:
    """A file that is missing, is none, or lacks an expert is told; nothing is taken for kept."""
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(ResultsError, match=words):
        check_kept(path, {"reading": 0.5})


def gated(exports: Path, **gate: float) -> Any:
    """A stage that learns from that proxy."""
    proxy = {"proxy": {"encoder": str(exports / "proxy"), "side": SIDE}}
    return stage(exports, teachers=proxy, gate=gate)


def test_a_stage_does_not_start_behind_a_closed_gate(path: Path, tmp_path: Path) -> None:
    """Before anything is loaded or written."""
    order = Order(gated(path.parent, reading=0.6), tmp_path / "run", "cpu")
    with pytest.raises(ResultsError, match="too much was lost of reading"):
        train_stage(order, Stop(), quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_open_gate_or_none_lets_through(path: Path) -> None:
    """Only what the gate names counts."""
    check_teachers(gated(path.parent, semantic=0.9))
    path.unlink()
    check_teachers(gated(path.parent))


def test_a_gate_without_an_export_behind_it_is_a_mistake(tmp_path: Path) -> None:
    """Experts kept all of themselves: the key can only be meant for another stage."""
    with pytest.raises(UsageError, match=r"stage 'tiny' has a gate \(reading\) and no teacher that is an export"):
        check_teachers(stage(tmp_path, gate={"reading": 0.5}))
