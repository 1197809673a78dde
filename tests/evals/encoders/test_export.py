"""Exports: written whole and bit for bit, read strictly, scored by their folder, met by text along their lineage."""

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from evals.__main__ import app
from evals.benchmarks.in1k_zeroshot import _key
from evals.datasets import imagenet
from evals.datasets.base import read_rgb
from evals.encoders.card import card, identity
from evals.encoders.clip import text
from evals.encoders.entry import read_entry
from evals.encoders.exports import files as export_files
from evals.encoders.exports.entry import ExportEntry, entry_of, text_route
from evals.encoders.exports.files import read_heads, write_export
from evals.encoders.exports.heads import Adapter, Statistics
from evals.encoders.exports.manifest import MANIFEST, Manifest, Teacher, Tower, read_manifest
from evals.encoders.load import blueprint, digest, load
from evals.encoders.registry import resolve
from evals.errors import EvalError, ResultsError, UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo, sha256_file
from evals.preprocess import Squash, to_unit
from evals.types import ConvEncoder, TextAlignedEncoder
from tests.evals.encoders.exporting import (
    CONV,
    TOWER,
    VIT,
    authors_names,
    model_of,
    random_heads,
    solve,
    teacher,
    use_stand_in,
    words_vector,
    write,
)

TAUGHT = replace(
    VIT, teachers=(teacher("expert"), teacher("patches", cls=None)), training={"stage": {"name": "stage2"}, "step": 7}
)
DIRECT = teacher("text-expert", tower=TOWER)
Damage = Callable[[Path], object]


