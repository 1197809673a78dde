"""Segmentation scores: by hand and against torchmetrics."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from evals.metrics.segmentation import class_iou, miou, pixel_counts, scores

LABEL = np.array([[0, 0, 1], [1, 1, 2], [255, 2, 2]], np.uint8)
PREDICTION = np.array([[0, 1, 1], [1, 0, 2], [2, 2, 0]], np.int16)


def test_counts_by_hand() -> None:
    """3 x 3 pixels, one ignored; class 3 appears nowhere."""
    counts = pixel_counts(PREDICTION, LABEL, 4)
    assert counts.tolist() == [[1, 2, 2, 0], [3, 3, 2, 0], [2, 3, 3, 0]]


def test_scores_by_hand() -> None:
    """IoU 1/4, 2/4, 2/3; the class that appears nowhere is left out."""
    counts = pixel_counts(PREDICTION, LABEL, 4)
    assert class_iou(*counts)[:3].tolist() == [1 / 4, 2 / 4, 2 / 3] and math.isnan(class_iou(*counts)[3])
    found = scores(*counts)
    assert found["mIoU"] == miou(*counts) == pytest.approx(100 * (1 / 4 + 1 / 2 + 2 / 3) / 3)
    assert found["aAcc"] == pytest.approx(100 * 5 / 8)
    assert found["acc"] == found["recall"] == pytest.approx(100 * (1 / 2 + 2 / 3 + 2 / 3) / 3)
    assert found["precision"] == pytest.approx(100 * (1 / 3 + 2 / 3 + 1) / 3)
    assert found["dice"] == found["fscore"] == pytest.approx(100 * (2 / 5 + 4 / 6 + 4 / 5) / 3)


def test_undefined_scores_are_left_out_of_their_means() -> None:
    """Class 1 is predicted but never right: IoU and dice 0, recall undefined without labels, F undefined as 0 / 0."""
    found = scores(np.array([2, 0]), np.array([2, 3]), np.array([5, 0]))
    assert found["mIoU"] == pytest.approx(100 * (2 / 5 + 0) / 2)
    assert found["dice"] == pytest.approx(100 * (4 / 7 + 0) / 2)
    assert found["recall"] == pytest.approx(40) and found["precision"] == pytest.approx(50)
    assert found["fscore"] == pytest.approx(100 * 4 / 7)
    nothing = scores(np.array([0, 0]), np.array([0, 4]), np.array([4, 0]))
    assert nothing["mIoU"] == 0 and math.isnan(nothing["fscore"])


def test_counts_add_up_over_images() -> None:
    """Two images together are one tall image."""
    both = pixel_counts(np.vstack([PREDICTION, LABEL % 3]), np.vstack([LABEL, LABEL]), 4)
    assert np.array_equal(both, pixel_counts(PREDICTION, LABEL, 4) + pixel_counts(LABEL % 3, LABEL, 4))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_to_torchmetrics(seed: int) -> None:
    """Every IoU, their mean, class and pixel accuracy on random maps with ignored pixels."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 12, (40, 50)).astype(np.uint8)
    label[rng.random(label.shape) < 0.1] = 255
    prediction = np.where(rng.random(label.shape) < 0.5, label % 12, rng.integers(0, 12, label.shape))
    counts = pixel_counts(prediction, label, 12)
    pair = torch.tensor(prediction)[None], torch.tensor(label.astype(np.int64))[None]
    each = MulticlassJaccardIndex(12, average="none", ignore_index=255)(*pair)
    assert class_iou(*counts) == pytest.approx(each.numpy(), rel=1e-6)
    mean = MulticlassJaccardIndex(12, average="macro", ignore_index=255)(*pair)
    assert miou(*counts) == pytest.approx(100 * mean.item(), rel=1e-6)
    for name, metric in (
        ("acc", MulticlassAccuracy(12, average="macro", ignore_index=255)),
        ("aAcc", MulticlassAccuracy(12, average="micro", ignore_index=255)),
    ):
        theirs = metric(*pair)
        assert scores(*counts)[name] == pytest.approx(100 * theirs.item(), rel=1e-6)
