"""Heads: start, normalisation, dropout, expected depth."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from evals.probes.heads import DepthHead, SegmentationHead, drop_channels, upsample


def test_segmentation_start() -> None:
    """Weights are normal with deviation 0.01, biases zero, and the generator decides."""
    heads = [
        SegmentationHead(64, 150, batch_norm=True, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    weights = [head.classify.weight for head in heads]
    assert weights[0].std().item() == pytest.approx(0.01, rel=0.05)
    assert heads[0].classify.bias is not None and not heads[0].classify.bias.any()
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_building_a_head_leaves_the_global_generator_alone() -> None:
    """No draw comes from global state."""
    before = torch.get_rng_state()
    SegmentationHead(8, 3, batch_norm=True, generator=torch.Generator())
    DepthHead(8, seed=42)
    assert torch.equal(before, torch.get_rng_state())


def test_plain_segmentation_head_is_a_matrix() -> None:
    """Without normalisation the head multiplies each token by the weights."""
    head = SegmentationHead(3, 2, batch_norm=False, generator=torch.Generator().manual_seed(0))
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    expected = torch.einsum("bdhw,cd->bchw", maps, head.classify.weight[:, :, 0, 0])
    torch.testing.assert_close(head(maps), expected)
    assert sum(parameter.numel() for parameter in head.parameters()) == 3 * 2 + 2


def test_batch_norm_uses_the_batch_in_training_and_running_statistics_in_eval() -> None:
    """Training normalises over images and positions and moves the statistics by a tenth; eval takes those."""
    head = SegmentationHead(1, 2, batch_norm=True, generator=torch.Generator().manual_seed(0))
    maps = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])
    weight = head.classify.weight[:, 0, 0, 0]
    head.train()
    normalised = (maps - 4) / (5 + 1e-5) ** 0.5  # mean 4, biased variance 5
    torch.testing.assert_close(head(maps), normalised * weight.view(1, 2, 1, 1))
    assert isinstance(head.norm, nn.BatchNorm2d)
    assert head.norm.running_mean is not None and head.norm.running_mean.item() == pytest.approx(0.4)
    assert head.norm.running_var is not None and head.norm.running_var.item() == pytest.approx(0.9 + 0.1 * 20 / 3)
    head.eval()
    normalised = (maps - 0.4) / (0.9 + 2 / 3 + 1e-5) ** 0.5
    torch.testing.assert_close(head(maps), normalised * weight.view(1, 2, 1, 1))


def test_depth_start_equals_a_seeded_default_convolution() -> None:
    """The published start: seed 42, a default convolution, then normal weights and zero biases."""
    with torch.random.fork_rng():
        torch.manual_seed(42)
        reference = nn.Conv2d(24, 256, 1)
        nn.init.normal_(reference.weight, 0, 0.01)
    head = DepthHead(24, seed=42)
    assert torch.equal(head.classify.weight, reference.weight)
    assert head.classify.bias is not None and not head.classify.bias.any()


def test_depth_is_the_expectation_of_the_bins() -> None:
    """With one bin rectified to 0.9 above the floor and all others at it: (1.0 b + 0.1 sum of others) / 26.5."""
    head = DepthHead(1, seed=0).eval()
    assert head.classify.bias is not None
    with torch.no_grad():
        head.classify.weight.zero_()
        head.classify.bias.fill_(-3.0)  # negative responses count as zero
        head.classify.bias[255] = 0.9
    bins = [0.001 + k * 9.999 / 255 for k in range(256)]
    expected = (1.0 * bins[255] + 0.1 * sum(bins[:255])) / (1.0 + 25.5)
    depth = head(torch.zeros(1, 1, 2, 3))
    assert depth.shape == (1, 1, 2, 3)
    torch.testing.assert_close(depth, torch.full((1, 1, 2, 3), expected))


def test_depth_of_equal_bins_is_the_middle() -> None:
    """Equal weights give the mean of the bins, 5.0005 m."""
    head = DepthHead(2, seed=0).eval()
    nn.init.zeros_(head.classify.weight)
    assert head(torch.ones(1, 2, 1, 1)).item() == pytest.approx(5.0005, abs=1e-4)


def test_dropout_takes_whole_channels_and_keeps_the_mean() -> None:
    """About a tenth of the (image, channel) planes are zero; the others are scaled by 10 / 9."""
    maps = torch.ones(40, 100, 2, 2)
    dropped = drop_channels(maps, 0.1, torch.Generator().manual_seed(5))
    planes = dropped.flatten(2)
    assert torch.equal(planes.amin(2), planes.amax(2))
    assert torch.unique(planes).tolist() == [0.0, pytest.approx(10 / 9)]
    assert (planes[:, :, 0] == 0).float().mean().item() == pytest.approx(0.1, abs=0.015)


def test_dropout_follows_its_generator() -> None:
    """The same key drops the same channels."""
    maps = torch.ones(4, 10, 1, 1)
    one, same, other = (drop_channels(maps, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_upsampling_does_not_align_corners() -> None:
    """2 -> 4 samples at -0.25, 0.25, 0.75, 1.25, cut to the edge."""
    values = upsample(torch.tensor([[[[0.0, 4.0]]]]), 1, 4)
    assert values.flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
    assert torch.equal(values, functional.interpolate(torch.tensor([[[[0.0, 4.0]]]]), (1, 4), mode="bilinear"))
