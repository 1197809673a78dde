"""The search against brute force in fp64 and scikit-learn, with ties and near ties made on purpose."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional

from evals.metrics import neighbours
from evals.metrics.neighbours import Engine, Metric, nearest

ENGINES: tuple[Engine, ...] = ("faiss", "torch")
METRICS: tuple[Metric, ...] = ("dot", "l2")


def _vectors(seed: int, n: int, dim: int, offset: float = 0.0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + offset


def _brute(train: torch.Tensor, query: torch.Tensor, k: int, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Every pair in fp64, sorted by score and then by train index."""
    t, q = train.double().numpy(), query.double().numpy()
    near = np.stack([((t - row) ** 2).sum(1) if metric == "l2" else -(t * row).sum(1) for row in q])
    order = np.argsort(near, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(near, order, 1)
    return (np.sqrt(scores) if metric == "l2" else -scores), order


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 10, 200])
def test_equals_brute_force(engine: Engine, metric: Metric, k: int) -> None:
    """Same neighbours in the same order, and scores that agree to fp64."""
    train, query = _vectors(0, 700, 24), _vectors(1, 50, 24)
    scores, indices = nearest(train, query, k, metric, engine)
    expected_scores, expected = _brute(train, query, k, metric)
    assert (indices.numpy() == expected).all()
    assert scores.numpy() == pytest.approx(expected_scores, abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", METRICS)
def test_blocks_of_any_size_agree(engine: Engine, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging over blocks of train vectors and queries changes nothing."""
    train, query = _vectors(2, 333, 16), _vectors(3, 41, 16)
    whole = nearest(train, query, 12, metric, engine)
    monkeypatch.setattr(neighbours, "_TRAIN_AT_ONCE", 50)
    monkeypatch.setattr(neighbours, "_SCORES_AT_ONCE", 350)
    monkeypatch.setattr(neighbours, "_GATHERED_AT_ONCE", 1000)
    monkeypatch.setattr(neighbours, "_EXHAUSTIVE_AT_ONCE", 700)
    pieces = nearest(train, query, 12, metric, engine)
    assert torch.equal(whole[1], pieces[1])
    assert torch.equal(whole[0], pieces[0])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", METRICS)
def test_equal_vectors_go_by_index(engine: Engine, metric: Metric) -> None:
    """With every vector forty times, the neighbours are the first copies in the order of the train set."""
    few = functional.normalize(_vectors(4, 9, 8), dim=1)
    train = few.repeat(40, 1)
    _, indices = nearest(train, few, 10, metric, engine)
    assert (indices.numpy() == np.arange(9)[:, None] + 9 * np.arange(10)).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_that_fp32_breaks_go_by_index(engine: Engine) -> None:
    """Seven vectors at one distance whose squares fp32 sums to different values, depending on where the 1 stands."""
    near = torch.full((7, 64), 2.0**-13)
    near[range(7), [63, 0, 40, 1, 20, 5, 50]] = 1.0
    train = torch.cat([_vectors(10, 30, 64, 5.0), near])
    query = torch.zeros(1, 64)
    scores, indices = nearest(train, query, 7, "l2", engine)
    assert len(set(scores[0].tolist())) == 1
    assert indices[0].tolist() == list(range(30, 37))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", METRICS)
def test_a_collapsed_encoder(engine: Engine, metric: Metric) -> None:
    """When all features are the same, the first k train vectors are the neighbours."""
    train, query = torch.ones(500, 12), torch.ones(7, 12)
    _, indices = nearest(train, query, 5, metric, engine)
    assert (indices.numpy() == np.arange(5)).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_near_ties_far_from_the_origin(engine: Engine) -> None:
    """Distances that the fp32 expansion cannot tell apart (offset 1000, steps of 1e-3) come out in their true order."""
    generator = np.random.default_rng(5)
    train = torch.full((200, 4), 1000.0)
    train[:, 0] += torch.from_numpy(generator.permutation(200).astype(np.float32)) * 2.0**-10
    query = torch.full((1, 4), 1000.0)
    naive = query.square().sum(1) - 2 * query @ train.T + train.square().sum(1)
    assert len(set(naive[0].tolist())) < 50, "the plain expansion confuses them"
    _, indices = nearest(train, query, 20, "l2", engine)
    assert (indices.numpy() == _brute(train, query, 20, "l2")[1]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_engines_agree_on_parallel_features(metric: Metric) -> None:
    """Nearly parallel features, as random weights give them: both engines find what fp64 finds."""
    train = functional.normalize(_vectors(6, 900, 32, 40.0), dim=1)
    query = functional.normalize(_vectors(7, 30, 32, 40.0), dim=1)
    expected = _brute(train, query, 10, metric)[1]
    for engine in ENGINES:
        assert (nearest(train, query, 10, metric, engine)[1].numpy() == expected).all()


def test_more_neighbours_than_train_vectors() -> None:
    """All of them, in order."""
    train, query = _vectors(8, 6, 3), _vectors(9, 4, 3)
    scores, indices = nearest(train, query, 10, "l2")
    assert indices.shape == (4, 6)
    assert (indices.numpy() == _brute(train, query, 6, "l2")[1]).all()
    assert (scores.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("k", [1, 3, 10, 20, 100])
def test_digits_vote_like_scikit_learn(k: int) -> None:
    """Real data: the majority equals KNeighborsClassifier where the k-th distance is not tied, at k = 10 everywhere.

    Where it is tied, scikit-learn keeps whatever its heap holds; here it is the first train index.
    """
    pixels, labels = load_digits(return_X_y=True)
    vectors = torch.from_numpy((pixels / 16).astype(np.float32))
    train, query, train_labels = vectors[:1200], vectors[1200:], labels[:1200]
    theirs = KNeighborsClassifier(k).fit(train.numpy(), train_labels).predict(query.numpy())
    distances, indices = nearest(train, query, k + 1, "l2")
    votes = np.stack([np.bincount(row, minlength=10) for row in train_labels[indices[:, :k].numpy()]])
    ours = votes.argmax(1)
    tied = (distances[:, k - 1] == distances[:, k]).numpy()
    assert (ours[~tied] == theirs[~tied]).all()
    if k == 10:
        assert tied.any()
        assert (ours == theirs).all()
    squared = ((16 * query.numpy()[:, None, :]).astype(np.int64) - (16 * train.numpy()).astype(np.int64)) ** 2
    assert (indices[:, :k].numpy() == squared.sum(-1).argsort(axis=1, kind="stable")[:, :k]).all()
