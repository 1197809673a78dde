"""Small exports for tests: random backbones under the authors' names, heads that give chosen vectors, a stand-in."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evals.encoders.clip import text
from evals.encoders.exports.files import write_export
from evals.encoders.exports.heads import Head, adapters, target_statistics
from evals.encoders.exports.manifest import Manifest, Teacher, Tower
from evals.encoders.weights import seeded

TOWER = Tower("stand-in", hashlib.sha256(b"stand-in").hexdigest())
VIT = Manifest(
    name="tiny-student",
    model="vit_tiny_patch16_dinov3_qkvb",
    options={"embed_dim": 48, "depth": 2, "num_heads": 3},
    entry={
        "size": 64,
        "patch": 16,
        "dim": 48,
        "global_feature": "cls",
        "licence": "Apache-2.0",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "interpolation": "bilinear",
        "antialias": True,
        "resize": "squash",
    },
)
CONV = replace(
    VIT,
    name="tiny-conv",
    model="convnext_tiny.eupe_lvd1689m",
    options={"dims": [8, 12, 16, 24], "depths": [1, 1, 2, 1]},
    entry={**VIT.entry, "patch": 32, "dim": 24, "global_feature": "gap_norm"},
)


def teacher(name: str = "proxy", **values: Any) -> Teacher:
    """A teacher of small widths."""
    return Teacher(**{"name": name, "kind": "encoder", "source": "stand-in", "digest": "0" * 64, "hidden": 64,
                      "cls": 20, "patch": 24, **values})  # fmt: skip


def model_of(manifest: Manifest, seed: int = 0) -> Any:
    """The network of a manifest in timm, with every tensor drawn at random, in eval mode."""
    options = {"dynamic_img_size": True} if manifest.model.startswith("vit") else {}
    with seeded(seed):
        model = timm.create_model(manifest.model, num_classes=0, **options, **manifest.options).eval()
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            parameter.data = 0.2 * noise + (1.0 if re.search(r"norm.*weight|gamma|stem\.1\.weight", key) else 0.0)
    return model


def authors_names(model: Any) -> dict[str, Tensor]:
    """The tensors of a model of timm under the names of the released files."""
    state = {key: value.detach().clone() for key, value in model.state_dict().items()}
    return _conv_names(state) if hasattr(model, "stages") else _vit_names(state, model.rope.periods)


def _vit_names(state: Mapping[str, Tensor], periods: Tensor) -> dict[str, Tensor]:
    made = {"rope_embed.periods": periods.clone()}
    for key, value in state.items():
        if key.endswith("attn.q_bias"):
            start, width = key.removesuffix("q_bias"), len(value)
            bias = torch.cat([value, torch.zeros(width), state[f"{start}v_bias"]])
            made |= {f"{start}qkv.bias": bias, f"{start}qkv.bias_mask": (torch.arange(3 * width) // width != 1).float()}
        elif not key.endswith("v_bias"):
            name = re.sub(r"gamma_([12])", r"ls\1.gamma", key).replace("reg_token", "storage_tokens")
            made[name] = value
    return made


def _conv_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for key, value in state.items():
        name = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", key).replace("stem", "downsample_layers.0")
        name = name.replace(".blocks", "").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        made[name.replace("head.norm", "norm")] = value
    return made


def random_heads(manifest: Manifest, seed: int = 0) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """Adapters and statistics of a manifest's teachers with every tensor drawn at random."""
    with seeded(seed):
        heads, statistics = adapters(manifest.teachers, manifest.entry["dim"]), target_statistics(manifest.teachers)
        for parameter in heads.parameters():
            parameter.data = torch.randn(parameter.shape)
        for key, buffer in statistics.named_buffers():
            buffer.copy_(0.5 + torch.rand(buffer.shape) if key.endswith("std") else 3 * torch.randn(buffer.shape))
    return heads, statistics


def write(folder: Path, manifest: Manifest = VIT, seed: int = 0) -> Manifest:
    """A random export of a manifest."""
    return write_export(folder, manifest, authors_names(model_of(manifest, seed)), *random_heads(manifest, seed))


def solve(head: Head, tokens_ND: Tensor, wanted_NE: Tensor) -> None:
    """Set the last layer of a head so that it gives these tokens those vectors: needs a hidden width of N or more."""
    with torch.no_grad():
        hidden_NH = F.gelu(head.norm(head.inner(tokens_ND))).double()
        head.outer.weight.copy_(torch.linalg.lstsq(hidden_NH, wanted_NE.double(), driver="gelsd").solution.T)


def words_vector(prompt: str, dim: int) -> Tensor:
    """A fixed random vector for each word, summed over the prompt."""
    seeds = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:6], "big") for word in prompt.split()]
    return torch.stack([torch.randn(dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]).sum(0)


@dataclass(frozen=True)
class StandIn:
    """A text tower made of tables."""

    dim: int

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors."""
        return F.normalize(torch.stack([words_vector(prompt, self.dim) for prompt in prompts]), dim=1)


def use_stand_in(monkeypatch: pytest.MonkeyPatch, dim: int = 20, digest: str = TOWER.digest) -> None:
    """Put the stand-in in place of every text tower."""
    monkeypatch.setattr(text, "tower_identity", lambda name, digests: digest)
    monkeypatch.setattr(text, "load_tower", lambda name, digests: StandIn(dim))
    monkeypatch.setattr("evals.plan.require_text", lambda entry: None)
