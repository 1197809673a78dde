"""Real data through the real path: scikit-learn's digits as class folders, loaded, encoded, cached and voted on."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from evals.benchmarks.base import Job, Outcome
from evals.benchmarks.in1k_knn import In1kKnn
from evals.context import Context, Roots
from evals.datasets.imagenet import ClassificationSplit
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.features import FeatureStore
from evals.files import DigestMemo

SIZES: dict[str, Any] = {"short": 36, "side": 32}
"""Digits of 8 x 8 pixels, enlarged as photographs are: less than to 224 pixels, so that it is quick."""


@dataclass(frozen=True)
class Digits:
    """The folders, and what is scored on them."""

    job: Job
    train: ClassificationSplit
    val: ClassificationSplit

    def run(self, bench: In1kKnn) -> Outcome:
        """The benchmark on the splits, which may have other labels than the folders."""
        return bench.run(replace(self.job, splits=(self.train, self.val)))

    def vectors(self, bench: In1kKnn) -> list[Tensor]:
        """The exported global features, train and val."""
        return [self.job.features.get(r) for r in bench.requests(self.job.encoder.spec, (self.train, self.val))]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """Every second of the 1797 images is for training."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    for index, (image, label) in enumerate(zip(images.reshape(-1, 8, 8), labels, strict=True)):
        path = folder / "imagenet" / ("train", "val")[index % 2] / f"n{label:08d}" / f"n{label:08d}_{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)).save(path)
    context = Context(Roots({"imagenet": folder / "imagenet"}), folder / "results", folder / "cache", batch=256)
    encoder = load(resolve("pixels"), DigestMemo(None))
    train, val = (split for split in In1kKnn().splits(context.roots, context.digests))
    assert isinstance(train, ClassificationSplit)
    assert isinstance(val, ClassificationSplit)
    assert (len(train), len(val), len(train.classes)) == (899, 898, 10)
    return Digits(Job(encoder, FeatureStore(encoder, context), (train, val), context, folder / "work"), train, val)


def _values(outcome: Outcome) -> dict[str, float | None]:
    return {score.name: score.value for score in outcome.metrics}


def _paper() -> In1kKnn:
    return In1kKnn.of("paper", **SIZES)[1]


def test_paper_equals_scikit_learn(digits: Digits) -> None:
    """The vote of the literal protocol is KNeighborsClassifier(10)'s on the exported vectors, image by image."""
    train_MD, query_ND = (vectors.double().numpy() for vectors in digits.vectors(_paper()))
    assert train_MD.shape == (899, 768)
    theirs = KNeighborsClassifier(10, algorithm="brute").fit(train_MD, digits.train.labels_N)
    outcome = digits.run(_paper())
    predicted = theirs.predict(query_ND)
    assert (outcome.samples["predictions"] == predicted).all()
    assert (np.sort(outcome.samples["neighbours"]) == np.sort(theirs.kneighbors(query_ND)[1])).all()
    share = (predicted == digits.val.labels_N).mean()
    assert share > 0.9, "digits are easy: anything less is a wrong label or a wrong picture"
    assert _values(outcome)["top1"] == pytest.approx(100 * share)


def test_official_vote_equals_plain_numpy(digits: Digits) -> None:
    """Cosines of unit vectors, the 200 best kept, softmax at 0.07, summed by class over the first k: for every k."""
    bench = In1kKnn.of("official", **SIZES)[1]
    train_MD, query_ND = (vectors.double().numpy() for vectors in digits.vectors(bench))
    train_MD, query_ND = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train_MD, query_ND))
    expected = _weighted_votes(query_ND @ train_MD.T, digits.train.labels_N, (10, 20, 100, 200))
    outcome = digits.run(bench)
    for k, column in (
        (10, "predictions"),
        (20, "predictions_k20"),
        (100, "predictions_k100"),
        (200, "predictions_k200"),
    ):
        assert (outcome.samples[column] == expected[k]).all()
        name = "top1" if k == 10 else f"top1@k{k}"
        assert _values(outcome)[name] == pytest.approx(100 * (expected[k] == digits.val.labels_N).mean())
    assert len({tuple(votes) for votes in expected.values()}) == 4, "each k decides some images differently"
    majority = digits.run(_paper()).samples["predictions"]
    assert 0 < (outcome.samples["predictions"] != majority).sum() < 20, "the two protocols are not the same vote"


@pytest.mark.parametrize("protocol", ["paper", "official"])
def test_shuffled_labels_fall_to_chance(digits: Digits, protocol: str) -> None:
    """Ten classes: 10 % right, and 898 images stray by 1 %; six times that is the bound."""
    rng = np.random.default_rng(0)
    train = replace(digits.train, labels_N=rng.permutation(digits.train.labels_N))
    outcome = replace(digits, train=train).run(In1kKnn.of(protocol, **SIZES)[1])
    top1 = _values(outcome)["top1"]
    assert top1 is not None
    assert 4 < top1 < 16


def _weighted_votes(
    cosines_NM: NDArray[Any], labels_M: NDArray[np.int64], ks: tuple[int, ...]
) -> dict[int, NDArray[np.int64]]:
    order_NK = np.argsort(-cosines_NM, axis=1, kind="stable")[:, : max(ks)]
    weights_NK = np.exp(np.take_along_axis(cosines_NM, order_NK, 1) / 0.07)
    weights_NK /= weights_NK.sum(1, keepdims=True)
    near_NK = labels_M[order_NK]
    votes = {k: np.stack([(weights_NK * (near_NK == c))[:, :k].sum(1) for c in range(10)], 1) for k in ks}
    return {k: scores_NC.argmax(1) for k, scores_NC in votes.items()}
