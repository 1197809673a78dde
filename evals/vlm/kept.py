"""The model at hand: read or trained once, and kept while one encoder is asked set after set."""

from pathlib import Path

from evals.context import Context
from evals.encoders.load import digest
from evals.types import Encoder
from evals.vlm.checkpoint import Loaded, check_encoder, read_vlm
from evals.vlm.obtain import obtain
from evals.vlm.recipe import Recipe
from evals.vlm.stock import stock_of

_last: dict[str, Loaded] = {}
"""One model at most: two of 7 billion parameters would not fit."""


def model_of(checkpoint: str | None, recipe: Recipe, encoder: Encoder, context: Context) -> Loaded:
    """The model of an encoder: of a checkpoint, or of a recipe (see `obtain`). Raises as these do."""
    import torch

    key = repr((checkpoint, recipe, digest(encoder), str(context.cache), context.device, _root(context)))
    if key not in _last:
        _last.clear()
        if checkpoint is not None:
            dtype = torch.bfloat16 if recipe.dtype == "bf16" else torch.float32
            _last[key] = read_vlm(Path(checkpoint).expanduser(), encoder, dtype)
        else:
            _last[key] = obtain(recipe, encoder, stock_of(recipe, context), context)
    loaded = _last[key]
    check_encoder(Path(checkpoint or "the cache"), loaded.card, encoder)
    return loaded


def _root(context: Context) -> str:
    return str(context.roots.folders.get("llava"))
