"""Theia (theaiinstitute) through timm: a DeiT whose patch tokens were trained to meet several teachers.

Files: the hub's safetensors, keys `backbone.model.*` of transformers' ViT, beside the translators to the teachers.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from evals.encoders.entry import EncoderEntry
from evals.encoders.keymaps import Layout, fit, transformers_vit
from evals.encoders.sources.timm import assemble
from evals.record import EncoderCard
from evals.types import Encoder

_ROOT = "backbone.model."
LAYOUT = Layout(transformers_vit(_ROOT), _ROOT, ("translator.", "pooler.", "embeddings.mask_token"))
_EPSILON = 1e-12
"""Of the norms in transformers' DeiT; timm's has 1e-6."""


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry. Raises as `timm.assemble` and `keymaps.fit` do."""
    return assemble(entry, card, convert, img_size=entry.size, norm_layer=partial(nn.LayerNorm, eps=_EPSILON))


def convert(tensors: Mapping[str, Tensor], model: Any, entry: EncoderEntry) -> Mapping[str, Tensor]:
    """The tensors of the entry's file under timm's names. Raises as `keymaps.fit` does."""
    return fit(tensors, model, entry, LAYOUT)
