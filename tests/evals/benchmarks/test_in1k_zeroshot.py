"""Zero-shot classification with a text tower made of tables."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from evals.benchmarks.base import Job, Outcome, find
from evals.benchmarks.in1k_zeroshot import In1kZeroshot, class_names, text_vectors
from evals.context import Context, Roots
from evals.datasets.base import Images
from evals.datasets.imagenet import ClassificationSplit
from evals.errors import DataError, NumericsError, UnavailableError
from evals.preprocess import Squash
from evals.record import EncoderCard
from evals.types import Ask, Features, ImageSpec, TextAlignedEncoder

CARD = EncoderCard("fake", "fake", "fake", "none", "0" * 64, "Apache-2.0", 16, 224, "cls", text=True)
SPEC = ImageSpec(224, 16, "bilinear", True, "squash", (0.5,) * 3, (0.5,) * 3)
DIM = 24


class _Encoder(TextAlignedEncoder):
    """Text vectors: a fixed random vector for each word, summed over the prompt, of any length."""

    def __init__(self, card: EncoderCard = CARD) -> None:
        super().__init__(card, SPEC, dim=DIM, depth=1)
        self.prompts: list[str] = []
        self.scale = 3.0

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        raise AssertionError("features come from the store")

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        self.prompts += prompts
        return self.scale * torch.stack([_words(prompt) for prompt in prompts])

    def encode_image(self, features: Features) -> Tensor:
        assert features.pooled_BD is not None
        return features.pooled_BD * 0.5


def _words(prompt: str) -> Tensor:
    seeds = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:6], "big") for word in prompt.split()]
    return torch.stack([torch.randn(DIM, generator=torch.Generator().manual_seed(seed)) for seed in seeds]).sum(0)


class _Store:
    def __init__(self, features: Tensor) -> None:
        self._features = features

    def get(self, request: Any) -> Tensor:
        return self._features


def _split(
    labels: Sequence[int], names: Sequence[str] | None, classes: Sequence[str] | None = None
) -> ClassificationSplit:
    images = Images("val", tuple(Path(f"{i}.png") for i in range(len(labels))), "f")
    folders = tuple(classes or [f"w{i}" for i in range(len(names or ()))])
    named = None if names is None else tuple(names)
    return ClassificationSplit("imagenet-1k", "val", images, "f", len(labels), np.array(labels), folders, named)


def _job(tmp_path: Path, features: Tensor, split: ClassificationSplit, encoder: _Encoder | None = None) -> Job:
    context = Context(Roots({}), tmp_path / "results", tmp_path / "cache")
    return Job(encoder or _Encoder(), cast(Any, _Store(features)), (split,), context, tmp_path)


def _run(tmp_path: Path, features: Tensor, split: ClassificationSplit) -> Outcome:
    return In1kZeroshot().run(_job(tmp_path, features, split))


def _context(tmp_path: Path) -> Context:
    return Context(Roots({}), tmp_path / "results", tmp_path / "cache")


def test_both_modes_against_the_formula(tmp_path: Path) -> None:
    """The ensemble written out in numpy: normalise each prompt, average, normalise; then the largest cosine."""
    names = ["red cube", "blue ball", "green cone"]
    features = torch.randn(50, DIM, generator=torch.Generator().manual_seed(0))
    labels = [i % 3 for i in range(50)]
    outcome = _run(tmp_path, features, _split(labels, names))
    images = features.double().numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    for mode, prompts in (
        ("openai80", [[template(name) for template in OPENAI_IMAGENET_TEMPLATES] for name in names]),
        ("class_name", [[name] for name in names]),
    ):
        vectors = np.array([[_words(prompt).double().numpy() for prompt in group] for group in prompts])
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        text = vectors.mean(1)
        text /= np.linalg.norm(text, axis=1, keepdims=True)
        expected = (images @ text.T).argmax(1)
        assert (outcome.samples[f"predictions[{mode}]"] == expected).all()
    top1, bare = outcome.metrics
    assert (top1.name, top1.primary, bare.name, bare.primary) == ("top1", True, "top1[class_name]", False)
    assert top1.value == pytest.approx(100 * (outcome.samples["predictions[openai80]"] == np.array(labels)).mean())
    assert top1.ci is not None
    assert top1.ci.low <= (top1.value or 0) <= top1.ci.high


def test_images_of_their_own_name_are_all_right(tmp_path: Path) -> None:
    """Image vectors that are the bare names give 100 percent in that mode."""
    names = [f"thing{i}" for i in range(20)]
    features = torch.stack([_words(name) for name in names])
    outcome = _run(tmp_path, features, _split(list(range(20)), names))
    assert outcome.metrics[1].value == 100


def test_equal_names_go_to_the_first_class(tmp_path: Path) -> None:
    """Two classes of one name are an exact tie in both modes, and each name is encoded once."""
    names = ["crate", "missile", "boat", "missile"]
    features = torch.stack([_words("missile")] * 2)
    encoder = _Encoder()
    outcome = In1kZeroshot().run(_job(tmp_path, features, _split([1, 3], names), encoder))
    assert outcome.samples["predictions[class_name]"].tolist() == [1, 1]
    assert outcome.metrics[1].value == 50
    assert len(encoder.prompts) == 3 * 80 + 3


def test_text_vectors_are_kept(tmp_path: Path) -> None:
    """The second call encodes nothing and gives the same bytes."""
    encoder, prompts = _Encoder(), [["a cat", "one cat"], ["a dog", "one dog"]]
    first = text_vectors(encoder, prompts, _context(tmp_path), "fp32")
    assert len(encoder.prompts) == 4
    again = text_vectors(encoder, prompts, _context(tmp_path), "fp32")
    assert len(encoder.prompts) == 4
    assert torch.equal(first, again)
    assert first.norm(dim=1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("change", ["prompts", "dtype", "weights", "model", "tokenizer"])
def test_what_changes_a_text_vector_changes_its_key(tmp_path: Path, change: str) -> None:
    """Another prompt, arithmetic, weight, architecture or tokenizer is encoded anew."""
    encoder, prompts, dtype = _Encoder(), [["a cat"], ["a dog"]], "fp32"
    text_vectors(encoder, prompts, _context(tmp_path), dtype)
    if change == "prompts":
        prompts = [["a cat"], ["a dot"]]
    elif change == "dtype":
        dtype = "bf16"
    elif change == "weights":
        encoder.register_buffer("extra", torch.ones(1))
    elif change == "model":
        encoder.card = replace(CARD, model="other")
    else:
        encoder.card = replace(CARD, text_side={"tokenizer": "1" * 64})
    text_vectors(encoder, prompts, _context(tmp_path), dtype)
    assert len(encoder.prompts) == 4


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty"])
def test_a_damaged_entry_counts_as_absent(tmp_path: Path, damage: str) -> None:
    """Cut short, one bit wrong, another format or empty: encoded again, with the same result, and mended."""
    encoder, prompts = _Encoder(), [["a cat"], ["a dog"]]
    whole = text_vectors(encoder, prompts, _context(tmp_path), "fp32")
    (path,) = (tmp_path / "cache").rglob("*.safetensors")
    good = path.read_bytes()
    damaged = {
        "cut": good[:-5],
        "flipped": good[:-1] + bytes([good[-1] ^ 1]),
        "foreign": b"no safetensors at all",
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    assert torch.equal(text_vectors(encoder, prompts, _context(tmp_path), "fp32"), whole)
    assert len(encoder.prompts) == 4
    assert path.read_bytes() == good


def test_text_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    """And nothing is kept."""
    encoder = _Encoder()
    encoder.scale = float("nan")
    with pytest.raises(NumericsError, match="fake gives text vectors that are not finite"):
        text_vectors(encoder, [["a cat"]], _context(tmp_path), "fp32")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_progress_counts_prompts(tmp_path: Path) -> None:
    """The bar's total is the number of prompts, and it gets there."""
    seen: list[tuple[str, int]] = []

    class _Bar:
        def update(self, n: int = 1) -> None:
            seen.append(("step", n))

    @contextmanager
    def bar(title: str, total: int) -> Iterator[_Bar]:
        seen.append((title, total))
        yield _Bar()

    prompts = [[f"{i} {j}" for j in range(40)] for i in range(10)]
    text_vectors(_Encoder(), prompts, replace(_context(tmp_path), bar=bar), "fp32")
    assert seen[0] == ("fake: 40 prompts a class", 400)
    assert sum(n for _, n in seen[1:]) == 400


