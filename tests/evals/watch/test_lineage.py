"""Steps and lineages from manifests and names."""

from pathlib import Path

import pytest

from evals.watch.candidates import find
from evals.watch.lineage import descent
from tests.evals.watch.watching import export


@pytest.mark.parametrize(
    ("path", "lineage", "step"),
    [
        ("run/step-00012000.pt", "run", 12000),
        ("run/ckpt_12000.pt", "run", 12000),
        ("run/vit-t_ema_step12000.pt", "run/vit-t_ema", 12000),
        ("run/epoch=3-step=12000.pth", "run", 12000),
        ("run/vit_12000.safetensors", "run/vit", 12000),
        ("run/global_step7/model.safetensors", "run/model", 7),
        ("run/12000/model.pt", "run/model", 12000),
        ("run-2/Checkpoint_5.pt", "run-2", 5),
        ("run/dinov2.pt", "run/dinov2", None),
        ("run/v1.5.pt", "run/v1.5", None),
        ("run/step_12k.pt", "run/step_12k", None),
        ("final.pt", "final", None),
    ],
)
def test_weight_files(path: str, lineage: str, step: int | None, tmp_path: Path) -> None:
    """The step leaves the name; what is left is the lineage."""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
    (candidate,) = find(tmp_path, files=True).candidates
    found = descent(candidate, tmp_path, "eupe-vit-t")
    assert (found.encoder, found.step) == ("eupe-vit-t", step)
    assert found.lineage == f"{tmp_path.as_posix()}/{lineage}"


@pytest.mark.parametrize(
    ("path", "name", "notes", "lineage", "step"),
    [
        ("run/a", "vit-b-16", {"step": 300}, "run/vit-b-16", 300),
        ("run/step-200", "vit-b", {}, "run/vit-b", 200),
        ("run/step-200/vit-s", "vit-s", {}, "run/vit-s", 200),
        ("run/b", "vit-s-step-100", {}, "run/vit-s", 100),
        ("run/c", "vit-s-400", {"step": 400}, "run/vit-s", 400),
        ("run/d", "vit-s", {"step": True}, "run/vit-s", None),
    ],
)
def test_exports(
    path: str, name: str, notes: dict[str, object], lineage: str, step: int | None, tmp_path: Path
) -> None:
    """The manifest's step goes before any name; students of one training that differ in name are apart."""
    export(tmp_path / path, name, **notes)
    (candidate,) = find(tmp_path, files=False).candidates
    found = descent(candidate, tmp_path, None)
    assert found == (name, f"{tmp_path.as_posix()}/{lineage}", step)
