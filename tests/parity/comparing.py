"""What the comparisons between libraries share: pictures, their normalisation, and how far two tensors are apart."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.golden.named import noise

ROUNDING = 1e-5
"""Of two orders of the same sums in fp32; what is measured is below 1e-6."""
NORMALISE: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Means and deviations of RGB in [0, 1], written down once more."""


def picture(rows: int, columns: int) -> Tensor:
    """One image of noise in [0, 1]."""
    return 0.5 + noise("picture", (1, 3, rows, columns)) / math.sqrt(12)


def normalised(images: Tensor, words: str) -> Tensor:
    """The images as another library wants them."""
    mean, deviation = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in NORMALISE[words])
    return (images - mean) / deviation


def apart(what: str, ours: Tensor, theirs: Tensor) -> float:
    """|ours - theirs| / |theirs|; printed, and so shown with -s."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    relative = ((ours - theirs).norm() / theirs.norm()).item()
    print(f"{what:60} {relative:.1e}")
    return relative