def images(*shape: int, seed: int = 0) -> Tensor:
    """Random pixels in [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def chain(tmp_path: Path, last: Teacher = DIRECT, student: Manifest = VIT, **taught: Any) -> Path:
    """A student of a proxy of a text-aligned encoder, all at random: the folder of the student."""
    proxy = replace(VIT, name="proxy", teachers=(teacher("dense"), last))
    write(tmp_path / "proxy", proxy, seed=1)
    link = teacher(
        kind="export", source="../proxy", digest=sha256_file(tmp_path / "proxy" / MANIFEST), **{"cls": 48, **taught}
    )
    write(tmp_path / "student", replace(student, teachers=(link,)))
    return tmp_path / "student"


def loaded(folder: Path) -> TextAlignedEncoder:
    """The encoder of an export that is met by text."""
    encoder = load(resolve(str(folder)), DigestMemo(None))
    assert isinstance(encoder, TextAlignedEncoder)
    return encoder


@pytest.mark.parametrize("manifest", [VIT, TAUGHT, replace(CONV, teachers=(DIRECT,))], ids=lambda m: m.name)
def test_what_is_read_is_what_was_written(tmp_path: Path, manifest: Manifest) -> None:
    """Bit for bit: backbone, heads, statistics, manifest; and the same export twice is the same files."""
    backbone, (heads, statistics) = authors_names(model_of(manifest)), random_heads(manifest)
    written = write_export(tmp_path / "a" / "export", manifest, backbone, heads, statistics)
    write_export(tmp_path / "b", manifest, backbone, heads, statistics)
    assert read_manifest(tmp_path / "a" / "export") == written
    assert written == replace(manifest, files=written.files)
    stored = load_file(tmp_path / "b" / "backbone.safetensors")
    assert stored.keys() == backbone.keys()
    assert all(torch.equal(stored[key], backbone[key]) for key in stored)
    found = read_heads(tmp_path / "b")
    for module, other in zip(found, (heads, statistics), strict=True):
        assert module.state_dict().keys() == other.state_dict().keys()
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in module.state_dict().items())
        assert not any(parameter.requires_grad for parameter in module.parameters())
    names = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert names == sorted([MANIFEST, *written.files])
    assert all((tmp_path / "a" / "export" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


@pytest.mark.parametrize("manifest", [VIT, CONV], ids=["vit", "convnext"])
def test_an_export_is_an_encoder(tmp_path: Path, manifest: Manifest) -> None:
    """By its folder: the network's own outputs after the final norm, and a card that says where it is from."""
    write(tmp_path / "export", manifest)
    model, image = model_of(manifest), images(2, 3, 64, 96)
    entry = resolve(str(tmp_path / "export"))
    encoder = load(entry, DigestMemo(None))
    mean, std = (torch.tensor(manifest.entry[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    features = encoder(image)
    with torch.no_grad():
        raw = model.forward_features((image - mean) / std)
        if manifest is VIT:
            pooled, patches = raw[:, 0], raw[:, 5:].reshape(2, 4, 6, 48)
        else:
            pooled, patches = model.forward_head(raw, pre_logits=True), model.head.norm(raw).permute(0, 2, 3, 1)
    assert features.pooled_BD is not None
    torch.testing.assert_close(features.pooled_BD, pooled)
    torch.testing.assert_close(features.patches_BHWD, patches)
    found = encoder.card
    assert (found.name, found.source, found.weights, found.random) == (manifest.name, "export", MANIFEST, False)
    assert found.model.startswith(f"{manifest.model}?dep")
    assert (found.licence, found.dim, found.text) == ("Apache-2.0", manifest.entry["dim"], False)
    assert found.weights_sha256 == sha256_file(tmp_path / "export" / MANIFEST)
    assert isinstance(encoder, ConvEncoder) == (manifest is CONV)
    assert entry.note == "No text: no teacher."


def test_timms_names_are_read_too(tmp_path: Path) -> None:
    """A backbone under timm's names is the same encoder."""
    model = model_of(VIT)
    write_export(tmp_path / "timm", VIT, dict(model.state_dict()))
    write(tmp_path / "authors")
    one, other = (load(resolve(str(tmp_path / name)), DigestMemo(None)) for name in ("timm", "authors"))
    assert digest(one) == digest(other)


def test_the_identity_covers_heads_and_lineage(tmp_path: Path) -> None:
    """Other heads, another teacher or another backbone are another encoder."""
    write(tmp_path / "a", TAUGHT)
    write_export(tmp_path / "b", TAUGHT, authors_names(model_of(VIT)), *random_heads(TAUGHT, seed=1))
    other = replace(TAUGHT, teachers=(replace(TAUGHT.teachers[0], digest="1" * 64), TAUGHT.teachers[1]))
    write(tmp_path / "c", other)
    write(tmp_path / "d", TAUGHT, seed=1)
    write(tmp_path / "e", TAUGHT)
    a, b, c, d, e = (identity(entry_of(str(tmp_path / name)), DigestMemo(None)) for name in "abcde")
    assert len({a, b, c, d}) == 4
    assert a == e


def test_random_weights_are_the_bare_architecture(tmp_path: Path) -> None:
    """`--weights random` and the blueprint have the geometry of the export and no text."""
    folder = chain(tmp_path)
    entry = resolve(str(folder), weights="random", seed=3)
    assert isinstance(entry, ExportEntry)
    encoder = load(entry, DigestMemo(None))
    assert (encoder.card.text, encoder.card.random, encoder.dim, encoder.depth) == (False, True, 48, 2)
    assert not isinstance(encoder, TextAlignedEncoder)
    drawn = blueprint(resolve(str(folder)))
    assert (drawn.dim, drawn.card.text, next(drawn.parameters()).device.type) == (48, False, "meta")
    assert resolve(str(folder), weights="hub") == resolve(str(folder))
    assert card(entry, DigestMemo(None)).weights_sha256 != identity(resolve(str(folder)), DigestMemo(None))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    """An export is its weights."""
    write(tmp_path / "export")
    with pytest.raises(UsageError, match=r"brings its own weights, not .*backbone\.safetensors"):
        resolve(str(tmp_path / "export"), weights=str(tmp_path / "export" / "backbone.safetensors"))


def test_the_name_of_another_encoder_is_refused(tmp_path: Path) -> None:
    """Records of `eupe-vit-t` are not to be mixed with those of an export."""
    write(tmp_path / "export", replace(VIT, name="eupe-vit-t"))
    with pytest.raises(UsageError, match="calls itself 'eupe-vit-t'"):
        resolve(str(tmp_path / "export"))


def test_an_entry_without_a_folder_builds_nothing() -> None:
    """`source: export` in a YAML file says to give the folder."""
    values = {**VIT.entry, "source": "export", "model": VIT.model}
    with pytest.raises(UsageError, match="give the folder of the export"):
        load(read_entry("x", {**values, "weights": "random"}), DigestMemo(None))


def rewritten(name: str, change: Callable[[dict[str, Tensor]], object]) -> Damage:
    """The tensors of a file changed, and its stamp with them: whole, but not what the manifest describes."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name)
        stamp = {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
        edited(lambda raw: raw["files"].update({name: stamp}))(folder)

    return damage


def edited(change: Callable[[dict[str, Any]], object]) -> Damage:
    """The manifest changed."""

    def damage(folder: Path) -> None:
        raw = json.loads((folder / MANIFEST).read_text())
        change(raw)
        (folder / MANIFEST).write_text(json.dumps(raw))

    return damage


def flipped(path: Path) -> None:
    """One bit of the last byte changed."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def cut(path: Path) -> None:
    """The end lost."""
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda f: (f / MANIFEST).unlink(), "it has no export.json, which is written last"),
        (lambda f: cut(f / MANIFEST), "cannot be read as JSON"),
        (lambda f: (f / MANIFEST).write_text("[1]"), "must be a JSON object"),
        (lambda f: (f / "backbone.safetensors").unlink(), "backbone.safetensors is missing"),
        (lambda f: cut(f / "backbone.safetensors"), "was cut short or replaced"),
        (lambda f: flipped(f / "backbone.safetensors"), "is not the file that was exported"),
        (lambda f: flipped(f / "heads.safetensors"), "is not the file that was exported"),
        (lambda f: (f / "statistics.safetensors").unlink(), "statistics.safetensors is missing"),
        (edited(lambda raw: raw.update(schema=2)), "has schema 2; this version reads up to 1"),
        (edited(lambda raw: raw.update(schema=0)), "must be 1; got 0"),
        (edited(lambda raw: raw.update(extra=1)), "unknown key in .*export.json 'extra'"),
        (edited(lambda raw: raw.pop("files")), "lacks files"),
        (edited(lambda raw: raw["files"].pop("heads.safetensors")), "files in .* must be backbone"),
        (edited(lambda raw: raw.update(name="a/b")), "name in .* must be a name of letters"),
        (edited(lambda raw: raw["entry"].pop("mean")), "entry in .* lacks mean"),
        (edited(lambda raw: raw["entry"].update(std=[1, 1, 0])), "three numbers above 0"),
        (edited(lambda raw: raw["entry"].update(patch=8)), "says patch 8"),
        (edited(lambda raw: raw["entry"].update(dim=64)), "says dim 64; .* has 48"),
        (edited(lambda raw: raw["options"].update(checkpoint_path="x.pth")), "unknown key in options"),
        (edited(lambda raw: raw["options"].update(dims=[1, 2])), "four whole numbers"),
        (edited(lambda raw: raw["options"].update(mlp_ratio=-1)), "above 0"),
        (edited(lambda raw: raw["options"].update(depth=3)), "state dict of tiny-student: missing: blocks.2"),
        (edited(lambda raw: raw.update(model="vit_tinny")), "timm has no model 'vit_tinny'"),
        (edited(lambda raw: raw.update(model="regnetx_002", options={})), "patch features are taken from"),
        (edited(lambda raw: raw.update(training=[])), "training in .* must be a JSON object"),
        (edited(lambda raw: raw.update(teachers={})), "teachers in .* must be a list"),
        (edited(lambda raw: raw["teachers"][0].update(digest="abc")), "digest in number 1 of teachers in .* sha256"),
        (edited(lambda raw: raw["teachers"][0].update(name="a.b")), "letters, digits, - and _"),
        (edited(lambda raw: raw["teachers"][0].update(cls=None, patch=None)), "it taught nothing"),
        (edited(lambda raw: raw["teachers"][0].update(projection=4)), "a projection and no tower"),
        (edited(lambda raw: raw["teachers"][1].update(tower=raw["tower"])), "a tower and no cls"),
        (edited(lambda raw: raw["teachers"][1].update(name="expert")), "must have different names"),
        (edited(lambda raw: raw["entry"].update(global_feature="none")), "the encoder has no global feature"),
        (rewritten("backbone.safetensors", lambda t: t.pop("norm.bias")), "missing: norm.bias"),
        (rewritten("backbone.safetensors", lambda t: t.update(more=torch.zeros(1))), "unexpected: more"),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_refused(tmp_path: Path, damage: Damage, words: str) -> None:
    """Half-written, cut short, altered, of a later schema, or not what its manifest says: never an encoder."""
    write(tmp_path / "export", TAUGHT)
    if "tower and no cls" in words:
        edited(lambda raw: raw["teachers"][1].update(tower={"encoder": "x", "digest": "0" * 64}))(tmp_path / "export")
    else:
        damage(tmp_path / "export")
    with pytest.raises(EvalError, match=words):
        load(entry_of(str(tmp_path / "export")), DigestMemo(None))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("heads.safetensors", lambda t: t.pop("expert.cls.outer.weight"), "missing: expert.cls.outer.weight"),
        ("heads.safetensors", lambda t: t.update({"b.cls": torch.zeros(1)}), "unexpected: b.cls"),
        ("heads.safetensors", lambda t: t.update({"expert.cls.norm.bias": torch.zeros(3)}), r"\(3,\) instead of"),
        ("statistics.safetensors", lambda t: t.pop("patches.patch.std"), "missing: patches.patch.std"),
        ("statistics.safetensors", lambda t: t["expert.cls.std"].zero_(), "expert.cls.std must be finite"),
        ("statistics.safetensors", lambda t: t["expert.cls.mean"].fill_(torch.inf), "expert.cls.mean must be finite"),
    ],
)  # fmt: skip
def test_heads_and_statistics_are_read_strictly(
    tmp_path: Path, name: str, change: Callable[[dict[str, Tensor]], object], words: str
) -> None:
    """What the manifest says of the teachers is what the files hold, and they are the files that were exported."""
    write(tmp_path / "export", TAUGHT)
    rewritten(name, change)(tmp_path / "export")
    with pytest.raises(WeightsError, match=words):
        read_heads(tmp_path / "export")
    flipped(tmp_path / "export" / name)
    with pytest.raises(WeightsError, match="is not the file that was exported"):
        read_heads(tmp_path / "export")


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up between two files: an error, and no folder under any name."""
    calls = []

    def full(tensors: Mapping[str, Tensor], path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr(export_files, "save_file", full)
    with pytest.raises(ResultsError, match="No space left"):
        write(tmp_path / "out" / "export", TAUGHT)
    assert len(calls) == 2
    assert list((tmp_path / "out").iterdir()) == []


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    """A manifest that is amiss, heads that are another's, and a folder that is there already."""
    backbone, taught = authors_names(model_of(VIT)), random_heads(TAUGHT)
    with pytest.raises(UsageError, match="lacks"):
        write_export(tmp_path / "a", replace(VIT, entry={"size": 3}), backbone)
    with pytest.raises(WeightsError, match=r"heads.safetensors of .* missing: expert"):
        write_export(tmp_path / "a", TAUGHT, backbone, nn.ModuleDict(), taught[1])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="exports are never overwritten"):
        write_export(tmp_path / "a", TAUGHT, backbone, *taught)


