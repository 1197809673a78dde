"""Files of vision transformers under other names than timm's: a strict map, and errors in the file's own words.

`Layout` says which keys of a file a tensor of timm's model is made of; two layouts are written out here, that of
DINOv2's code and that of `ViTModel` in transformers up to 4.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evals.encoders.entry import EncoderEntry
from evals.encoders.locate import weights_file
from evals.encoders.weights import check_fit
from evals.errors import WeightsError

Names = Callable[[str, int], tuple[str, ...]]
"""(key of timm's model, number of its blocks) -> keys of the file, whose tensors are joined along the first axis."""

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod)\.")
"""What distributed and compiled training put into keys."""
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_CHUNKED = re.compile(r"^blocks\.\d+\.(\d+\.)")
_VIT_TOP: Mapping[str, str] = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_VIT_BLOCK: Mapping[str, tuple[str, ...]] = {
    "norm1": ("layernorm_before",),
    "attn.qkv": ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    "attn.proj": ("attention.output.dense",),
    "norm2": ("layernorm_after",),
    "mlp.fc1": ("intermediate.dense",),
    "mlp.fc2": ("output.dense",),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a release names its tensors."""

    names: Names
    root: str
    """What the keys of the encoder begin with, beside heads and projectors; files of the bare encoder lack it."""
    left_out: tuple[str, ...]
    """Beginnings of keys, after the root, that belong to training."""


def fit(tensors: Mapping[str, Tensor], model: Any, entry: EncoderEntry, layout: Layout) -> dict[str, Tensor]:
    """The tensors of the entry's file under timm's names.

    Position tables are taken as they are, never resampled. Raises MisfitError listing the first keys that are missing,
    unexpected or of another shape, as upstream spells them; WeightsError for a tensor that the file holds twice.
    """
    sources = {key: layout.names(key, len(model.blocks)) for key in model.state_dict()}
    wanted = _shapes(model, sources)
    what = str(weights_file(entry))
    given = _spelled(tensors, wanted, layout, what)
    check_fit(wanted, given, what=what)
    made = {key: torch.cat([given[name] for name in names]) for key, names in sources.items()}
    if _split(model):
        # timm adds positions to patches alone, upstream to the class token too: its share goes into the token.
        table = made["pos_embed"]
        made |= {"pos_embed": table[:, 1:], "cls_token": made["cls_token"] + table[:, :1]}
    return made


def dinov2(root: str, *, chunks: int = 1, gated: bool = False) -> Names:
    """Names in DINOv2's code, with blocks in chunks (`blocks.<chunk>.<block>`); `gated`: its SwiGLU."""
    mlp = {"mlp.fc1.": "mlp.w12.", "mlp.fc2.": "mlp.w3."} if gated else {}

    def names(key: str, depth: int) -> tuple[str, ...]:
        block = _BLOCK.fullmatch(key)
        if block is None:
            return (root + ("register_tokens" if key == "reg_token" else key),)
        index, rest = block.groups()
        for ours, theirs in mlp.items():
            rest = rest.replace(ours, theirs)
        return (f"{root}blocks.{int(index) * chunks // depth}.{index}.{rest}",)

    return names


def transformers_vit(root: str) -> Names:
    """Names in the `ViTModel` of transformers up to 4, with queries, keys and values apart."""

    def names(key: str, _: int) -> tuple[str, ...]:
        block = _BLOCK.fullmatch(key)
        stem, dot, kind = (key if block is None else block[2]).rpartition(".")
        if block is not None:
            return tuple(f"{root}encoder.layer.{block[1]}.{part}.{kind}" for part in _VIT_BLOCK[stem])
        return (root + (f"{_VIT_TOP[stem]}.{kind}" if dot else _VIT_TOP[kind]),)

    return names


def _shapes(model: Any, sources: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes in the file, by its names."""
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    if _split(model):
        one, patches, width = own["pos_embed"]
        own["pos_embed"] = (one, patches + 1, width)
    return {name: (own[key][0] // len(names), *own[key][1:]) for key, names in sources.items() for name in names}


def _split(model: Any) -> bool:
    """Whether the model's class token has no position of its own, which it has in the file."""
    return bool(model.no_embed_class) and model.cls_token is not None


def _spelled(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, object], layout: Layout, what: str
) -> dict[str, Tensor]:
    """The tensors by the keys that upstream writes; keys that it does not know stay as they are."""
    upstream = {_short(name, layout): name for name in wanted}
    given: dict[str, Tensor] = {}
    for key, value in tensors.items():
        short = _short(key, layout)
        if short.startswith(layout.left_out):
            continue
        name = upstream.get(short, key)
        if name in given:
            raise WeightsError(f"{what} holds {name} twice, the second time as {key}.")
        given[name] = value
    return given


def _short(key: str, layout: Layout) -> str:
    """A key without wrappers, the root and chunks."""
    return _CHUNKED.sub(r"blocks.\1", _WRAPPERS.sub("", key).removeprefix(layout.root))
