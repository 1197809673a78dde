"""Image towers of open_clip's architectures as models of timm, which run at any multiple of their patch.

open_clip's own VisionTransformer refuses every size but its native one; timm's has the same blocks, so the tensors move
there by name.
"""

from collections.abc import Mapping
from typing import Any

import timm
from timm.models.fastvit import FastVit
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from evals.encoders.clip.config import ClipConfig
from evals.encoders.entry import GlobalFeature
from evals.errors import UsageError

_POOLS: Mapping[str, GlobalFeature] = {"map": "attn_pool", "token": "cls", "avg": "avg_pool"}
"""The global feature, by open_clip's word for how a tower of timm pools."""
_PLAIN = frozenset({"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"})
"""What may be set of open_clip's own VisionTransformer; anything else is another computation."""


def image_tower(config: ClipConfig) -> Any:
    """The image tower with its projection as classifier. Raises UsageError for one that this adapter does not run."""
    vision = config.vision
    if "timm_model_name" not in vision:
        return _plain(config)
    projection = vision.get("timm_proj", "linear")
    if vision.get("timm_pool") not in _POOLS or projection not in (None, "none"):
        raise _strange(config, f"pools by {vision.get('timm_pool')!r} and projects by {projection!r}")
    options: dict[str, Any] = {"num_classes": config.width if projection is None else 0}
    conv = timm.models.model_entrypoint(vision["timm_model_name"]).__module__ == FastVit.__module__
    if conv != (vision["timm_pool"] == "avg"):
        raise _strange(config, "is a mean over tokens, or no mean over a map")
    if not conv:
        options["dynamic_img_size"] = True
    return timm.create_model(vision["timm_model_name"], global_pool=vision["timm_pool"], **options)


def global_feature(config: ClipConfig) -> GlobalFeature:
    """What the projection takes."""
    return _POOLS[config.vision["timm_pool"]] if "timm_model_name" in config.vision else "cls"


def stride(tower: Any) -> int:
    """Pixels a token, along each axis."""
    stages: Any = tower.feature_info
    return int(stages[-1]["reduction"] if isinstance(tower, FastVit) else tower.patch_embed.feat_ratio())


def _plain(config: ClipConfig) -> VisionTransformer:
    vision = config.vision
    strange = vision.keys() - _PLAIN
    if strange or not isinstance(vision["layers"], int):
        raise _strange(config, f"sets {', '.join(sorted(strange)) or 'layers of a ResNet'}")
    width = vision["width"]
    tower = VisionTransformer(
        img_size=vision["image_size"],
        patch_size=vision["patch_size"],
        embed_dim=width,
        depth=vision["layers"],
        num_heads=width // vision.get("head_width", 64),
        mlp_ratio=vision.get("mlp_ratio", 4.0),
        pre_norm=True,
        norm_layer=nn.LayerNorm,
        act_layer="quick_gelu" if config.quick_gelu else "gelu",
        global_pool="token",
        num_classes=0,
        dynamic_img_size=True,
    )
    tower.head = nn.Linear(width, config.width, bias=False)
    return tower


def _strange(config: ClipConfig, what: str) -> UsageError:
    return UsageError(
        f"{config.architecture}: its image tower {what}, which this adapter does not run. It runs open_clip's own "
        "VisionTransformer, timm's transformers with a class token or an attention pool, and timm's FastViT."
    )