def by_hand(folder: Path, name: str, tokens: Tensor) -> Tensor:
    """What the teacher would have put out: the class head, then its deviations and means, unfolded."""
    heads, statistics = read_heads(folder)
    adapter, measured = heads[name], statistics[name]
    assert isinstance(adapter, Adapter) and adapter.cls is not None and isinstance(measured, nn.ModuleDict)
    found = measured["cls"]
    assert isinstance(found, Statistics)
    with torch.no_grad():
        out = found.restore(adapter.cls(tokens))
        return out if adapter.projection is None else adapter.projection(out)


@pytest.mark.parametrize("student", [VIT, CONV], ids=["vit", "convnext"])
@pytest.mark.parametrize("projection", [None, 14])
def test_the_composed_vector_is_the_formula(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: Manifest, projection: int | None
) -> None:
    """Student head, proxy's statistics, the proxy's own head, the expert's statistics, its projection, unit length."""
    use_stand_in(monkeypatch, dim=projection or 20)
    folder = chain(tmp_path, replace(DIRECT, projection=projection), student)
    entry = resolve(str(folder))
    assert (entry.text, entry.text_tower, entry.note) == (True, "stand-in", None)
    encoder = loaded(folder)
    features = encoder(images(3, 3, 64, 64))
    assert features.pooled_BD is not None
    text_BD = by_hand(tmp_path / "proxy", "text-expert", by_hand(folder, "proxy", features.pooled_BD))
    torch.testing.assert_close(encoder.encode_image(features), F.normalize(text_BD, dim=1), rtol=1e-4, atol=1e-5)
    expected = F.normalize(words_vector("a cat", projection or 20), dim=0)
    torch.testing.assert_close(encoder.encode_text(["a cat"])[0], expected)


