"""Exports of a run: what was trained is what the suite reads, and a lineage leads from student to text."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eupe import origins
from eupe.config import Stage
from eupe.processes import Stop, World
from eupe.stored import export_stored, open_run
from eupe.train import STAGE, Run, export_student, set_up, train
from evals.context import silent_bar
from evals.encoders.clip import text
from evals.encoders.exports.files import read_heads
from evals.encoders.exports.manifest import MANIFEST, Tower, read_manifest
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import ResultsError, UsageError
from evals.files import DigestMemo, sha256_file
from evals.types import Encoder, TextAlignedEncoder
from tests.eupe.ranks import run_ranks
from tests.eupe.tiny import SIDE, pictures, stage
from tests.evals.encoders.test_export_text import expert

HERE = World(0, 1, torch.device("cpu"))
RESNET = {
    "model": "resnet10t",
    "options": {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32], "stem_width": 8, "output_stride": 16}
    | {"norm_layer": "groupnorm1"},
}


def trained(made: Stage, folder: Path, steps: int = 2) -> Run:
    """A run of a few steps."""
    run = set_up(made, folder, HERE, silent_bar)
    train(run, None, silent_bar, Stop(), until=steps)
    return run


def encoder(folder: Path) -> Encoder:
    """The encoder of an export."""
    return load(resolve(str(folder)), DigestMemo(None))


def images() -> Tensor:
    """Random pixels."""
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("student", ["vit", "convnext", "resnet"])
def test_the_suite_reads_what_was_trained(tmp_path: Path, student: str) -> None:
    """Both features are those of the learner, and so is what the heads say; strictly read, in released names."""
    of_its_own = {"students": {"resnet": RESNET}} if student == "resnet" else {}
    run = trained(stage(pictures(tmp_path / "data"), **of_its_own), tmp_path / "run")
    folder = tmp_path / "export"
    export_student(run, student, folder)
    learner = run.pupils[student].learner.eval()
    with torch.no_grad():
        cls_BD, patches_BHWD = learner.features(images())
        said = learner(images())
    found = encoder(folder)(images())
    assert found.pooled_BD is not None
    torch.testing.assert_close(found.pooled_BD, cls_BD, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.patches_BHWD, patches_BHWD, atol=1e-6, rtol=1e-6)
    heads, statistics = read_heads(folder)
    for name, (cls, patch) in said.items():
        adapter: Any = heads[name]
        torch.testing.assert_close(adapter.patch(found.patches_BHWD), patch, atol=1e-5, rtol=1e-5)
        assert (adapter.cls is None) == (cls is None)
        measured: Any = statistics[name]
        assert torch.equal(measured["patch"].mean, run.standards[name].patch.mean_D)
    names = "".join(read_manifest_keys(folder))
    assert ("storage_tokens" in names) == (student == "vit")
    assert ("dwconv" in names) == (student == "convnext")


def read_manifest_keys(folder: Path) -> list[str]:
    """Names of the tensors of the backbone."""
    from safetensors import safe_open

    with safe_open(folder / "backbone.safetensors", framework="pt") as file:
        return list(file.keys())


@pytest.mark.usefixtures("alone")
def test_what_an_export_tells(tmp_path: Path) -> None:
    """Who taught, what was done and with what: enough to do it again."""
    made = stage(pictures(tmp_path / "data"))
    run = trained(made, tmp_path / "run")
    export_student(run, "vit", tmp_path / "export")
    manifest = read_manifest(tmp_path / "export")
    by_name = {teacher.name: teacher for teacher in manifest.teachers}
    assert list(by_name) == list(made.teachers)
    assert by_name["vit"].digest == run.teachers["vit"].encoder.card.weights_sha256
    assert (by_name["vit"].cls, by_name["pixels"].cls) == (run.teachers["vit"].target().cls_dim, None)
    assert manifest.training["step"] == 2
    assert manifest.training["stage"]["batch"] == made.batch
    assert manifest.training["identity"]["config"] == run.identity.config
    with pytest.raises(UsageError, match="exists already"):
        export_student(run, "vit", tmp_path / "export")


@pytest.mark.usefixtures("alone")
def test_from_student_over_proxy_to_text(tmp_path: Path) -> None:
    """An expert with text teaches a proxy, which teaches a student, whose class tokens then meet that text."""
    data = pictures(tmp_path / "data")
    semantic = {"semantic": {"encoder": str(expert(tmp_path / "expert")), "side": SIDE}}
    vit = {"proxy": {"model": "vit_tiny_patch16_dinov3_qkvb", "options": {"embed_dim": 48, "depth": 1, "num_heads": 3}}}
    first = trained(stage(data, name="stage1", teachers=semantic, students=vit), tmp_path / "stage1", 1)
    export_student(first, "proxy", tmp_path / "proxy")
    taught = {"proxy": {"encoder": str(tmp_path / "proxy"), "side": SIDE}}
    second = trained(stage(data, name="stage2", teachers=taught), tmp_path / "stage2", 1)
    export_student(second, "vit", tmp_path / "student")
    found = encoder(tmp_path / "student")
    assert isinstance(found, TextAlignedEncoder)
    features = found(images())
    composed = by_hand(tmp_path, features.pooled_BD, ("student", "proxy"), ("proxy", "semantic"))
    torch.testing.assert_close(found.encode_image(features), composed)
    (link,) = read_manifest(tmp_path / "student").teachers
    assert (link.kind, link.source) == ("export", "../proxy")
    assert link.digest == sha256_file(tmp_path / "proxy" / MANIFEST)


@pytest.mark.golden
@pytest.mark.usefixtures("alone")
def test_from_student_over_proxy_to_the_tower_of_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PE teaches the vector that its text tower compares with; the student's lineage ends at that tower."""
    for function in ("tower_identity", "load_tower"):
        monkeypatch.setattr(text, function, partial(getattr(text, function), weights="random"))
    data = pictures(tmp_path / "data", 8)
    tiny = {"model": "vit_tiny_patch16_dinov3_qkvb", "options": {"embed_dim": 48, "depth": 1, "num_heads": 3}}
    pe = {"pe": {"encoder": "pe-core-t", "side": 32, "cls": "projected", "weights": "random"}}
    few = {"batch": 2, "statistics": {"batches": 2, "batch": 2}}
    first = trained(stage(data, name="stage1", teachers=pe, students={"proxy": tiny}, **few), tmp_path / "stage1", 1)
    export_student(first, "proxy", tmp_path / "proxy")
    (link,) = read_manifest(tmp_path / "proxy").teachers
    assert (link.kind, link.source, link.target, link.cls) == ("encoder", "pe-core-t", "projected", 512)
    assert link.tower == Tower("pe-core-t", first.teachers["pe"].encoder.card.weights_sha256)
    taught = {"proxy": {"encoder": str(tmp_path / "proxy"), "side": SIDE}}
    second = trained(stage(data, name="stage2", teachers=taught, students={"vit": tiny}, **few), tmp_path / "stage2", 1)
    export_student(second, "vit", tmp_path / "student")
    found = encoder(tmp_path / "student")
    assert isinstance(found, TextAlignedEncoder)
    features = found(images())
    composed = by_hand(tmp_path, features.pooled_BD, ("student", "proxy"), ("proxy", "pe"))
    torch.testing.assert_close(found.encode_image(features), composed)
    prompts = ["a photo of a mug.", "a dog"]
    assert torch.equal(found.encode_text(prompts), text.load_tower("pe-core-t", DigestMemo(None)).encode(prompts))


