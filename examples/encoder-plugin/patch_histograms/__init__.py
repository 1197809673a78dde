"""An encoder in a package of its own: histograms of the colours and the edges of each patch. Nothing is learnt."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evals.encoders.entry import EncoderEntry
from evals.encoders.weights import complete, image_spec
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features

BINS = 8
"""Of each channel, and of the directions of edges."""
DIM = 4 * BINS


class PatchHistograms(Encoder):
    """Patches: for R, G and B the share of pixels in each eighth of [0, 1]; then, by direction, the mean strength of
    edges (half the difference of a pixel's neighbours, averaged over channels). Global feature: the mean over patches.
    """

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass; there are no layers, and no norm."""
        patch = self.spec.patch
        level_B3YX = (images_B3YX * BINS).long().clamp(0, BINS - 1)
        strength_B1YX, turn_B1YX = _edges(images_B3YX.mean(1, keepdim=True))
        parts = [functional.avg_pool2d((level_B3YX == level).float(), patch) for level in range(BINS)]
        parts += [functional.avg_pool2d(strength_B1YX * (turn_B1YX == turn), patch) for turn in range(BINS)]
        patches_BHWD = torch.cat(parts, dim=1).permute(0, 2, 3, 1).contiguous()
        return Features(patches_BHWD.mean((1, 2)), patches_BHWD)


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry."""
    encoder = PatchHistograms(card, image_spec(entry), dim=DIM, depth=0)
    encoder.card = complete(entry, encoder.card, encoder, dim=DIM, depth=0)
    return encoder


def _edges(grey_B1YX: Float[Tensor, "B 1 Y X"]) -> tuple[Float[Tensor, "B 1 Y X"], Tensor]:
    """Strength of the edge at each pixel, and which eighth of the half circle it points to."""
    padded = functional.pad(grey_B1YX, (1, 1, 1, 1), mode="replicate")
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    right = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    angle = torch.atan2(down, right).remainder(math.pi)
    return torch.hypot(down, right), (angle / math.pi * BINS).long().clamp(0, BINS - 1)
