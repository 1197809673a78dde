"""Semantic segmentation from pixel counts: intersections, predictions and labels of every class. numpy only.

Counts add up over images, so every score can be computed again from the counts of each. Scores are percentages; a class
for which a score is 0 / 0 is left out of its mean.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, Integer, Real

IGNORE = 255
"""The label of pixels that are not scored."""

Counts = Real[np.ndarray, " C"]
"""Whole numbers; floats are allowed, since they multiply faster."""


def pixel_counts(
    prediction_YX: Integer[np.ndarray, "Y X"], label_YX: Integer[np.ndarray, "Y X"], classes: int
) -> Int[np.ndarray, "3 C"]:
    """Intersection, prediction and label counts of each class over the pixels whose label is not 255."""
    kept = label_YX != IGNORE
    prediction, label = prediction_YX[kept], label_YX[kept]
    rows = (label[prediction == label], prediction, label)
    return np.stack([np.bincount(row, minlength=classes) for row in rows])


def class_iou(intersection_C: Counts, prediction_C: Counts, label_C: Counts) -> Float[np.ndarray, " C"]:
    """Intersection over union of each class; NaN for a class that is neither predicted nor labelled."""
    return _ratio(intersection_C, prediction_C + label_C - intersection_C)


def miou(intersection_C: Counts, prediction_C: Counts, label_C: Counts) -> float:
    """Mean intersection over union in percent over the classes that are predicted or labelled."""
    return _mean(class_iou(intersection_C, prediction_C, label_C))


def scores(intersection_C: Counts, prediction_C: Counts, label_C: Counts) -> Mapping[str, float]:
    """mIoU, acc (mean class accuracy), aAcc (pixel accuracy), dice, fscore, precision and recall, in percent.

    A score that is undefined for every class is NaN.
    """
    precision, recall = _ratio(intersection_C, prediction_C), _ratio(intersection_C, label_C)
    return {
        "mIoU": miou(intersection_C, prediction_C, label_C),
        "acc": _mean(recall),
        "aAcc": _mean(_ratio(intersection_C.sum(keepdims=True), label_C.sum(keepdims=True))),
        "dice": _mean(_ratio(2 * intersection_C, prediction_C + label_C)),
        "fscore": _mean(_ratio(2 * precision * recall, precision + recall)),
        "precision": _mean(precision),
        "recall": _mean(recall),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, " C"]:
    with np.errstate(invalid="ignore"):
        return np.asarray(part / whole)


def _mean(values_C: Float[np.ndarray, " C"]) -> float:
    defined = values_C[~np.isnan(values_C)]
    return 100 * float(defined.mean()) if len(defined) else float("nan")