def test_a_student_of_the_expert_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a proxy there is one head; of several ways the direct one is taken, though its proxy be missing."""
    use_stand_in(monkeypatch)
    gone = teacher("gone", kind="export", source="../gone", cls=48)
    write(tmp_path / "export", replace(VIT, teachers=(gone, DIRECT)))
    encoder = loaded(tmp_path / "export")
    features = encoder(images(2, 3, 64, 64))
    assert features.pooled_BD is not None
    expected = F.normalize(by_hand(tmp_path / "export", "text-expert", features.pooled_BD), dim=1)
    torch.testing.assert_close(encoder.encode_image(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("teachers", "why"),
    [
        ((), "no teacher"),
        ((teacher("dino"), teacher("lang", cls=None)), "dino has no text tower; lang taught patches only"),
        ((teacher("mean", kind="export", source="../proxy", target="mean"),), "mean has no text tower"),
    ],
)
def test_why_there_is_no_text(tmp_path: Path, teachers: tuple[Teacher, ...], why: str) -> None:
    """An export whose lineage ends nowhere has no text, and its note says where each teacher ends."""
    write(tmp_path / "export", replace(VIT, teachers=teachers, entry={**VIT.entry, "note": "A trial."}))
    entry = resolve(str(tmp_path / "export"))
    assert (entry.text, entry.note) == (False, f"A trial. No text: {why}.")
    assert not isinstance(load(entry, DigestMemo(None)), TextAlignedEncoder)
    shown = CliRunner().invoke(app, ["info", str(tmp_path / "export")])
    assert f"No text: {why}." in " ".join(shown.stdout.split())


def test_a_proxy_without_text_says_so_through_its_student(tmp_path: Path) -> None:
    """The reason names the whole way."""
    folder = chain(tmp_path, teacher("lang", cls=None))
    assert text_route(folder, read_manifest(folder)).why_not == (
        "proxy: dense has no text tower; lang taught patches only"
    )


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (lambda f: shutil.rmtree(f.parent / "proxy"), UnavailableError, "'proxy' of the export in .* copy that export"),
        (lambda f: (f.parent / "proxy" / MANIFEST).unlink(), WeightsError, "it has no export.json"),
        (edited(lambda raw: raw["training"].update(step=9)), WeightsError, "another export than the one in"),
        (lambda f: flipped(f.parent / "proxy" / "heads.safetensors"), WeightsError, "is not the file"),
        (lambda f: (f.parent / "proxy" / "statistics.safetensors").unlink(), WeightsError, "statistics.safetensors is"),
    ],
)
def test_a_broken_lineage_stops_text_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage, kind: type[EvalError], words: str
) -> None:
    """A proxy that is missing or another one: features come as ever, text says what is wrong."""
    use_stand_in(monkeypatch)
    folder = chain(tmp_path)
    damage(tmp_path / "proxy" if "another export" in words else folder)
    encoder = loaded(folder)
    features = encoder(images(1, 3, 64, 64))
    for ask in (lambda: encoder.encode_text(["a"]), lambda: encoder.encode_image(features)):
        with pytest.raises(kind, match=words):
            ask()


def test_the_backbone_of_the_proxy_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text takes its heads alone: gigabytes need not travel with a student."""
    use_stand_in(monkeypatch)
    folder = chain(tmp_path)
    (tmp_path / "proxy" / "backbone.safetensors").unlink()
    encoder = loaded(folder)
    assert encoder.encode_image(encoder(images(1, 3, 64, 64))).shape == (1, 20)


