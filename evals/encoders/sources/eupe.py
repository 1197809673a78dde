"""The six EUPE encoders through timm, with weights in timm's layout or in the authors' own.

Names of the authors' state dict: released files `EUPE-*.pt`, a flat dictionary that may also carry the distillation
heads (`projectors.*`), which are left out.
"""

from collections.abc import Mapping
from typing import Any

from timm.models.resnet import ResNet
from torch import Tensor

from evals.encoders.entry import EncoderEntry
from evals.encoders.layouts import to_timm
from evals.encoders.locate import weights_file
from evals.encoders.sources.timm import assemble
from evals.encoders.weights import MisfitError, differences
from evals.record import EncoderCard
from evals.types import Encoder

_HEADS = "projectors."


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_VIT_TOP = _listed("cls_token storage_tokens patch_embed.proj.weight patch_embed.proj.bias norm.weight norm.bias")
_VIT_BLOCK = _listed(
    "norm1.weight norm1.bias norm2.weight norm2.bias ls1.gamma ls2.gamma attn.qkv.weight attn.qkv.bias "
    "attn.qkv.bias_mask attn.proj.weight attn.proj.bias mlp.fc1.weight mlp.fc1.bias mlp.fc2.weight mlp.fc2.bias"
)
_VIT_OPTIONAL = ("mask_token", "rope_embed.periods")
_CONV_BLOCK = _listed(
    "gamma dwconv.weight dwconv.bias norm.weight norm.bias pwconv1.weight pwconv1.bias pwconv2.weight pwconv2.bias"
)
_CONV_OPTIONAL = ("norms.3.weight", "norms.3.bias")


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry. Raises MisfitError for a file of another size or family."""
    return assemble(entry, card, convert)


def convert(tensors: Mapping[str, Tensor], model: Any, entry: EncoderEntry) -> Mapping[str, Tensor]:
    """The tensors of the entry's file under timm's names.

    Raises MisfitError naming the file, with keys that are missing or not of the layout.
    """
    if isinstance(model, ResNet):
        # Experts of exports; the authors have none of these.
        return to_timm(tensors, model, entry)
    required, optional = _authors_keys(model)
    if tensors.keys().isdisjoint(set(required) - model.state_dict().keys()):
        return to_timm(tensors, model, entry)
    missing = [key for key in required if key not in tensors]
    known = {*required, *optional}
    unexpected = [key for key in tensors if key not in known and not key.startswith(_HEADS)]
    if missing or unexpected:
        raise MisfitError(
            f"{weights_file(entry)} is no complete state dict of {entry.name}: {differences(missing, unexpected)}"
        )
    return to_timm(tensors, model, entry)


def _authors_keys(model: Any) -> tuple[list[str], tuple[str, ...]]:
    """(required, optional) keys of the authors' layout for an architecture."""
    if hasattr(model, "stages"):
        ends = [f"downsample_layers.{i}.{j}.{kind}" for i in range(4) for j in range(2) for kind in ("weight", "bias")]
        blocks = [
            f"stages.{s}.{j}.{key}"
            for s, stage in enumerate(model.stages)
            for j in range(len(stage.blocks))
            for key in _CONV_BLOCK
        ]
        return [*ends, *blocks, "norm.weight", "norm.bias"], _CONV_OPTIONAL
    return [*_VIT_TOP, *(f"blocks.{i}.{key}" for i in range(len(model.blocks)) for key in _VIT_BLOCK)], _VIT_OPTIONAL
