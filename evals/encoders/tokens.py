"""Running timm's vision transformers: tokens after the final norm, prefix tokens apart, rotary scales by block."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from timm.models.eva import Eva
from torch import Tensor, nn

from evals.errors import EvalError, UsageError


def rope_blocks(model: nn.Module) -> int:
    """Blocks whose rotary coordinates can be rescaled: all of a DINOv3-style model, none of any other."""
    rope = getattr(model, "rope", None)
    if not isinstance(model, Eva) or not isinstance(rope, RotaryEmbeddingDinoV3):
        return 0
    form = (rope.normalize_coords, rope.grid_indexing, rope.grid_offset, rope.rotate_half)
    return len(list(model.blocks)) if form == ("separate", "ij", 0, True) else 0


def run_tokens(
    model: Any,
    images_B3YX: Float[Tensor, "B 3 Y X"],
    layers: Sequence[int],
    rope_scales_L: Float[Tensor, " L"] | None,
) -> tuple[Float[Tensor, "B T D"], dict[int, Float[Tensor, "B N D"]]]:
    """All tokens of the last block, and the patch tokens of the blocks asked for; the final norm is applied to both.

    With `rope_scales_L` the rotary coordinates of block i are multiplied by its i-th factor. Factors of 1 give the
    very bits of the pass without them.
    """
    check_layers(layers, len(model.blocks))
    if rope_scales_L is not None and len(rope_scales_L):
        return _rescaled(model, images_B3YX, layers, rope_scales_L)
    if not layers:
        return model.forward_features(images_B3YX), {}
    wanted = sorted(set(layers))
    tokens, maps = model.forward_intermediates(images_B3YX, indices=wanted, norm=True, output_fmt="NLC")
    return tokens, dict(zip(wanted, maps, strict=True))


def check_layers(layers: Sequence[int], depth: int) -> None:
    """Raises UsageError for a layer that does not exist."""
    wrong = [layer for layer in layers if not 0 <= layer < depth]
    if wrong:
        raise UsageError(f"layers {wrong} do not exist: this encoder has layers 0 to {depth - 1}.")


def as_map(tokens_BND: Float[Tensor, "B N D"], rows: int, columns: int) -> Float[Tensor, "B H W D"]:
    """Row-major tokens as a grid, in fp32. Raises EvalError when their number is another."""
    batch, count, channels = tokens_BND.shape
    if count != rows * columns:
        raise EvalError(
            f"the adapter left {count} patch tokens for a grid of {rows} x {columns}: its count of prefix tokens is "
            "wrong for this model."
        )
    return tokens_BND.reshape(batch, rows, columns, channels).float()


def _rescaled(
    model: Any, images_B3YX: Tensor, layers: Sequence[int], scales_L: Tensor
) -> tuple[Tensor, dict[int, Tensor]]:
    """The block loop of timm, with angles of its own for every block."""
    grid = model.patch_embed(images_B3YX)
    rows, columns = grid.shape[1:3]
    tokens, _ = model._pos_embed(grid)
    tokens = model.norm_pre(tokens)
    periods: Tensor = model.rope.periods
    coords = _centres(rows, columns, periods.device)
    maps: dict[int, Tensor] = {}
    for index, (block, scale) in enumerate(zip(model.blocks, scales_L.to(periods), strict=True)):
        tokens = block(tokens, rope=_rotation(coords * scale, periods))
        if index in layers:
            maps[index] = model.norm(tokens)[:, model.num_prefix_tokens :]
    return model.norm(tokens), maps


def _centres(rows: int, columns: int, device: torch.device) -> Float[Tensor, "N 2"]:
    """Row and column centres of the token grid, each axis mapped to [-1, 1]."""
    centres = [torch.arange(0.5, side, device=device) / side for side in (rows, columns)]
    return 2.0 * torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).flatten(0, 1) - 1.0


def _rotation(coords_N2: Float[Tensor, "N 2"], periods: Tensor) -> Float[Tensor, "N R"]:
    """Sines, then cosines, of the angles 2 pi coordinate / period; each repeated for the two rotated halves."""
    angles = (2 * math.pi * coords_N2[:, :, None] / periods).flatten(1)
    return torch.cat([angles.sin().repeat(1, 2), angles.cos().repeat(1, 2)], dim=-1)
