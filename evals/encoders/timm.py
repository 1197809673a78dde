"""Encoders that are image models of timm: vision transformers (Eva, VisionTransformer) and ConvNeXt."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import timm
import torch
from jaxtyping import Float
from timm.layers.classifier import NormMlpClassifierHead
from timm.models import model_entrypoint
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.card import weights_file
from evals.encoders.entry import EncoderEntry, GlobalFeature
from evals.encoders.keys import Triple
from evals.encoders.layouts import classifier_keys, restore_periods, to_timm
from evals.encoders.structure import class_tokens, token_structure
from evals.encoders.tokens import as_map, last_channels, rope_blocks, run_tokens
from evals.encoders.weights import complete, image_spec, load_strict, read_tensors, seeded
from evals.errors import UsageError
from evals.record import EncoderCard
from evals.types import Ask, ConvEncoder, Encoder, Features, Structure

Convert = Callable[[Mapping[str, Tensor], Any, EncoderEntry], Mapping[str, Tensor]]
"""(tensors of a file, model, entry) -> tensors under timm's names."""

_TOKEN_MODULES = ("timm.models.eva", "timm.models.vision_transformer", "timm.models.deit")
_CONV_MODULES = ("timm.models.convnext",)


class TimmTokens(Encoder):
    """A vision transformer. Patches: tokens after the final norm without the prefix (class and register tokens).

    The global feature is token 0 after the final norm (`cls`), the attention pool before any projection (`attn_pool`)
    or the trained class tokens side by side (`summary`); never timm's own pooled output, which for many models is the
    mean of the patches.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, model: Any) -> None:
        dim, depth = int(model.embed_dim), len(model.blocks)
        card = complete(entry, card, model, dim=dim, depth=depth)
        structure = token_structure(entry, model)
        blocks = rope_blocks(model)
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, rope_blocks=blocks, structure=structure)
        self.model = model

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        grid = [side // self.spec.patch for side in images_B3YX.shape[2:]]
        tokens = run_tokens(self.model, images_B3YX, ask)
        others = class_tokens(self.structure, tokens.final_BTD)
        layers = tuple(as_map(layer, *grid) for layer in tokens.layers)
        return Features(self._pooled(tokens.final_BTD, others), as_map(tokens.patches_BND, *grid), layers, others)

    def _pooled(self, tokens_BTD: Tensor, others: Mapping[str, Tensor]) -> Float[Tensor, "B D"] | None:
        kind = self.card.global_feature
        if kind == "cls":
            return tokens_BTD[:, 0].float()
        if kind == "summary":
            return torch.cat(list(others.values()), dim=1)
        if kind == "attn_pool":
            pooled_BD: Tensor = self.model.forward_head(tokens_BTD, pre_logits=True)
            return pooled_BD.float()
        return None


class TimmConv(ConvEncoder):
    """A ConvNeXt. Patches: the last map under the final norm, location by location (stride 32).

    The global feature `gap_norm` is the final norm of the mean of the raw map. Layers are stages; those before the
    last have no norm of their own and come as they are, on their finer grids.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, model: Any) -> None:
        dim, depth = int(model.num_features), len(model.stages)
        card = complete(entry, card, model, dim=dim, depth=depth)
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, structure=Structure(norm="final"))
        self.model = model

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        maps = self._stages(images_B3YX)
        pooled_BD = self._pooled(maps[-1])
        if ask.norm:
            maps[-1] = self.model.head.norm(maps[-1])
        return Features(pooled_BD, last_channels(maps[-1]), tuple(last_channels(maps[layer]) for layer in ask.layers))

    def encode_on_grid(self, images_B3YX: Float[Tensor, "B 3 Y X"], grid: tuple[int, int]) -> Features:
        """One pass whose raw map is resized (bilinear, antialias) before the final norm."""
        x_BDHW = self._stages(images_B3YX)[-1]
        resized = functional.interpolate(x_BDHW, size=grid, mode="bilinear", antialias=True, align_corners=False)
        return Features(self._pooled(x_BDHW), last_channels(self.model.head.norm(resized)))

    def _stages(self, images_B3YX: Float[Tensor, "B 3 Y X"]) -> list[Tensor]:
        x_BDHW: Tensor = self.model.stem(images_B3YX)
        maps = []
        for stage in self.model.stages:
            x_BDHW = stage(x_BDHW)
            maps.append(x_BDHW)
        return maps

    def _pooled(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D"] | None:
        if self.card.global_feature != "gap_norm":
            return None
        pooled_BD: Tensor = self.model.forward_head(x_BDHW, pre_logits=True)
        return pooled_BD.float()


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry. Raises UsageError where the entry does not fit the model."""
    return assemble(entry, card, to_timm)


def assemble(entry: EncoderEntry, card: EncoderCard, convert: Convert) -> Encoder:
    """Build the model, fill it (`convert` brings the file's tensors under timm's names), wrap it."""
    model = _create(entry)
    patch = _patch(model)
    if patch != entry.patch:
        raise UsageError(f"the entry of encoder {entry.name!r} says patch {entry.patch}; {entry.model} has {patch}.")
    _check_global(entry, model)
    path = weights_file(entry)
    if path is not None:
        tensors = read_tensors(path)
        load_strict(model, convert(tensors, model, entry), what=str(path), ignore=classifier_keys(model))
        restore_periods(model, tensors, entry)
    return TimmConv(entry, card, model) if isinstance(model, ConvNeXt) else TimmTokens(entry, card, model)


def derive(name: str, model: str) -> EncoderEntry:
    """The entry of any timm model, from timm's configuration of the weights and the model's structure.

    Raises UsageError for what they do not tell, with what to write in an entry.
    """
    family(model)
    with torch.device("meta"):
        built: Any = timm.create_model(model, num_classes=0)
    config = built.pretrained_cfg
    interpolation, crop = config["interpolation"], config.get("crop_mode") or "center"
    if interpolation not in ("bilinear", "bicubic") or crop not in ("center", "squash"):
        raise _underivable(
            model, f"interpolation {interpolation!r} with crop mode {crop!r}", "interpolation and resize"
        )
    repository, file = config.get("hf_hub_id"), config.get("hf_hub_filename")
    return EncoderEntry(
        name=name,
        source="timm",
        model=model,
        global_feature=_global_of(model, built),
        licence=config.get("license") or "unknown",
        size=int(config["input_size"][-1]),
        patch=_patch(built),
        interpolation=interpolation,
        resize="squash" if crop == "squash" else "crop",
        mean=_triple(config["mean"]),
        std=_triple(config["std"]),
        hub=f"{repository}/{file}" if repository and file else repository,
    )


def family(model: str) -> Literal["tokens", "conv"]:
    """Which adapter class runs a timm model. Raises UsageError for a name or a kind of model it does not know."""
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(pretrained=True) + timm.list_models(), n=5, cutoff=0.4)
        raise UsageError(f"timm has no model {model!r}. Nearest: {', '.join(near) or 'none'}.")
    module = model_entrypoint(model.partition(".")[0]).__module__
    if module in _TOKEN_MODULES:
        return "tokens"
    if module in _CONV_MODULES:
        return "conv"
    raise UsageError(
        f"{model} is defined in {module}; patch features are taken from timm's eva, vision_transformer, deit and "
        "convnext models."
    )


def _create(entry: EncoderEntry) -> Any:
    # Any multiple of the patch is a valid size: positions are made, or resampled, for the grid at hand.
    options: dict[str, Any] = {"dynamic_img_size": True} if family(entry.model) == "tokens" else {}
    with seeded(entry.seed):
        return timm.create_model(entry.model, num_classes=0, **options)


def _patch(model: Any) -> int:
    if isinstance(model, ConvNeXt):
        return cast("int", model.feature_info[-1]["reduction"])
    rows, columns = model.patch_embed.patch_size
    if rows != columns:
        raise UsageError(f"patches of {rows} x {columns} px are not square.")
    return int(rows)


def _check_global(entry: EncoderEntry, model: Any) -> None:
    """Raises UsageError when the model cannot give the global feature of the entry."""
    if isinstance(model, ConvNeXt):
        possible = ["gap_norm", "none"] if isinstance(model.head, NormMlpClassifierHead) else []
    else:
        possible = ["none"]
        possible += ["cls"] if model.cls_token is not None else []
        possible += ["attn_pool"] if model.attn_pool is not None else []
    if entry.global_feature not in possible:
        raise UsageError(
            f"the entry of encoder {entry.name!r} says global_feature {entry.global_feature!r}; {entry.model} has "
            f"{', '.join(possible) or 'nothing, for it has no final norm after its last map'}."
        )


def _global_of(model: str, built: Any) -> GlobalFeature:
    if isinstance(built, ConvNeXt):
        if not isinstance(built.head, NormMlpClassifierHead):
            raise UsageError(f"{model} has no final norm after its last map; it cannot be used.")
        return "gap_norm"
    assert isinstance(built, Eva | VisionTransformer), "family() lets no other kind through"
    normed, pooled_norm = (not isinstance(norm, nn.Identity) for norm in (built.norm, built.fc_norm))
    if built.attn_pool is not None:
        return "attn_pool"
    if built.cls_token is not None and normed:
        return "cls"
    # Without any norm the class token, where there is one, was not trained as an output (PE-lang, PE-spatial).
    if not normed and not pooled_norm:
        return "none"
    raise _underivable(model, "only a mean over patches as its global feature", "global_feature: none")


def _underivable(model: str, what: str, key: str) -> UsageError:
    return UsageError(
        f"timm:{model} has {what}, which cannot be taken over by name. Write configs/encoder/<name>.yaml with source: "
        f"timm, model: {model}, and {key}."
    )


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = (float(value) for value in values)
    return (red, green, blue)