def by_hand(root: Path, vectors: Tensor | None, *links: tuple[str, str]) -> Tensor:
    """Unit vectors at the end of these class heads, one (export, teacher) after the other, with their statistics."""
    assert vectors is not None
    for name, of in links:
        heads, statistics = read_heads(root / name)
        head: Any = heads[of].cls
        measured: Any = statistics[of]
        vectors = head(vectors) * measured["cls"].std + measured["cls"].mean
    return torch.nn.functional.normalize(vectors, dim=1)


@pytest.mark.usefixtures("alone")
def test_a_folder_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkpoint, with no teacher loaded, comes what the run itself exports, to the byte; or the average."""
    made = stage(pictures(tmp_path / "data"), average=0.5, saving={"every": 1, "keep": 2})
    run = trained(made, tmp_path / "run", 2)
    export_student(run, "vit", tmp_path / "live")
    monkeypatch.delattr("eupe.train.load")
    both = export_stored(open_run(tmp_path / "run"))
    assert [path.name for path in both] == ["vit-step-00000002", "convnext-step-00000002"]
    assert (both[0] / MANIFEST).read_bytes() == (tmp_path / "live" / MANIFEST).read_bytes()
    stored = open_run(tmp_path / "run", 1)
    (earlier,) = export_stored(stored, ["vit"], tmp_path / "earlier")
    assert read_manifest(earlier).training["step"] == 1
    (averaged,) = export_stored(open_run(tmp_path / "run"), ["vit"], average=True)
    assert averaged.name == "vit-average-step-00000002"
    pupil = run.pupils["vit"]
    assert pupil.average is not None
    wanted = pupil.average.whole()["backbone.blocks.0.attn.proj.weight"]
    found: Any = encoder(averaged)
    assert torch.equal(found.model.blocks[0].attn.proj.weight, wanted)


@pytest.mark.usefixtures("alone")
def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    """A folder without a run, a step without a checkpoint, an unknown student, a configuration that was changed."""
    run = trained(stage(pictures(tmp_path / "data")), tmp_path / "run", 1)
    with pytest.raises(ResultsError, match="name the folder of a run"):
        open_run(tmp_path)
    with pytest.raises(UsageError, match="no checkpoint of step 7; it has 1"):
        open_run(tmp_path / "run", 7)
    stored = open_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"unknown student of .* 'vitt'.*Nearest: vit"):
        export_stored(stored, ["vitt"])
    with pytest.raises(UsageError, match="keeps no average"):
        export_stored(stored, average=True)
    with pytest.raises(UsageError, match="one folder takes one student"):
        export_stored(stored, to=tmp_path / "both")
    raw = json.loads((run.folder / STAGE).read_text())
    (run.folder / STAGE).write_text(json.dumps({**raw, "hidden": 32}))
    with pytest.raises(ResultsError, match="not the configuration of step-00000001"):
        open_run(tmp_path / "run")


def test_origins_are_read_back(tmp_path: Path) -> None:
    """What is written is read; what is not there is told."""
    (tmp_path / origins.FILE).write_text(json.dumps([]))
    assert origins.read(tmp_path) == {}
    with pytest.raises(Exception, match="is this the folder of one"):
        origins.read(tmp_path / "nowhere")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"students": {"a": {"model": "convnext_atto", "options": {"kernel_sizes": 3}}}}, "kernel_sizes"),
        ({"teachers": {"a b": {"encoder": "pixels", "side": SIDE, "cls": "none"}}}, "name in .* letters, digits"),
    ],
)
def test_what_could_not_be_exported_is_told_before_it_is_trained(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    """Options that the format does not keep, names that cannot begin a tensor's."""
    made = stage(pictures(tmp_path / "data", 8), statistics={"batches": 1, "batch": 4}, **changes)
    with pytest.raises(UsageError, match=words):
        set_up(made, tmp_path / "run", HERE, silent_bar)


