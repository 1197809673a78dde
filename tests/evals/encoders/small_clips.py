"""Small stand-ins for open_clip's architectures: the same kinds of towers with few and narrow blocks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

TEXT = {"layers": 2, "width": 64, "heads": 2}
PLAIN = {"layers": 2, "width": 128, "image_size": 64, "patch_size": 16}
SMALL: Mapping[str, Mapping[str, Any]] = {
    # open_clip's own VisionTransformer, with either GELU
    "ViT-B-16": {"embed_dim": 48, "vision_cfg": PLAIN},
    "ViT-B-16-quickgelu": {"embed_dim": 48, "vision_cfg": PLAIN},
    "ViT-H-14-worldwide-quickgelu": {"embed_dim": 48, "vision_cfg": PLAIN, "text_cfg": {"vocab_size": 300}},
    # timm: attention pool over class token and patches, rotary and learnt positions, projection
    "PE-Core-T-16-384": {},
    # timm: attention pool over patches alone, no projection
    "ViT-B-16-SigLIP2": {
        "embed_dim": 96,
        "vision_cfg": {"timm_model_name": "test_vit3", "image_size": 160},
        "text_cfg": {"vocab_size": 400},
    },
    # timm: a convolutional tower
    "MobileCLIP2-S0": {},
    # timm: a transformer with a class token behind a convolutional stem
    "MobileCLIP2-B": {},
}
TAGS = {
    "ViT-B-16": "laion2b_s34b_b88k",
    "ViT-B-16-quickgelu": "openai",
    "ViT-H-14-worldwide-quickgelu": "metaclip2_worldwide",
    "PE-Core-T-16-384": "meta",
    "ViT-B-16-SigLIP2": "webli",
    "MobileCLIP2-S0": "dfndr2b",
    "MobileCLIP2-B": "dfndr2b",
}

_full = open_clip.get_model_config


def config_of(name: str) -> dict[str, Any]:
    """open_clip's configuration of an architecture, made small."""
    config: dict[str, Any] = _full(name)
    small = SMALL.get(name)
    if small is None:
        return config
    config["embed_dim"] = small.get("embed_dim", config["embed_dim"])
    config["vision_cfg"].update(small.get("vision_cfg", {}))
    config["text_cfg"].update(TEXT, **small.get("text_cfg", {}))
    return config


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let open_clip tell of the small architectures instead of the real ones."""
    monkeypatch.setattr(open_clip, "get_model_config", config_of)


def upstream(name: str) -> Any:
    """open_clip's own model of a small architecture, every parameter and statistic moved."""
    config = config_of(name)
    whole = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    model: nn.Module = whole(**config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.add_(0.02 * (noise.abs() if key.endswith("running_var") else noise))
    return model


def save(model: nn.Module, path: Path, **changes: torch.Tensor) -> Path:
    """The state dict of a model as a file of open_clip."""
    tensors = {**model.state_dict(), **changes}
    save_file({key: value.clone() for key, value in tensors.items()}, path)
    return path
