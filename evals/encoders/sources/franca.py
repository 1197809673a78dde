"""Franca (valeoai/Franca) through timm: DINOv2's layout with a gated MLP (SwiGLU) at every size, and no registers.

Files: a release, keys `backbone.*` under `teacher`, blocks in four chunks. The RASA head, which takes position out of
patch features, is a file of its own and is not applied.
"""

from collections.abc import Mapping
from typing import Any

from timm.layers.mlp import SwiGLUPacked
from torch import Tensor, nn

from evals.encoders.entry import EncoderEntry
from evals.encoders.keymaps import Layout, dinov2, fit
from evals.encoders.sources.timm import assemble
from evals.record import EncoderCard
from evals.types import Encoder

_CHUNKS = 4
LAYOUT = Layout(
    dinov2("backbone.", chunks=_CHUNKS, gated=True),
    "backbone.",
    ("mask_token", "dino_head.", "ibot_head.", "rasa_head."),
)


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry. Raises as `timm.assemble` and `keymaps.fit` do."""
    return assemble(entry, card, convert, img_size=entry.size, mlp_layer=_gated, mlp_ratio=4.0)


def convert(tensors: Mapping[str, Tensor], model: Any, entry: EncoderEntry) -> Mapping[str, Tensor]:
    """The tensors of the entry's file under timm's names. Raises as `keymaps.fit` does."""
    return fit(tensors, model, entry, LAYOUT)


def _gated(in_features: int, hidden_features: int, **options: Any) -> nn.Module:
    """The SwiGLU of DINOv2's code: as many weights as a plain MLP of that width, in multiples of 8, both halves in one.

    The widths are those of dinov2/layers/swiglu_ffn.py.
    """
    half = (hidden_features * 2 // 3 + 7) // 8 * 8
    gated: nn.Module = SwiGLUPacked(in_features, 2 * half, **{**options, "act_layer": nn.SiLU})
    return gated
