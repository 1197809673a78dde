"""Votes and hits, counted by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

from evals.metrics.classification import best_class, hits, similarity_weights, vote


def test_majority_by_hand() -> None:
    """Two of class 1 beat one of class 2; at two against two the smaller class wins."""
    labels = torch.tensor([[1, 2, 1, 0], [3, 2, 2, 3]])
    scores = vote(labels, 4)
    assert scores.tolist() == [[1, 2, 1, 0], [0, 0, 2, 2]]
    assert best_class(scores).tolist() == [1, 2]


def test_weighted_vote_by_hand() -> None:
    """Similarities 0.7, 0.63, 0.56 at temperature 0.07 weigh e^10 : e^9 : e^8; the nearest beats the other two."""
    weights = similarity_weights(torch.tensor([[0.70, 0.63, 0.56]], dtype=torch.float64), 0.07)
    total = math.exp(10) + math.exp(9) + math.exp(8)
    assert weights[0].tolist() == pytest.approx([math.exp(x) / total for x in (10, 9, 8)])
    scores = vote(torch.tensor([[1, 0, 0]]), 2, weights)
    assert scores[0].tolist() == pytest.approx([(math.exp(9) + math.exp(8)) / total, math.exp(10) / total])
    assert best_class(scores).tolist() == [1]
    assert best_class(vote(torch.tensor([[1, 0, 0]]), 2)).tolist() == [0]


def test_fewer_neighbours_take_the_first_weights_as_they_are() -> None:
    """A vote of k of the K kept neighbours uses the first k softmax weights, so that they sum to less than one."""
    weights = similarity_weights(torch.linspace(1, 0, 6, dtype=torch.float64)[None], 0.07)
    scores = vote(torch.zeros(1, 2, dtype=torch.int64), 1, weights[:, :2])
    assert scores.item() == pytest.approx(weights[0, :2].sum().item())
    assert scores.item() < 1


def test_number_of_kept_neighbours_moves_no_prediction() -> None:
    """The softmax over more neighbours scales all votes of the first k alike."""
    generator = torch.Generator().manual_seed(0)
    similarities = torch.rand(40, 50, generator=generator).sort(dim=1, descending=True).values
    labels = torch.randint(5, (40, 50), generator=generator)
    wide = best_class(vote(labels[:, :10], 5, similarity_weights(similarities, 0.07)[:, :10]))
    narrow = best_class(vote(labels[:, :10], 5, similarity_weights(similarities[:, :10], 0.07)))
    assert torch.equal(wide, narrow)


def test_hits_by_hand() -> None:
    """Equal scores stand in the order of their classes, classes without votes too."""
    scores = torch.tensor([[0.0, 3.0, 1.0, 1.0, 0.0]] * 5, dtype=torch.float64)
    labels = torch.arange(5)
    assert hits(scores, labels, 1).tolist() == [False, True, False, False, False]
    assert hits(scores, labels, 2).tolist() == [False, True, True, False, False]
    assert hits(scores, labels, 4).tolist() == [True, True, True, True, False]


def test_best_of_one_is_the_prediction() -> None:
    """Top-1 hits are where the predicted class is the label, ties included."""
    scores = torch.randint(3, (60, 6), generator=torch.Generator().manual_seed(1)).double()
    labels = torch.randint(6, (60,), generator=torch.Generator().manual_seed(2))
    assert torch.equal(hits(scores, labels, 1), best_class(scores) == labels)


def test_a_label_beyond_the_train_classes_is_never_hit() -> None:
    """A class that the train set lacks cannot be guessed, not even among the first five."""
    assert hits(torch.ones(1, 3, dtype=torch.float64), torch.tensor([3]), 5).tolist() == [False]


def test_top5_agrees_with_scikit_learn() -> None:
    """On scores without ties."""
    generator = np.random.default_rng(3)
    scores, labels = generator.random((200, 12)), generator.integers(12, size=200)
    ours = hits(torch.from_numpy(scores), torch.from_numpy(labels), 5).double().mean().item()
    assert ours == pytest.approx(top_k_accuracy_score(labels, scores, k=5, labels=np.arange(12)))