def test_another_width_or_tower_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that is not the proxy's width, a tower of other weights, a tower of another width."""
    folder = chain(tmp_path / "a", cls=40)
    with pytest.raises(WeightsError, match=r"put out 40 numbers; the one in .* has 48"):
        text_route(folder, read_manifest(folder))
    encoder = loaded(chain(tmp_path / "b"))
    use_stand_in(monkeypatch, digest="f" * 64)
    with pytest.raises(WeightsError, match=r"stand-in with weights .*; the weights here are ffffffffffff"):
        encoder.encode_text(["a"])
    use_stand_in(monkeypatch, dim=7)
    with pytest.raises(WeightsError, match="ends at 20 numbers; the text tower of stand-in has 7"):
        encoder.encode_text(["a"])


def test_a_missing_proxy_is_in_the_note(tmp_path: Path) -> None:
    """What `eupe-eval info` prints says that text cannot be used here, and why."""
    folder = chain(tmp_path)
    shutil.rmtree(tmp_path / "proxy")
    entry = resolve(str(folder))
    assert entry.text
    assert entry.note is not None and entry.note.startswith("Text cannot be used here: teacher 'proxy' of the export")


def test_a_way_that_ends_after_all_is_told(tmp_path: Path) -> None:
    """A proxy that comes back after the encoder was built, and turns out to meet no text."""
    folder = chain(tmp_path, teacher("lang", cls=None))
    (tmp_path / "proxy").rename(tmp_path / "away")
    encoder = loaded(folder)
    (tmp_path / "away").rename(tmp_path / "proxy")
    with pytest.raises(WeightsError, match="has no way to text: proxy: dense has no text tower"):
        encoder.encode_text(["a"])


