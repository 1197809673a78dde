"""Losses of the dense heads, at the resolution of the labels."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from evals.metrics.segmentation import IGNORE

LOG_FLOOR = 1e-3
"""Metres added to a depth before its logarithm (EUPE's released evaluation, NYUv2)."""
SCALE_WEIGHT = 0.15
"""Weight of the squared mean log ratio (EUPE's released evaluation, NYUv2)."""


def pixel_cross_entropy(
    logits_BCYX: Float[Tensor, "B C Y X"], labels_BYX: UInt8[Tensor, "B Y X"] | Int[Tensor, "B Y X"]
) -> Float[Tensor, ""]:
    """Cross-entropy summed over labelled pixels and divided by the number of all pixels, ignored ones included.

    Source: EUPE's released evaluation (ADE20K).
    """
    losses_BYX = functional.cross_entropy(logits_BCYX, labels_BYX.long(), ignore_index=IGNORE, reduction="none")
    return losses_BYX.mean()


def log_depth_loss(
    depth_BYX: Float[Tensor, "B Y X"], truth_BYX: Float[Tensor, "B Y X"], *, with_variance: bool
) -> Float[Tensor, ""]:
    """Root of 0.15 x squared mean + variance of the log ratio, over all pixels of the batch with a true depth.

    The variance (unbiased) is left out during the first steps. Depths in metres, 0 = missing; not clipped. NaN when no
    pixel (with the variance: fewer than two) has a depth. Source: EUPE's released evaluation (NYUv2).
    """
    valid_BYX = truth_BYX > 0
    ratio_P = torch.log(depth_BYX[valid_BYX] + LOG_FLOOR) - torch.log(truth_BYX[valid_BYX] + LOG_FLOOR)
    squared = SCALE_WEIGHT * ratio_P.mean() ** 2
    if with_variance:
        squared = squared + ratio_P.var()
    # The root has no slope at zero.
    return squared.sqrt() if squared > 0 else squared.abs()
