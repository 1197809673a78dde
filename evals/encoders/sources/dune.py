"""DUNE (naver/dune) through timm: the encoder, with a final norm that distillation did not train.

Files: a release after `eupe-eval convert --layout dune`, keys `encoder.*` of DINOv2's code with registers.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from evals.encoders.entry import EncoderEntry
from evals.encoders.keymaps import Layout, dinov2, fit
from evals.encoders.sources.timm import assemble
from evals.record import EncoderCard
from evals.types import Encoder

LAYOUT = Layout(dinov2("encoder."), "encoder.", ("mask_token", "projectors.", "teacher_norms."))


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry. Raises as `timm.assemble` and `keymaps.fit` do."""
    return assemble(entry, card, convert, img_size=entry.size)


def convert(tensors: Mapping[str, Tensor], model: Any, entry: EncoderEntry) -> Mapping[str, Tensor]:
    """The tensors of the entry's file under timm's names. Raises as `keymaps.fit` does."""
    return fit(tensors, model, entry, LAYOUT)
