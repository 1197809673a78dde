"""Votes among neighbours and hits among the best classes. Every tie goes to the lowest class, as in scikit-learn."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def similarity_weights(similarities_NK: Float[Tensor, "N K"], temperature: float) -> Float[Tensor, "N K"]:
    """Softmax over the kept neighbours of similarity / temperature (Wu et al. 2018; the EUPE k-NN evaluation).

    A vote of the first k neighbours takes the first k columns without normalising them again.
    """
    return (similarities_NK.double() / temperature).softmax(dim=1)


def vote(
    labels_NK: Int[Tensor, "N K"], classes: int, weights_NK: Float[Tensor, "N K"] | None = None
) -> Float[Tensor, "N C"]:
    """Sum of the neighbours' weights for each class, fp64; None: every neighbour weighs one (the majority)."""
    weights = torch.ones_like(labels_NK, dtype=torch.float64) if weights_NK is None else weights_NK.double()
    scores = torch.zeros(len(labels_NK), classes, dtype=torch.float64)
    return scores.scatter_add_(1, labels_NK, weights)


def best_class(scores_NC: Float[Tensor, "N C"]) -> Int[Tensor, " N"]:
    """The class of the highest score, the lowest of equal ones."""
    return scores_NC.argmax(dim=1)


def hits(scores_NC: Float[Tensor, "N C"], labels_N: Int[Tensor, " N"], best: int) -> Bool[Tensor, " N"]:
    """Whether the label is among the `best` highest scores, equal ones in the order of their class.

    A class without any vote has score zero and stands in that order too, as in the EUPE evaluation, whose top-5 of ten
    neighbours may hold classes that no neighbour has. A label that is no column is never hit.
    """
    classes = scores_NC.shape[1]
    known = labels_N < classes
    label_N1 = labels_N.clamp(max=classes - 1)[:, None]
    own = scores_NC.gather(1, label_N1)
    before = (scores_NC > own) | ((scores_NC == own) & (torch.arange(classes) < label_N1))
    return known & (before.sum(dim=1) < best)
