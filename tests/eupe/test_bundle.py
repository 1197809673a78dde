"""Bundles: moved anywhere, with nothing else of the training there, they still meet text."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from eupe.bundle import LINEAGE, bundle
from evals.encoders.exports.files import write_export
from evals.encoders.exports.manifest import HEADS, MANIFEST, check_whole
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import UsageError, WeightsError
from evals.files import DigestMemo, sha256_file
from evals.types import TextAlignedEncoder
from tests.evals.encoders.exporting import VIT, model_of, random_heads, replace, teacher
from tests.evals.encoders.test_export_text import expert


def chain(folder: Path) -> Path:
    """A student of a proxy of an expert with text, at random: the folder of the student."""
    expert(folder / "experts" / "semantic")
    last = teacher(
        "semantic", kind="export", source="../experts/semantic",
        digest=sha256_file(folder / "experts" / "semantic" / MANIFEST), cls=20,
    )  # fmt: skip
    proxy = replace(VIT, name="proxy", teachers=(teacher("dense"), last))
    write_export(folder / "proxy", proxy, model_of(proxy, 1).state_dict(), *random_heads(proxy, 1))
    link = teacher(kind="export", source="../proxy", digest=sha256_file(folder / "proxy" / MANIFEST), cls=48)
    student = replace(VIT, teachers=(link,))
    write_export(folder / "student", student, model_of(student, 2).state_dict(), *random_heads(student, 2))
    return folder / "student"


def loaded(folder: Path) -> TextAlignedEncoder:
    """The encoder of an export with a way to text."""
    encoder = load(resolve(str(folder)), DigestMemo(None))
    assert isinstance(encoder, TextAlignedEncoder)
    return encoder


def test_a_bundle_is_all_that_is_needed(tmp_path: Path) -> None:
    """The same image and text vectors as before, from a folder that was moved and whose sources are gone."""
    student = chain(tmp_path / "runs")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = loaded(student)
    wanted = before.encode_image(before(images)), before.encode_text(["a mug"])
    bundle(student, tmp_path / "made", "mine")
    shutil.rmtree(tmp_path / "runs")
    shutil.move(tmp_path / "made", tmp_path / "elsewhere")
    after = loaded(tmp_path / "elsewhere")
    assert after.card.name == "mine"
    assert torch.equal(after.encode_image(after(images)), wanted[0])
    assert torch.equal(after.encode_text(["a mug"]), wanted[1])
    assert check_whole(tmp_path / "elsewhere").name == "mine"
    files = sorted(
        path.relative_to(tmp_path / "elsewhere").as_posix() for path in (tmp_path / "elsewhere").rglob("*.*")
    )
    assert files == [
        "backbone.safetensors", "export.json", "heads.safetensors",
        f"{LINEAGE}/proxy/export.json", f"{LINEAGE}/proxy/heads.safetensors", f"{LINEAGE}/proxy/statistics.safetensors",
        f"{LINEAGE}/tiny-expert/export.json", f"{LINEAGE}/tiny-expert/text.safetensors", "statistics.safetensors",
    ]  # fmt: skip
    # Of the proxy's heads (two teachers, class tokens and patches) one is on the way.
    assert {key[: len("semantic.cls.")] for key in load_file(tmp_path / "elsewhere" / LINEAGE / "proxy" / HEADS)} == {
        "semantic.cls."
    }


def test_a_bundle_without_text(tmp_path: Path) -> None:
    """An export that nothing leads to text from is copied as it is."""
    write_export(tmp_path / "plain", VIT, model_of(VIT).state_dict())
    bundle(tmp_path / "plain", tmp_path / "made", "mine", "Made by hand.")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["backbone.safetensors", "export.json"]
    assert resolve(str(tmp_path / "made")).note.startswith("Made by hand.")


def test_folders_of_the_machine_stay_there(tmp_path: Path) -> None:
    """What was trained and how goes along; where things lay does not."""
    notes = {
        "step": 3,
        "stage": {"sources": {"web": {"root": "/data/web", "share": 0.5}}, "sides": [64], "kind": "a/b"},
    }
    made = replace(VIT, training=notes)
    write_export(tmp_path / "plain", made, model_of(made).state_dict())
    bundle(tmp_path / "plain", tmp_path / "made", "mine")
    told = check_whole(tmp_path / "made").training
    assert told["stage"] == {"sources": {"web": {"root": "web", "share": 0.5}}, "sides": [64], "kind": "a/b"}
    assert told["step"] == 3


def test_nothing_is_overwritten_or_half_made(tmp_path: Path) -> None:
    """A folder that is there stays; a lineage with a changed file makes no bundle."""
    student = chain(tmp_path)
    (tmp_path / "made").mkdir()
    with pytest.raises(UsageError, match="never overwritten"):
        bundle(student, tmp_path / "made", "mine")
    manifest = tmp_path / "proxy" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"proxy"', '"other"'))
    with pytest.raises(WeightsError, match="another export than the one in"):
        bundle(student, tmp_path / "new", "mine")
    assert not (tmp_path / "new").exists()
