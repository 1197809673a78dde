"""From timm's names to those of the released EUPE files; the way back is the `eupe` source."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from torch import Tensor

_CONV = (
    (r"stages\.(\d)\.downsample", r"downsample_layers.\1"),
    (r"^stem", "downsample_layers.0"),
    (r"\.blocks\.", "."),
    (r"conv_dw", "dwconv"),
    (r"mlp\.fc", "pwconv"),
    (r"head\.norm", "norm"),
)
_VIT = ((r"gamma_([12])$", r"ls\1.gamma"), (r"^reg_token$", "storage_tokens"))


def released_names(state: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Tensors of a model of timm under the names of the released files; of other architectures, as they are."""
    if isinstance(model, ConvNeXt):
        return {_renamed(key, _CONV): value for key, value in state.items()}
    if not isinstance(model, Eva):
        return dict(state)
    made: dict[str, Tensor] = {}
    rope: Any = model.rope
    if getattr(rope, "periods", None) is not None:
        made["rope_embed.periods"] = rope.periods.detach()
    for key, value in state.items():
        if key.endswith("attn.q_bias"):
            start = key.removesuffix("q_bias")
            # The keys have no bias: the released files hold one for all three, and a mask that hides theirs.
            made[f"{start}qkv.bias"] = torch.cat([value, torch.zeros_like(value), state[f"{start}v_bias"]])
            made[f"{start}qkv.bias_mask"] = (torch.arange(3 * len(value)) // len(value) != 1).float()
        elif not key.endswith("attn.v_bias"):
            made[_renamed(key, _VIT)] = value
    return made


def _renamed(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key
