"""Exports that bring a text tower of their own: its words, its file, and the way to it from a student."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from evals.encoders.exports.files import read_heads, write_export
from evals.encoders.exports.heads import fold
from evals.encoders.exports.manifest import MANIFEST, Manifest, Text
from evals.encoders.exports.text import fresh_tower, pieces, read_tower
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import UsageError, WeightsError
from evals.files import DigestMemo, sha256_file
from evals.types import TextAlignedEncoder
from tests.evals.encoders.exporting import VIT, model_of, random_heads, teacher

SHAPE = Text(("a", "of", "photo", "mug", "."), 16, 1, 2, 6)
EXPERT = replace(
    VIT,
    name="tiny-expert",
    model="resnet10t",
    options={"layers": [1, 1, 1, 1], "channels": [8, 8, 12, 20], "stem_width": 8, "output_stride": 16},
    entry={**VIT.entry, "dim": 20, "global_feature": "avg_pool"},
    text=SHAPE,
)


def expert(folder: Path, manifest: Manifest = EXPERT) -> Path:
    """An export with random weights and a random text tower."""
    state = model_of(manifest).state_dict()
    seen = {key: value + 7 if key.endswith("num_batches_tracked") else value for key, value in state.items()}
    write_export(folder, manifest, seen, text=fresh_tower(SHAPE, 20, seed=3))
    return folder


def test_words_and_marks() -> None:
    """Counted by hand: lower case, marks apart."""
    assert pieces("A photo of a Mug.") == ["a", "photo", "of", "a", "mug", "."]
    tower = fresh_tower(SHAPE, 20, seed=0)
    assert tower.tokens(["a mug.", "photo of a dog"]).tolist() == [[2, 5, 6, 0], [4, 3, 2, 1]]


def test_a_vector_depends_on_its_own_words() -> None:
    """Not on the prompts beside it, nor on which unknown word it has, nor on what is beyond the context."""
    tower = fresh_tower(SHAPE, 20, seed=0).eval()
    alone, beside = tower.encode(["a mug"]), tower.encode(["a mug", "a photo of a mug."])
    torch.testing.assert_close(alone[0], beside[0], atol=1e-6, rtol=0)
    vectors = tower.encode(["a dog", "a cat", "a mug", "a photo of a mug. a", "a photo of a mug. mug", ""])
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2])
    assert torch.equal(vectors[3], vectors[4])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(6))


def test_an_expert_meets_its_own_text(tmp_path: Path) -> None:
    """Its global feature, as unit vectors, lies in the space of its tower."""
    encoder = load(resolve(str(expert(tmp_path / "expert"))), DigestMemo(None))
    assert isinstance(encoder, TextAlignedEncoder)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = encoder(images)
    assert features.pooled_BD is not None
    assert features.patches_BHWD.shape == (2, 4, 4, 20)
    torch.testing.assert_close(features.pooled_BD, features.patches_BHWD.mean((1, 2)))
    torch.testing.assert_close(encoder.encode_image(features), F.normalize(features.pooled_BD, dim=1))
    assert torch.equal(encoder.encode_text(["a mug"]), read_tower(tmp_path / "expert").encode(["a mug"]))


def test_a_student_gets_there_by_its_lineage(tmp_path: Path) -> None:
    """Student, proxy, expert: class heads with their statistics, one after the other."""
    expert(tmp_path / "expert")
    last = teacher(
        "semantic", kind="export", source="../expert", digest=sha256_file(tmp_path / "expert" / MANIFEST), cls=20
    )
    proxy = replace(VIT, name="proxy", teachers=(last,))
    write_export(tmp_path / "proxy", proxy, model_of(proxy, 1).state_dict(), *random_heads(proxy, 1))
    link = teacher(kind="export", source="../proxy", digest=sha256_file(tmp_path / "proxy" / MANIFEST), cls=48)
    student = replace(VIT, teachers=(link,))
    write_export(tmp_path / "student", student, model_of(student, 2).state_dict(), *random_heads(student, 2))
    encoder = load(resolve(str(tmp_path / "student")), DigestMemo(None))
    assert isinstance(encoder, TextAlignedEncoder)
    vectors = torch.randn(3, 48, generator=torch.Generator().manual_seed(1))
    for name, of in (("student", "proxy"), ("proxy", "semantic")):
        heads, statistics = read_heads(tmp_path / name)
        vectors = fold(heads[of].cls, statistics[of]["cls"])(vectors)  # type: ignore[union-attr,arg-type,index]
    features = encoder(torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    given = replace(features, pooled_BD=torch.randn(3, 48, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(encoder.encode_image(given), F.normalize(vectors, dim=1), atol=1e-5, rtol=1e-5)
    assert torch.equal(encoder.encode_text(["a mug"]), read_tower(tmp_path / "expert").encode(["a mug"]))


def test_a_changed_tower_is_told(tmp_path: Path) -> None:
    """One byte is enough."""
    path = expert(tmp_path / "expert") / "text.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(WeightsError, match=r"text\.safetensors is not the file that was exported"):
        read_tower(tmp_path / "expert")


def test_an_export_without_a_tower_says_so(tmp_path: Path) -> None:
    """Asked for what it does not have."""
    write_export(tmp_path / "plain", VIT, model_of(VIT).state_dict())
    with pytest.raises(WeightsError, match="no text tower of its own"):
        read_tower(tmp_path / "plain")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (replace(EXPERT, text=replace(SHAPE, words=("a", "a"))), "list of different words"),
        (replace(EXPERT, text=replace(SHAPE, depth=0)), "depth in text"),
        (replace(EXPERT, entry={**EXPERT.entry, "global_feature": "none"}), "no global feature to meet it"),
    ],
    ids=["words", "depth", "global"],
)
def test_a_tower_amiss_is_refused(tmp_path: Path, manifest: Manifest, message: str) -> None:
    """Before anything is written."""
    with pytest.raises(UsageError, match=message):
        expert(tmp_path / "expert", manifest)
    assert not (tmp_path / "expert").exists()
