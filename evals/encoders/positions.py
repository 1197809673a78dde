"""How a learnt table of positions follows a grid that is not its own: the rules of upstream, on timm's models.

timm resamples every table alike (bicubic, antialias), which for many encoders is not what their authors do. The table
itself is never changed: each pass starts from it, so that no result depends on which sizes came before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.entry import Positions
from evals.errors import UsageError

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rule:
    """Arguments of the interpolation, and what is done around it."""

    mode: str
    antialias: bool = False
    offset: float = 0.0
    """Added to the sides of the new grid when they are divided by the old ones for the scale; 0: the size is given."""
    align_corners: bool = False
    square_then_crop: bool = False
    """The square table becomes one of the longer side, and its top left corner is taken."""


RULES: Mapping[Positions, Rule] = {
    "dinov2": Rule("bicubic", offset=0.1),  # DINOv2 without registers, DUNE, UNIC, Franca
    "bilinear": Rule("bilinear"),  # Perception Encoder
    "bilinear_antialias": Rule("bilinear", antialias=True),  # TIPS
    "radio": Rule("bilinear", square_then_crop=True),  # RADIO since June 2025
    "radio_aligned": Rule("bilinear", align_corners=True, square_then_crop=True),  # RADIO before, and in training
}


_REPLACED = (Eva._pos_embed, VisionTransformer._pos_embed)
"""What `_embed` does the work of; a model with one of its own has other tokens to put in."""


def install(model: nn.Module, positions: Positions) -> None:
    """Give a transformer of timm the rule for its learnt table; `library` leaves timm's own.

    Raises UsageError for a model that has no such table, or that the rule cannot be given to.
    """
    if positions == "library":
        return
    rule = RULES[positions]
    if table_of(model) is None:
        raise UsageError(f"positions {positions!r}: {type(model).__name__} has no learnt table; leave positions out.")
    if isinstance(model, NaFlexVit):
        _set_naflex(model, rule)
    elif getattr(type(model), "_pos_embed", None) in _REPLACED:
        # On the instance: other models of the library keep theirs.
        vars(model)["_pos_embed"] = partial(_embed, model, rule)
    else:
        raise UsageError(f"positions {positions!r} cannot be given to {type(model).__name__}; leave positions out.")


def table_of(model: nn.Module) -> nn.Parameter | None:
    """The learnt table of a model of timm; None where it has none."""
    table: nn.Parameter | None = getattr(getattr(model, "embeds", model), "pos_embed", None)
    return table


def resample(table_1ND: Float[Tensor, "1 N D"], native: Grid, grid: Grid, rule: Rule) -> Float[Tensor, "1 M D"]:
    """The table on another grid, row-major, in its own dtype; on its own grid the very table."""
    if grid == native:
        return table_1ND
    table_1DHW = table_1ND.float().reshape(1, *native, -1).permute(0, 3, 1, 2)
    corners = rule.align_corners or None
    if rule.offset:
        scale = [(new + rule.offset) / old for new, old in zip(grid, native, strict=True)]
        made = functional.interpolate(table_1DHW, scale_factor=scale, mode=rule.mode, antialias=rule.antialias)
    else:
        size = [max(grid)] * 2 if rule.square_then_crop else list(grid)
        made = functional.interpolate(
            table_1DHW, size=size, mode=rule.mode, antialias=rule.antialias, align_corners=corners
        )
    made = made[:, :, : grid[0], : grid[1]]
    assert made.shape[2:] == torch.Size(grid), "the scale was to give this grid"
    return made.permute(0, 2, 3, 1).flatten(1, 2).to(table_1ND.dtype)


def _embed(model: Any, rule: Rule, patches_BHWD: Float[Tensor, "B H W D"]) -> Any:
    """What timm's `_pos_embed` does in eval mode, with the table of the rule: tokens, and for Eva the rotation."""
    rows, columns = patches_BHWD.shape[1:3]
    prefix = [
        token.expand(len(patches_BHWD), -1, -1) for token in (model.cls_token, model.reg_token) if token is not None
    ]
    tokens_BND = patches_BHWD.flatten(1, 2)
    table, kept = model.pos_embed, 0 if model.no_embed_class else model.num_prefix_tokens
    resampled = resample(table[:, kept:], model.patch_embed.grid_size, (rows, columns), rule)
    if kept:
        tokens_BND = torch.cat([*prefix, tokens_BND], dim=1) + torch.cat([table[:, :kept], resampled], dim=1)
    else:
        tokens_BND = torch.cat([*prefix, tokens_BND + resampled], dim=1)
    if not isinstance(model, Eva):
        return tokens_BND
    rope: Any = model.rope
    return tokens_BND, None if rope is None else rope.get_embed(shape=(rows, columns))


def _set_naflex(model: NaFlexVit, rule: Rule) -> None:
    """Timm's NaFlexVit takes these as settings."""
    assert not rule.offset, "no encoder with a flexible table scales it with an offset"
    embeds = model.embeds
    embeds.pos_embed_interp_mode = rule.mode
    embeds.pos_embed_antialias = rule.antialias
    embeds.pos_embed_align_corners = rule.align_corners
    embeds.pos_embed_ar_preserving = rule.square_then_crop
