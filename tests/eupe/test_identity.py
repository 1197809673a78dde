"""What a run is, and what may change when it goes on."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from eupe.config import Stage, read
from eupe.processes import Stop, World
from eupe.train import STAGE, Run, export_student, set_up, train
from evals.context import silent_bar
from evals.errors import ResultsError
from tests.eupe.tiny import SIDE, pictures, raw_stage, stage

HERE = World(0, 1, torch.device("cpu"))
CONDUCT: Mapping[str, Any] = {
    "micro": 4,
    "saving": {"every": 3, "keep": 1},
    "schedule": {"every": 5, "watch": {"suite": "all"}},
    "gate": {"reading": 0.5},
    "broken": 0.5,
    "skip": [[3, 4]],
    "licence": "MIT",
    "workers": 1,
    "log_every": 7,
    "compile": True,
    "loggers": ["tensorboard"],
    "peak": 3.0,
}
"""Keys that say how a run goes about it, with another value each."""
SUBSTANCE: Mapping[str, Any] = {
    "name": "other",
    "teachers": {"pixels": {"encoder": "pixels", "side": SIDE, "cls": "none"}},
    "students": {"vit": {"model": "vit_tiny_patch16_dinov3_qkvb"}},
    "sources": {"noise": {"kind": "parquet", "root": "x"}},
    "rate": {"base": 1e-3, "steps": 21, "warmup": 2},
    "batch": 16,
    "sides": [SIDE, 96],
    "teacher_sides": [SIDE],
    "mixing": "images",
    "hidden": 32,
    "optimisation": {"weight_decay": 0.5},
    "loss": {"beta": 2.0},
    "augment": {"blur": 0.9},
    "statistics": {"batches": 4, "batch": 8},
    "dtype": "bf16",
    "rope_rescale": 1.0,
    "heads_only": 1,
    "average": 0.9,
    "seed": 1,
}
"""Keys that decide what is learned."""


def test_every_key_is_one_or_the_other() -> None:
    """A new key of a stage has to be put on a side."""
    assert {item.name for item in dataclasses.fields(Stage)} == {*CONDUCT, *SUBSTANCE}


@pytest.mark.parametrize("key", [*CONDUCT, *SUBSTANCE])
def test_the_fingerprint_is_of_what_is_learned(key: str) -> None:
    """Other values of conduct leave it alone, any other of substance does not."""
    other = {**CONDUCT, **SUBSTANCE}[key]
    changed: Stage = read(Stage, {**raw_stage(Path("x")), key: other}, "stage")
    assert getattr(changed, key) != getattr(stage(Path("x")), key)
    assert (changed.fingerprint() == stage(Path("x")).fingerprint()) == (key in CONDUCT)


def test_where_things_lie_is_not_what_they_are() -> None:
    """Images and exports are compared themselves; an entry's name is part of what a run is."""

    def taught_by(encoder: str) -> str:
        return stage(Path("x"), teachers={"t": {"encoder": encoder, "side": SIDE}}).fingerprint()

    assert stage(Path("x")).fingerprint() == stage(Path("y")).fingerprint()
    assert taught_by("runs/stage1/exports/proxy") == taught_by("/elsewhere/proxy")
    assert taught_by("dinov3-vit-s") != taught_by("dinov3-vit-b")


def few(data: Path, **changes: Any) -> Stage:
    """A stage of one student and four steps."""
    network = {"model": "vit_tiny_patch16_dinov3_qkvb", "options": {"embed_dim": 48, "depth": 1, "num_heads": 3}}
    small = {"batch": 4, "statistics": {"batches": 2, "batch": 4}, "students": {"vit": network}}
    return stage(data, **{**small, "rate": {"base": 1e-3, "steps": 4, "warmup": 1}, **changes})


def go(made: Stage, folder: Path, until: int) -> Run:
    """Train to a step."""
    run = set_up(made, folder, HERE, silent_bar)
    train(run, None, silent_bar, Stop(), until)
    return run


@pytest.mark.golden
@pytest.mark.usefixtures("alone")
def test_a_run_goes_on_with_other_conduct_to_the_same_end(tmp_path: Path) -> None:
    """Other workers, logging, saving and schedule, and its proxy at another place: same bits as without a break."""
    data = pictures(tmp_path / "data", 8)
    first = go(few(data), tmp_path / "stage1", 1)
    export_student(first, "vit", tmp_path / "proxy")

    def taught(place: str, **changes: Any) -> Stage:
        return few(data, teachers={"proxy": {"encoder": str(tmp_path / place), "side": SIDE}}, **changes)

    straight = go(taught("proxy"), tmp_path / "a", 4)
    go(taught("proxy"), tmp_path / "b", 2)
    shutil.move(tmp_path / "proxy", tmp_path / "moved")
    other = {"workers": 1, "log_every": 3, "saving": {"every": 1, "keep": 1}, "schedule": {"every": 1}}
    again = set_up(taught("moved", **other), tmp_path / "b", HERE, silent_bar)
    assert again.done == 2
    train(again, None, silent_bar, Stop())
    one, two = (run.pupils["vit"].learner.state_dict() for run in (straight, again))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.usefixtures("alone")
def test_a_refused_run_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    """What the folder says of its run stays true, so that it can be exported and gone on with."""
    data = pictures(tmp_path / "data", 8)
    go(few(data), tmp_path / "run", 1)
    before = (tmp_path / "run" / STAGE).read_bytes()
    with pytest.raises(ResultsError, match="the configuration changed since step 1"):
        set_up(few(data, hidden=32), tmp_path / "run", HERE, silent_bar)
    assert (tmp_path / "run" / STAGE).read_bytes() == before