def test_a_tower_that_is_not_here_stops_text_alone(tmp_path: Path) -> None:
    """The real text tower without its weights: unavailable, with what to get."""
    tower = replace(TOWER, encoder="pe-core-b")
    encoder = loaded(chain(tmp_path, replace(DIRECT, tower=tower)))
    assert encoder(images(1, 3, 64, 64)).pooled_BD is not None
    with pytest.raises(UnavailableError, match="weights of pe-core-b are not on this machine"):
        encoder.encode_text(["a"])


def test_text_leaves_the_encoder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frozen digest does not change when heads and tower come, and another lineage has other kept vectors."""
    use_stand_in(monkeypatch)
    one = loaded(chain(tmp_path / "a"))
    other = loaded(chain(tmp_path / "b", replace(DIRECT, tower=replace(TOWER, digest="1" * 64))))
    before = digest(one)
    one.encode_image(one(images(1, 3, 64, 64)))
    one.encode_text(["a"])
    assert digest(one) == before
    assert _key(one, [["a"]], "fp32") != _key(other, [["a"]], "fp32")


def zeroshot(folder: Path, tmp_path: Path, world: Path) -> dict[str, Any]:
    """The record of `eupe-eval run -b in1k-zeroshot` on the tiny world."""
    words = ["run", "-e", str(folder), "-b", "in1k-zeroshot", "--data", str(world), "--quiet", "--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "--results", str(tmp_path / "r"), "--cache", str(tmp_path / "c")])
    (path,) = (tmp_path / "r").rglob("*@*.json")
    record: dict[str, Any] = json.loads(path.read_text())
    assert done.exit_code == (0 if record["status"] in ("success", "skipped") else 1), done.output
    return record


@pytest.fixture(scope="module")
def pixels(tiny_world: Path) -> tuple[Tensor, list[str]]:
    """Every validation image of the world as zero-shot sees it, and the name of its class."""
    split = imagenet.load(tiny_world / "imagenet", "val", DigestMemo(None))
    geometry = Squash(128, "bilinear", antialias=True)
    shown = torch.stack([to_unit(geometry.apply(read_rgb(path), 16)) for path in split.images.paths])
    assert split.names is not None
    return shown, [split.names[label] for label in split.labels_N]


def tokens_of(manifest: Manifest, seed: int, shown: Tensor) -> Tensor:
    """Class tokens of the network of a manifest, by timm itself."""
    mean, std = (torch.tensor(manifest.entry[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        found: Tensor = model_of(manifest, seed).forward_features((shown - mean) / std)[:, 0]
    return found


def taught(folder: Path, manifest: Manifest, seed: int, tokens_ND: Tensor, targets_NE: Tensor) -> None:
    """Write an export whose class head for its only teacher was solved to give these targets for these tokens."""
    heads, statistics = random_heads(manifest, seed)
    (name,) = (teacher.name for teacher in manifest.teachers)
    adapter, measured = heads[name], statistics[name]
    assert isinstance(adapter, Adapter) and adapter.cls is not None and isinstance(measured, nn.ModuleDict)
    own = measured["cls"]
    assert isinstance(own, Statistics)
    own.mean.copy_(targets_NE.mean(0))
    own.std.copy_(targets_NE.std(0))
    solve(adapter.cls, tokens_ND, own.standardise(targets_NE))
    write_export(folder, manifest, authors_names(model_of(manifest, seed)), heads, statistics)


def distilled(folder: Path, shown: Tensor, targets_NE: Tensor, tower: Tower = TOWER) -> Path:
    """A student of a proxy of an expert, perfectly taught on these images: the folder of the student."""
    expert = teacher("expert", tower=tower, cls=targets_NE.shape[1], hidden=256)
    proxy = replace(VIT, name="proxy", teachers=(expert,))
    proxy_ND = tokens_of(proxy, 1, shown)
    taught(folder / "proxy", proxy, 1, proxy_ND, targets_NE)
    digest_of = sha256_file(folder / "proxy" / MANIFEST)
    link = teacher("proxy", kind="export", source="../proxy", digest=digest_of, cls=48, hidden=256)
    student = replace(VIT, options={"embed_dim": 32, "depth": 1, "num_heads": 2}, entry={**VIT.entry, "dim": 32})
    student = replace(student, teachers=(link,))
    taught(folder / "student", student, 2, tokens_of(student, 2, shown), proxy_ND)
    return folder / "student"


@pytest.mark.parametrize(("shift", "top1"), [(0, 100.0), (1, 0.0)])
def test_zero_shot_through_the_lineage(
    tmp_path: Path,
    tiny_world: Path,
    pixels: tuple[Tensor, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    shift: int,
    top1: float,
) -> None:
    """A chain that was taught the text vector of each image's class scores 100 by the command line; of the next, 0."""
    use_stand_in(monkeypatch)
    shown, names = pixels
    others = list(dict.fromkeys(names))
    wanted = [others[(others.index(name) + shift) % len(others)] for name in names]
    folder = distilled(tmp_path, shown, torch.stack([words_vector(name, 20) for name in wanted]))
    record = zeroshot(folder, tmp_path, tiny_world)
    assert record["lineage"]["teachers"][0]["digest"] == read_manifest(folder).teachers[0].digest
    assert record["status"] == "success", record
    assert {score["name"]: score["value"] for score in record["metrics"]}["top1[class_name]"] == top1
    assert record["encoder"]["weights_sha256"] == sha256_file(folder / MANIFEST)
    assert record["frozen"]["ok"]