def test_imagenet_takes_the_published_names_whatever_labels_say() -> None:
    """Its 1,000 folders get open_clip's list, in order, also beside a labels.txt of other names."""
    folders = ["n01440764", *[f"n{2_000_000 + i:08d}" for i in range(998)], "n15075141"]
    names, source = class_names(_split([0], ["x"] * 1000, folders), IMAGENET_CLASSNAMES)
    assert (names[0], names[999], source) == ("tench", "toilet paper", "open_clip")
    assert (names[657], names[744]) == ("missile", "missile")
    assert (names[836], names[837]) == ("sunglasses", "sunglasses")


def test_other_classes_need_labels() -> None:
    """With labels.txt their own names; without it a message that says what to add."""
    assert class_names(_split([0], ["ball", "cube"]), IMAGENET_CLASSNAMES) == (("ball", "cube"), "labels.txt")
    with pytest.raises(DataError, match=r"add labels\.txt"):
        class_names(_split([0], None, ["a", "b"]), IMAGENET_CLASSNAMES)


def test_without_open_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unavailable, naming the package and the extra that brings it."""
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UnavailableError, match=r"eupe-eval\[text\]") as caught:
        _run(tmp_path, torch.zeros(1, DIM), _split([0], ["ball"]))
    assert caught.value.missing == "package"


def test_who_is_skipped() -> None:
    """Encoders without a text tower."""
    assert In1kZeroshot().skip(CARD) is None
    assert In1kZeroshot().skip(replace(CARD, text=False)) == "no txt"


def test_geometry_and_protocols() -> None:
    """A squash to 224 with the encoder's own filter; 128 on the embedded world."""
    name, paper = In1kZeroshot.of(None)
    split = _split([0], ["ball"])
    assert name == "paper"
    assert paper.requests(SPEC, (split,))[0].geometry == Squash(224, "bilinear", antialias=True)
    raw = replace(SPEC, interpolation="bicubic", antialias=False, patch=14)
    assert paper.requests(raw, (split,))[0].geometry == Squash(224, "bicubic", antialias=False)
    name, small = In1kZeroshot.of(None, world=True)
    assert (name, small.side) == ("miniature", 128)
    assert [(item.images, item.rows) for item in small.work(raw, (split,))] == [(1, 126)]


def test_listing_needs_no_torch() -> None:
    """The module stays light."""
    code = "import sys; from evals.benchmarks.base import find; find('in1k-zeroshot'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert find("in1k-zeroshot") is In1kZeroshot
