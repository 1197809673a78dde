"""The floor of every board: an encoder that has learnt nothing."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evals.encoders.entry import EncoderEntry
from evals.encoders.weights import complete, image_spec
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features

SIDE = 16
"""The global feature is the image at SIDE x SIDE."""


class Pixels(Encoder):
    """Global feature: RGB in [0, 1] averaged over 16 x 16 equal cells, 768 numbers ordered channel, row, column.

    Patch features: the pixels of each patch as they are, 3 x patch x patch numbers in the same order. No layers.
    """

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """Both features."""
        patches_BDHW = functional.pixel_unshuffle(images_B3YX, self.spec.patch)
        pooled_B3SS = functional.adaptive_avg_pool2d(images_B3YX, SIDE)
        return Features(pooled_B3SS.flatten(1), patches_BDHW.permute(0, 2, 3, 1).contiguous())


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry."""
    dim = 3 * entry.patch**2
    encoder = Pixels(card, image_spec(entry), dim=dim, depth=0)
    encoder.card = complete(entry, encoder.card, encoder, dim=dim, depth=0)
    return encoder