def test_zero_shot_without_text_or_proxy(tmp_path: Path, tiny_world: Path) -> None:
    """`no txt` where the lineage ends nowhere; `unavailable` with what to copy where the proxy is missing."""
    write(tmp_path / "a" / "export", TAUGHT)
    record = zeroshot(tmp_path / "a" / "export", tmp_path / "a", tiny_world)
    assert (record["status"], record["reason"]) == ("skipped", "no txt")
    folder = chain(tmp_path / "b")
    shutil.rmtree(folder.parent / "proxy")
    record = zeroshot(folder, tmp_path / "b", tiny_world)
    assert (record["status"], record["reason"]) == ("unavailable", "weights")
    assert "copy that export to '../proxy'" in record["error"]["message"]


def test_a_real_text_tower_ends_the_lineage(
    tmp_path: Path, pixels: tuple[Tensor, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PE-core with random weights as the expert: the student's vectors, and its nearest texts, are the expert's own."""
    name, shown = "pe-core-t", pixels[0]
    for function in ("tower_identity", "load_tower"):
        monkeypatch.setattr(text, function, functools.partial(getattr(text, function), weights="random"))
    expert = load(resolve(name, weights="random"), DigestMemo(None))
    assert isinstance(expert, TextAlignedEncoder)
    with torch.no_grad():
        own_NE = expert.encode_image(expert(shown[:, :, :112, :112]))
    tower = Tower(name, text.tower_identity(name, DigestMemo(None)))
    encoder = loaded(distilled(tmp_path, shown, own_NE, tower))
    found_NE = encoder.encode_image(encoder(shown))
    torch.testing.assert_close(found_NE, own_NE, rtol=0, atol=1e-3)
    text_TE = encoder.encode_text(pixels[1])
    assert torch.equal(text_TE, text.load_tower(name, DigestMemo(None)).encode(pixels[1]))
    assert torch.equal((found_NE @ text_TE.T).argmax(1), (own_NE @ text_TE.T).argmax(1))


def test_records_tell_where_an_export_came_from(tmp_path: Path) -> None:
    """Stage, step and teachers by their digests; nothing for random weights, or for what is no export."""
    write(tmp_path / "export", TAUGHT)
    entry = resolve(str(tmp_path / "export"))
    told = entry.lineage()
    assert told is not None
    assert told["step"] == 7
    assert [each["name"] for each in told["teachers"]] == ["expert", "patches"]
    assert resolve(str(tmp_path / "export"), weights="random").lineage() is None
    assert resolve("pixels").lineage() is None