@pytest.mark.usefixtures("alone")
def test_what_is_dropped_in_training_is_no_part_of_the_export(tmp_path: Path) -> None:
    """The network is the same without it, and the next stage may drop less."""
    small = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
    student = {"a": {"model": "convnext_atto", "options": {**small, "drop_path_rate": 0.5}}}
    run = trained(stage(pictures(tmp_path / "data"), students=student), tmp_path / "run", 1)
    export_student(run, "a", tmp_path / "a")
    assert read_manifest(tmp_path / "a").options == small
    less = {"a": {"model": "convnext_atto", "options": small, "start": str(tmp_path / "a")}}
    assert set_up(stage(tmp_path / "data", students=less), tmp_path / "again", HERE, silent_bar).notes == []


@pytest.mark.usefixtures("alone")
def test_any_stage_has_a_name_for_its_exports(tmp_path: Path) -> None:
    """A stage may be called as a study calls its arms."""
    run = trained(stage(pictures(tmp_path / "data"), name="1+2+3-s0/stage2"), tmp_path / "run", 1)
    export_student(run, "vit", tmp_path / "export")
    assert read_manifest(tmp_path / "export").name == "1-2-3-s0-stage2-vit"


RANKS = """
from pathlib import Path
from eupe.compose import Order
from eupe.config import Stage, read
from eupe.processes import Stop
from eupe.session import train_stage
from tiny import raw_stage
raw = raw_stage(Path(data), rate={"base": 1e-3, "steps": 2, "warmup": 1}, schedule={"every": 1})
raw["students"]["vit"]["shard"] = True
assert train_stage(Order(read(Stage, raw, "stage"), Path(run), "cpu"), Stop(), quiet=True)
"""


@pytest.mark.golden
@pytest.mark.usefixtures("alone")
def test_students_of_several_processes_are_exported_whole(tmp_path: Path) -> None:
    """Sharded or not: what two processes export is what their checkpoint holds, read by one."""
    folder, data = tmp_path / "run", pictures(tmp_path / "data")
    assert run_ranks(RANKS, ranks=2, run=str(folder), data=str(data)) == [0, 0]
    exports = {"convnext", "vit", "convnext-step-00000001", "vit-step-00000001"}
    assert {path.name for path in (folder / "exports").iterdir()} == exports
    for name in ("vit", "convnext"):
        (again,) = export_stored(open_run(folder), [name], tmp_path / name)
        assert (again / MANIFEST).read_bytes() == (folder / "exports" / name / MANIFEST).read_bytes()
        assert encoder(again)(images()).patches_BHWD.isfinite().all()
