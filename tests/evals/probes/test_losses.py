"""Losses counted by hand."""

import math

import pytest
import torch

from evals.probes.losses import log_depth_loss, pixel_cross_entropy


def test_ignored_pixels_count_in_the_denominator() -> None:
    """One labelled pixel of four: -ln softmax is divided by four."""
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 0, 0] = math.log(3)  # probability 3/4 for class 1
    labels = torch.tensor([[[1, 255], [255, 255]]], dtype=torch.uint8)
    assert pixel_cross_entropy(logits, labels).item() == pytest.approx(math.log(4 / 3) / 4, rel=1e-6)


def test_ignored_pixels_have_no_gradient() -> None:
    """Only the labelled pixel pulls."""
    logits = torch.zeros(1, 3, 1, 2, requires_grad=True)
    torch.autograd.backward(pixel_cross_entropy(logits, torch.tensor([[[2, 255]]], dtype=torch.uint8)))
    assert logits.grad is not None
    assert logits.grad[0, :, 0, 1].tolist() == [0.0, 0.0, 0.0]
    assert logits.grad[0, :, 0, 0].tolist() == pytest.approx([1 / 6, 1 / 6, -1 / 3])


def log_ratio(depth: float, truth: float) -> float:
    """The published log ratio, with a millimetre added to both."""
    return math.log(depth + 1e-3) - math.log(truth + 1e-3)


def test_first_steps_see_the_mean_alone() -> None:
    """Root of 0.15 x the squared mean log ratio over the two valid pixels of the batch."""
    depth = torch.tensor([[[2.0, 3.0]], [[1.0, 9.0]]])
    truth = torch.tensor([[[1.0, 0.0]], [[4.0, 0.0]]])
    mean = (log_ratio(2, 1) + log_ratio(1, 4)) / 2
    assert log_depth_loss(depth, truth, with_variance=False).item() == pytest.approx(
        math.sqrt(0.15) * abs(mean), rel=1e-5
    )


def test_later_steps_add_the_unbiased_variance() -> None:
    """Two values differ from their mean by half their distance: the unbiased variance is half of its square."""
    depth, truth = torch.tensor([[[2.0, 1.0]]]), torch.tensor([[[1.0, 4.0]]])
    a, b = log_ratio(2, 1), log_ratio(1, 4)
    expected = math.sqrt(0.15 * ((a + b) / 2) ** 2 + (a - b) ** 2 / 2)
    assert log_depth_loss(depth, truth, with_variance=True).item() == pytest.approx(expected, rel=1e-5)


def test_truth_beyond_ten_metres_counts_in_training() -> None:
    """Only 0 is missing."""
    loss = log_depth_loss(torch.tensor([[[5.0]]]), torch.tensor([[[20.0]]]), with_variance=False)
    assert loss.item() == pytest.approx(math.sqrt(0.15) * -log_ratio(5, 20), rel=1e-5)


def test_a_perfect_batch_has_loss_zero_and_a_finite_slope() -> None:
    """At zero the root is left out: its slope would be infinite."""
    depth = torch.tensor([[[2.0, 2.0]]], requires_grad=True)
    loss = log_depth_loss(depth, torch.tensor([[[2.0, 2.0]]]), with_variance=True)
    torch.autograd.backward(loss)
    assert loss.item() == 0 and depth.grad is not None and bool(torch.isfinite(depth.grad).all())


def test_a_batch_without_depth_has_no_loss() -> None:
    """The mean of nothing is not a number, and never zero."""
    assert torch.isnan(log_depth_loss(torch.ones(1, 1, 2), torch.zeros(1, 1, 2), with_variance=False))
