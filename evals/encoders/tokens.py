"""Running timm's vision transformers: tokens after the final norm, prefix tokens apart, rotary scales by block."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from timm.models.eva import Eva
from torch import Tensor, nn

from evals.errors import EvalError
from evals.types import Ask


def rope_blocks(model: nn.Module) -> int:
    """Blocks whose rotary coordinates can be rescaled: all of a DINOv3-style model, none of any other."""
    rope = getattr(model, "rope", None)
    if not isinstance(model, Eva) or not isinstance(rope, RotaryEmbeddingDinoV3):
        return 0
    form = (rope.normalize_coords, rope.grid_indexing, rope.grid_offset, rope.rotate_half)
    return len(list(model.blocks)) if form == ("separate", "ij", 0, True) else 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a pass of a transformer leaves."""

    final_BTD: Float[Tensor, "B T D"]
    """Every token after the final norm (where there is one), prefix first."""
    patches_BND: Float[Tensor, "B N D"]
    """Patch tokens of the last block, before or after the norm as asked."""
    layers: tuple[Float[Tensor, "B N D"], ...]
    """Likewise, of the layers asked for, in that order."""


def run_tokens(model: Any, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Tokens:
    """One pass of a transformer of timm.

    With `rope_scales_L` the rotary coordinates of block i are multiplied by its i-th factor. Factors of 1 give the
    very bits of the pass without them.
    """
    prefix = model.num_prefix_tokens
    last = len(model.blocks) - 1
    if ask.rope_scales_L is not None and len(ask.rope_scales_L):
        final, maps = _rescaled(model, images_B3YX, ask)
    elif ask.layers or not ask.norm:
        wanted = sorted({*ask.layers, last})
        final, found = model.forward_intermediates(images_B3YX, indices=wanted, norm=ask.norm, output_fmt="NLC")
        maps = dict(zip(wanted, found, strict=True))
    else:
        final = model.forward_features(images_B3YX)
        maps = {last: final[:, prefix:]}
    return Tokens(final, maps[last], tuple(maps[layer] for layer in ask.layers))


def as_map(tokens_BND: Float[Tensor, "B N D"], rows: int, columns: int) -> Float[Tensor, "B H W D"]:
    """Row-major tokens as a grid, in fp32. Raises EvalError when their number is another."""
    batch, count, channels = tokens_BND.shape
    if count != rows * columns:
        raise EvalError(
            f"the adapter left {count} patch tokens for a grid of {rows} x {columns}: its count of prefix tokens is "
            "wrong for this model."
        )
    return tokens_BND.reshape(batch, rows, columns, channels).float()


def last_channels(x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B H W D"]:
    """A convolutional map in the order of `Features`, in fp32."""
    return x_BDHW.permute(0, 2, 3, 1).contiguous().float()


def _rescaled(model: Any, images_B3YX: Tensor, ask: Ask) -> tuple[Tensor, dict[int, Tensor]]:
    """The block loop of timm, with angles of its own for every block."""
    assert ask.rope_scales_L is not None
    grid = model.patch_embed(images_B3YX)
    rows, columns = grid.shape[1:3]
    tokens, _ = model._pos_embed(grid)
    tokens = model.norm_pre(tokens)
    periods: Tensor = model.rope.periods
    coords = _centres(rows, columns, periods.device)
    maps: dict[int, Tensor] = {}
    last = len(model.blocks) - 1
    for index, (block, scale) in enumerate(zip(model.blocks, ask.rope_scales_L.to(periods), strict=True)):
        tokens = block(tokens, rope=_rotation(coords * scale, periods))
        if index in ask.layers or index == last:
            kept = model.norm(tokens) if ask.norm else tokens
            maps[index] = kept[:, model.num_prefix_tokens :]
    return model.norm(tokens), maps


def _centres(rows: int, columns: int, device: torch.device) -> Float[Tensor, "N 2"]:
    """Row and column centres of the token grid, each axis mapped to [-1, 1]."""
    centres = [torch.arange(0.5, side, device=device) / side for side in (rows, columns)]
    return 2.0 * torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).flatten(0, 1) - 1.0


def _rotation(coords_N2: Float[Tensor, "N 2"], periods: Tensor) -> Float[Tensor, "N R"]:
    """Sines, then cosines, of the angles 2 pi coordinate / period; each repeated for the two rotated halves."""
    angles = (2 * math.pi * coords_N2[:, :, None] / periods).flatten(1)
    return torch.cat([angles.sin().repeat(1, 2), angles.cos().repeat(1, 2)], dim=-1)
