"""The k-NN benchmark on features written by hand."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from evals.benchmarks.base import Job, Outcome, find
from evals.benchmarks.in1k_knn import In1kKnn
from evals.context import Context, Roots
from evals.datasets.base import Images
from evals.datasets.imagenet import ClassificationSplit
from evals.errors import UsageError
from evals.preprocess import ShortSideCrop
from evals.record import EncoderCard
from evals.types import Encoder, Features, ImageSpec

CARD = EncoderCard("fake", "fake", "fake", "none", "0" * 64, "Apache-2.0", 16, 224, "cls", text=False)
SPEC = ImageSpec(224, 16, "bicubic", True, "crop", (0.5,) * 3, (0.5,) * 3)


class _Encoder(Encoder):
    def encode(self, images_B3YX: Tensor, layers: Sequence[int], rope_scales_L: Tensor | None) -> Features:
        raise AssertionError("features come from the store")


class _Store:
    """Features by the name of the images."""

    def __init__(self, **features: Tensor) -> None:
        self._features = features

    def get(self, request: Any) -> Tensor:
        assert not request.patches
        return self._features[request.images.name]


def _split(name: str, labels: Sequence[int]) -> ClassificationSplit:
    images = Images(name, tuple(Path(f"{name}/{i}.png") for i in range(len(labels))), name)
    return ClassificationSplit("imagenet-1k", name, images, name, len(labels), np.array(labels), ("a", "b", "c"), None)


def _run(
    bench: In1kKnn, tmp_path: Path, train: tuple[Tensor, Sequence[int]], val: tuple[Tensor, Sequence[int]]
) -> Outcome:
    context = Context(Roots({}), tmp_path, tmp_path, seed=3)
    store = cast(Any, _Store(train=train[0], val=val[0]))
    splits = (_split("train", train[1]), _split("val", val[1]))
    return bench.run(Job(_Encoder(CARD, SPEC, dim=2, depth=1), store, splits, context, tmp_path))


def _values(outcome: Outcome) -> dict[str, float | None]:
    return {score.name: score.value for score in outcome.metrics}


def test_vote_by_hand(tmp_path: Path) -> None:
    """One near neighbour of class 1 outweighs two of class 0 under `official`; under a majority it does not."""
    train = torch.tensor([[1.0, 0.0], [0.9, 0.5], [0.9, -0.5]]), [1, 0, 0]
    val = torch.tensor([[5.0, 0.01], [2.0, -0.01]]), [1, 0]
    weighted = _run(In1kKnn(ks=(3,)), tmp_path, train, val)
    majority = _run(In1kKnn(ks=(3,), vote="majority"), tmp_path, train, val)
    assert weighted.samples["predictions"].tolist() == [1, 1]
    assert majority.samples["predictions"].tolist() == [0, 0]
    assert _values(weighted) == _values(majority) == {"top1": 50.0}


@pytest.mark.parametrize(("gap", "winner"), [(0.045, 0), (0.052, 1)])
def test_two_neighbours_outweigh_one_below_the_temperature_times_log_two(
    tmp_path: Path, gap: float, winner: int
) -> None:
    """One cosine of 0.9 against two that are lower by `gap`: e^(gap / 0.07) passes 2 at a gap of 0.0485."""
    cosines = torch.tensor([0.9, 0.9 - gap, 0.9 - gap])
    train = 7 * torch.stack([cosines, (1 - cosines.square()).sqrt()], 1), [1, 0, 0]
    outcome = _run(In1kKnn(ks=(3,)), tmp_path, train, (torch.tensor([[3.0, 0.0]]), [0]))
    assert outcome.samples["predictions"].tolist() == [winner]


def test_length_counts_only_without_normalisation(tmp_path: Path) -> None:
    """The cosine sees the direction; `paper` measures the distance between the raw features."""
    train = torch.tensor([[10.0, 0.0], [1.0, 1.0]]), [0, 1]
    val = torch.tensor([[2.0, 0.2]]), [0]
    official = _run(In1kKnn(ks=(1,)), tmp_path, train, val)
    _, bench = In1kKnn.of("paper", ks=(1,))
    assert official.samples["predictions"].tolist() == [0]
    assert _run(bench, tmp_path, train, val).samples["predictions"].tolist() == [1]


def test_metrics_are_named_by_k(tmp_path: Path) -> None:
    """Numbers of neighbours above the train size become it and are merged; the first is the headline."""
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(40, 4, generator=generator), [i % 5 for i in range(40)]
    val = torch.randn(9, 4, generator=generator), [i % 5 for i in range(9)]
    outcome = _run(In1kKnn(), tmp_path, train, val)
    assert [score.name for score in outcome.metrics] == ["top1", "top1@k20", "top1@k40", "top5"]
    assert [score.primary for score in outcome.metrics] == [True, False, False, False]
    assert outcome.notes["ks"] == [10, 20, 40]
    assert _values(outcome)["top5"] == 100, "five classes: each is among the first five"
    assert outcome.samples["neighbours"].shape == (9, 10)
    for name, column in (("top1", "predictions"), ("top1@k20", "predictions_k20"), ("top1@k40", "predictions_k40")):
        hits = outcome.samples[column] == outcome.samples["labels"]
        assert _values(outcome)[name] == pytest.approx(100 * hits.mean())
    interval = outcome.metrics[0].ci
    assert interval is not None
    assert interval.cluster == "image"
    assert interval.low <= (outcome.metrics[0].value or 0) <= interval.high


def test_paper_equals_scikit_learn_on_digits(tmp_path: Path) -> None:
    """Real data: top-1 of the literal protocol is the accuracy of KNeighborsClassifier(10), image by image."""
    pixels, labels = load_digits(return_X_y=True)
    vectors = (pixels / 16).astype(np.float32)
    theirs = KNeighborsClassifier(10).fit(vectors[:1200], labels[:1200]).predict(vectors[1200:])
    _, bench = In1kKnn.of("paper")
    train = torch.from_numpy(vectors[:1200]), labels[:1200].tolist()
    val = torch.from_numpy(vectors[1200:]), labels[1200:].tolist()
    outcome = _run(bench, tmp_path, train, val)
    assert (outcome.samples["predictions"] == theirs).all()
    assert _values(outcome)["top1"] == pytest.approx(100 * (theirs == labels[1200:]).mean())


def test_shuffled_labels_fall_to_chance(tmp_path: Path) -> None:
    """Three classes without any signal: one third right, within four standard deviations of 600 draws."""
    generator = torch.Generator().manual_seed(1)
    labels = np.random.default_rng(2).integers(3, size=1500).tolist()
    train = torch.randn(900, 6, generator=generator), labels[:900]
    val = torch.randn(600, 6, generator=generator), labels[900:]
    assert _values(_run(In1kKnn(), tmp_path, train, val))["top1"] == pytest.approx(100 / 3, abs=4 * 1.92)


def test_seed_moves_no_value(tmp_path: Path) -> None:
    """Twice the same run gives the same outcome, intervals included."""
    train = torch.randn(60, 4, generator=torch.Generator().manual_seed(4)), [i % 3 for i in range(60)]
    first, again = (_run(In1kKnn(), tmp_path, train, train) for _ in range(2))
    assert first.metrics == again.metrics
    assert all((first.samples[name] == again.samples[name]).all() for name in first.samples)


def test_protocols() -> None:
    """The constants of each protocol, as the official code, the paper and the embedded world have them."""
    name, official = In1kKnn.of(None)
    assert name == "official"
    assert official.requests(SPEC, (_split("val", [0]),))[0].geometry == ShortSideCrop(224, 256, "bicubic")
    assert (official.ks, official.metric, official.normalize, official.vote, official.temperature) == (
        (10, 20, 100, 200), "cosine", True, "weighted", 0.07,
    )  # fmt: skip
    _, paper = In1kKnn.of("paper")
    assert (paper.ks, paper.metric, paper.normalize, paper.vote) == ((10,), "l2", False, "majority")
    name, small = In1kKnn.of(None, world=True)
    assert name == "miniature"
    assert small.requests(SPEC, (_split("val", [0]),))[0].geometry == ShortSideCrop(128, 146, "bicubic")


def test_who_is_skipped() -> None:
    """No global feature: always. A pooled map (ConvNeXt): under `paper` only."""
    official, paper = In1kKnn(), In1kKnn.of("paper")[1]
    none, pooled, pixels = (replace(CARD, global_feature=name) for name in ("none", "gap_norm", "pixels"))
    assert [official.skip(card) for card in (CARD, pixels, pooled, none)] == [None, None, None, "no cls"]
    assert [paper.skip(card) for card in (CARD, pixels, pooled, none)] == [None, None, "no cls", "no cls"]


def test_work_counts_every_image_at_the_used_side() -> None:
    """Sides are multiples of the patch."""
    work = In1kKnn(side=220).work(SPEC, (_split("train", [0] * 7), _split("val", [0] * 2)))
    assert [(item.images, item.rows, item.columns) for item in work] == [(7, 224, 224), (2, 224, 224)]


@pytest.mark.parametrize("changes", [{"normalize": False}, {"metric": "l2"}], ids=str)
def test_contradicting_constants_are_refused(changes: dict[str, Any]) -> None:
    """With the key in the message."""
    with pytest.raises(UsageError, match="|".join(changes)):
        In1kKnn(**changes)


def test_listing_needs_no_torch() -> None:
    """The module stays light."""
    code = "import sys; from evals.benchmarks.base import find; find('in1k-knn'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert find("in1k-knn") is In1kKnn
