"""The networks that learn: ViTs and ConvNeXts of timm in the form in which EUPE was released, and ResNets.

A learner is one module with the backbone and all of its adapter heads, so that whatever wraps, clips, averages or saves
it can leave none of them out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import timm
import torch
from jaxtyping import Float
from timm.layers.drop import DropPath
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from torch import Tensor, nn

from evals.device import torch_generator
from evals.encoders.entry import NORMALISATIONS, GlobalFeature
from evals.encoders.exports.heads import Head
from evals.encoders.tokens import rope_blocks, run_tokens
from evals.encoders.weights import seeded
from evals.errors import UsageError
from evals.types import Ask

_DROPPED = (
    *("drop_rate", "drop_path_rate", "attn_drop_rate"),
    *("pos_drop_rate", "patch_drop_rate", "proj_drop_rate"),
)
_RESCALE = 7
"""Stream of draws of the rotary rescaling."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network of timm."""

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """What differs from timm's own configuration of it (width, depth, heads, ...)."""

    @property
    def lasting(self) -> dict[str, Any]:
        """The options that the trained network still has: all but what is dropped in training."""
        return {key: value for key, value in self.options.items() if key not in _DROPPED}

    def build(self) -> nn.Module:
        """The network with fresh weights from torch's current stream."""
        flexible: dict[str, Any] = {"dynamic_img_size": True} if self.model.startswith("vit") else {}
        network: nn.Module = timm.create_model(self.model, num_classes=0, **flexible, **self.options)
        return network


@dataclass(frozen=True, slots=True)
class Target:
    """Shape of what one teacher asks for."""

    cls_dim: int | None
    patch_dim: int

    def asked(self, cls: Literal["global", "none"]) -> "Target":
        """What a student is asked for that has a class token, or says none."""
        return self if cls == "global" else Target(None, self.patch_dim)


class Learner(nn.Module):
    """A backbone and, for each teacher, a head for class tokens and one for patches."""

    mean: Tensor
    std: Tensor
    backbone: Any

    def __init__(self, network: nn.Module, targets: Mapping[str, Target], hidden: int) -> None:
        super().__init__()
        self.backbone = network
        self.global_feature, self.patch = _outputs(network)
        width = int(self.backbone.num_features)
        self.width, self.rope_blocks = width, rope_blocks(network)
        self.drops = any(_drops(module) for module in network.modules())
        self.heads = nn.ModuleDict({name: _heads(width, hidden, target) for name, target in targets.items()})
        mean, std = NORMALISATIONS["imagenet"]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, images_B3YX: Float[Tensor, "B 3 Y X"], rope_scales_L: Float[Tensor, " L"] | None = None
    ) -> dict[str, tuple[Float[Tensor, "B D"] | None, Float[Tensor, "B H W D"]]]:
        """What the heads of each teacher say of RGB images in [0, 1]: (class token, patches on the student's grid)."""
        cls_BD, patches_BHWD = self.features(images_B3YX, rope_scales_L)
        said = {}
        for name, heads in self.heads.items():
            assert isinstance(heads, nn.ModuleDict)
            said[name] = (heads["cls"](cls_BD) if "cls" in heads else None, heads["patch"](patches_BHWD))
        return said

    def features(
        self, images_B3YX: Float[Tensor, "B 3 Y X"], rope_scales_L: Float[Tensor, " L"] | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B H W D"]]:
        """Class token (of a convolutional network: the mean of its map, normed where it has a norm) and patch tokens
        after the final norm.
        """
        normalised = (images_B3YX - self.mean) / self.std
        if self.global_feature != "cls":
            # Backward passes of convolutions are several times as fast in this order of memory.
            map_BDHW = self.backbone.forward_features(normalised.contiguous(memory_format=torch.channels_last))
            pooled_BD: Tensor = self.backbone.forward_head(map_BDHW, pre_logits=True)
            normed_BDHW = self.backbone.head.norm(map_BDHW) if self.global_feature == "gap_norm" else map_BDHW
            return pooled_BD, normed_BDHW.permute(0, 2, 3, 1)
        rows, columns = (side // self.patch for side in images_B3YX.shape[2:])
        tokens = run_tokens(self.backbone, normalised, Ask(rope_scales_L=rope_scales_L))
        patches_BHWD = tokens.patches_BND.reshape(len(images_B3YX), rows, columns, self.width)
        return tokens.final_BTD[:, 0], patches_BHWD


def learner(architecture: Architecture, targets: Mapping[str, Target], *, hidden: int, seed: int) -> Learner:
    """A learner with weights that depend on the seed alone."""
    with seeded(seed):
        return Learner(architecture.build(), targets, hidden)


def rescaling(blocks: int, factor: float, *keys: int) -> Float[Tensor, " L"] | None:
    """Factors of the rotary coordinates for the blocks of one pass: log-uniform in [1 / factor, factor], one a block.

    None for a network without rotary positions, or a factor of 1.
    """
    if not blocks or factor == 1:
        return None
    draws = torch.rand(blocks, generator=torch_generator(*keys, _RESCALE), dtype=torch.float64)
    return (factor ** (2 * draws - 1)).float()


def _outputs(network: nn.Module) -> tuple[GlobalFeature, int]:
    """(global feature, pixels from one patch to the next). Raises UsageError for batch norms."""
    timms: Any = network
    if not isinstance(network, ConvNeXt | ResNet):
        return "cls", int(timms.patch_embed.patch_size[0])
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise UsageError(
            "a student with batch norms would learn something else on two processes than on one; take another norm "
            "(options: {norm_layer: groupnorm1})."
        )
    return "gap_norm" if isinstance(network, ConvNeXt) else "avg_pool", int(timms.feature_info[-1]["reduction"])


def _drops(module: nn.Module) -> bool:
    """Whether it draws from torch's own stream."""
    return (isinstance(module, DropPath) and module.drop_prob > 0) or (isinstance(module, nn.Dropout) and module.p > 0)


def _heads(width: int, hidden: int, target: Target) -> nn.ModuleDict:
    made = {"patch": Head(width, hidden, target.patch_dim)}
    if target.cls_dim is not None:
        made["cls"] = Head(width, hidden, target.cls_dim)
    return nn.ModuleDict(made)
