"""Monocular depth against ground truth, image by image (Eigen et al. 2014). numpy only; depths in metres."""

import numpy as np
from jaxtyping import Bool, Float

FRAME = (480, 640)
"""Rows and columns of an NYUv2 frame; constants in its pixels scale with frames of another size."""
EIGEN_CROP = (45, 471, 41, 601)
"""Scored rows 45 .. 470 and columns 41 .. 600: first and one past the last (Eigen et al. 2014)."""
NEAREST, FARTHEST = 0.001, 10.0
"""Truth at or beyond these is not scored; predictions are clamped to them (EUPE's released evaluation)."""
RATIO = 1.25
"""A pixel counts for a1 when prediction and truth differ by less than this factor."""


def scaled(length: int, side: int, reference: int) -> int:
    """A length in pixels of a frame with `reference` pixels along an axis, in one with `side` pixels."""
    return round(length * side / reference)


def valid_mask(truth_YX: Float[np.ndarray, "Y X"]) -> Bool[np.ndarray, "Y X"]:
    """Pixels that are scored: a depth above 1 mm and below 10 m, inside the Eigen crop."""
    rows, columns = truth_YX.shape
    top, bottom = (scaled(edge, rows, FRAME[0]) for edge in EIGEN_CROP[:2])
    left, right = (scaled(edge, columns, FRAME[1]) for edge in EIGEN_CROP[2:])
    mask = np.zeros(truth_YX.shape, bool)
    mask[top:bottom, left:right] = True
    return mask & (truth_YX > NEAREST) & (truth_YX < FARTHEST)


def depth_errors(
    prediction_YX: Float[np.ndarray, "Y X"], truth_YX: Float[np.ndarray, "Y X"]
) -> tuple[float, float, float]:
    """a1, absolute relative error and root mean square error (metres) of one image over its valid pixels.

    a1: share with max(truth / depth, depth / truth) < 1.25. All NaN for an image without a valid pixel.
    """
    valid = valid_mask(truth_YX)
    if not valid.any():
        return (float("nan"),) * 3
    truth = truth_YX[valid].astype(np.float64)
    depth = np.clip(prediction_YX[valid].astype(np.float64), NEAREST, FARTHEST)
    near = np.maximum(truth / depth, depth / truth) < RATIO
    return (
        float(near.mean()),
        float((np.abs(truth - depth) / truth).mean()),
        float(np.sqrt(((truth - depth) ** 2).mean())),
    )
