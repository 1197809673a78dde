"""Encoders that are convolutional models of timm: ConvNeXt with its final norm, FastViT and ResNet without one."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, final

from jaxtyping import Float
from timm.layers.classifier import NormMlpClassifierHead
from timm.models.convnext import ConvNeXt
from timm.models.fastvit import FastVit
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.entry import EncoderEntry, GlobalFeature
from evals.encoders.structure import agreed_norm
from evals.encoders.tokens import last_channels
from evals.encoders.weights import complete, image_spec
from evals.record import EncoderCard
from evals.types import Ask, ConvEncoder, Features, Norm, Structure


class TimmStages(ConvEncoder):
    """A model of stages. Patches: the last map, location by location.

    Layers are stages; those before the last come as they are, on their finer grids.
    """

    own_norm: Norm
    """What the patches go through at the end."""
    own_global: GlobalFeature
    """The global feature that the head of the model computes, if the entry wants it."""

    def __init__(self, entry: EncoderEntry, card: EncoderCard, model: Any) -> None:
        dim, depth = int(model.num_features), len(_stages(model))
        card = complete(entry, card, model, dim=dim, depth=depth)
        structure = Structure(norm=agreed_norm(entry, self.own_norm))
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, structure=structure)
        self.model = model

    @abstractmethod
    def finish(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """The last map under the final norm."""

    @final
    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        maps = stage_maps(self.model, images_B3YX)
        pooled_BD = self._pooled(maps[-1])
        if ask.norm:
            maps[-1] = self.finish(maps[-1])
        return Features(pooled_BD, last_channels(maps[-1]), tuple(last_channels(maps[layer]) for layer in ask.layers))

    @final
    def encode_on_grid(self, images_B3YX: Float[Tensor, "B 3 Y X"], grid: tuple[int, int]) -> Features:
        """One pass whose raw map is resized (bilinear, antialias) before the final norm."""
        x_BDHW = stage_maps(self.model, images_B3YX)[-1]
        resized = functional.interpolate(x_BDHW, size=grid, mode="bilinear", antialias=True, align_corners=False)
        return Features(self._pooled(x_BDHW), last_channels(self.finish(resized)))

    def _pooled(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D"] | None:
        if self.card.global_feature != self.own_global:
            return None
        pooled_BD: Tensor = self.model.forward_head(x_BDHW, pre_logits=True)
        return pooled_BD.float()


class TimmConv(TimmStages):
    """A ConvNeXt. Patches: the last map under the final norm (stride 32).

    The global feature `gap_norm` is the final norm of the mean of the raw map.
    """

    own_norm = "final"
    own_global = "gap_norm"

    def finish(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """The map under the norm, which timm has in the head."""
        normed_BDHW: Tensor = self.model.head.norm(x_BDHW)
        return normed_BDHW


class TimmFastVit(TimmStages):
    """A FastViT. Patches: the map after the final convolution, which no norm follows.

    The global feature `avg_pool` is the mean of that map. Its batch norms use the statistics of training, always.
    """

    own_norm = "none_exists"
    own_global = "avg_pool"

    def finish(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """The map as it is."""
        return x_BDHW


class TimmResNet(TimmStages):
    """A ResNet. Patches: the map of the last stage, after its activation.

    The global feature `avg_pool` is the mean of that map. Its batch norms use the statistics of training, always.
    """

    own_norm = "none_exists"
    own_global = "avg_pool"

    def finish(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """The map as it is."""
        return x_BDHW


KINDS: Mapping[type[nn.Module], type[TimmStages]] = {ConvNeXt: TimmConv, FastVit: TimmFastVit, ResNet: TimmResNet}
"""Class of timm -> encoder."""


def stage_maps(model: Any, images_B3YX: Float[Tensor, "B 3 Y X"]) -> list[Tensor]:
    """The map of every stage, the last one after a FastViT's final convolution and before any norm."""
    if isinstance(model, ResNet):
        x_BDHW: Tensor = model.maxpool(model.act1(model.bn1(model.conv1(images_B3YX))))
    else:
        x_BDHW = model.stem(images_B3YX)
    maps = []
    for stage in _stages(model):
        x_BDHW = stage(x_BDHW)
        maps.append(x_BDHW)
    if isinstance(model, FastVit):
        maps[-1] = model.final_conv(maps[-1])
    return maps


def _stages(model: Any) -> Any:
    return [model.layer1, model.layer2, model.layer3, model.layer4] if isinstance(model, ResNet) else model.stages


def possible_globals(model: nn.Module) -> list[GlobalFeature]:
    """What an entry may call the global feature of a model in KINDS; nothing where this project cannot use it."""
    # A ConvNeXt of another head has its norm nowhere, or before a pool of its own.
    if isinstance(model, ConvNeXt) and not isinstance(model.head, NormMlpClassifierHead):
        return []
    return [KINDS[type(model)].own_global, "none"]
