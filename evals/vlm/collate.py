"""Samples -> one micro-batch, padded on the right."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from evals.vlm.tokens import IGNORED, Encoded


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What a model is given at once. Causal attention needs no mask for what is padded behind."""

    ids_BT: Int[Tensor, "B T"]
    """Token ids with at most one IMAGE_SLOT a row, then the padding token."""
    labels_BT: Int[Tensor, "B T"]
    """IGNORED where nothing is supervised, and for padding."""
    images_B3YX: Float[Tensor, "B 3 Y X"] | None
    """RGB in [0, 1], one a row, black for a row that shows none; None where no row does."""
    has_image_B: Bool[Tensor, " B"]
    """The row has an IMAGE_SLOT."""


def collate(samples: Sequence[Encoded], images: Sequence[Float[Tensor, "3 Y X"] | None], pad_id: int) -> MicroBatch:
    """The micro-batch of some samples and their pictures, None for a sample without.

    The picture of a sample that lost its slot to the cut is left out. Raises ValueError for a slot without its picture,
    which no reader lets happen.
    """
    has_image_B = torch.tensor([sample.shows for sample in samples])
    shown = [image if sample.shows else None for sample, image in zip(samples, images, strict=True)]
    if any(sample.shows and image is None for sample, image in zip(samples, images, strict=True)):
        raise ValueError("a sample shows a picture that is not there.")
    return MicroBatch(
        ids_BT=pad_sequence([sample.ids_T for sample in samples], batch_first=True, padding_value=pad_id),
        labels_BT=pad_sequence([sample.labels_T for sample in samples], batch_first=True, padding_value=IGNORED),
        images_B3YX=_stacked(shown),
        has_image_B=has_image_B,
    )


def _stacked(images: Sequence[Float[Tensor, "3 Y X"] | None]) -> Float[Tensor, "B 3 Y X"] | None:
    first = next((image for image in images if image is not None), None)
    if first is None:
        return None
    return torch.stack([torch.zeros_like(first) if image is None else image for image in images])
