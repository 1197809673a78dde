"""Encoders that are image models of timm: transformers (Eva, VisionTransformer, NaFlexVit), ConvNeXt, FastViT."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from timm.models import model_entrypoint
from timm.models.naflexvit import NaFlexVit
from torch import Tensor, nn

from evals.encoders import conv
from evals.encoders.entry import EncoderEntry, GlobalFeature, Positions
from evals.encoders.keys import Triple
from evals.encoders.layouts import classifier_keys, restore_periods, to_timm
from evals.encoders.locate import weights_file
from evals.encoders.positions import install
from evals.encoders.routes import untold
from evals.encoders.structure import class_token_of, class_tokens, prefixes, token_structure
from evals.encoders.tokens import as_map, rope_blocks, run_tokens
from evals.encoders.upstream import told
from evals.encoders.weights import complete, image_spec, load_strict, read_tensors, seeded, sketching
from evals.errors import UsageError
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features

Convert = Callable[[Mapping[str, Tensor], Any, EncoderEntry], Mapping[str, Tensor]]
"""(tensors of a file, model, entry) -> tensors under timm's names."""

_FIXED_MODULES = ("timm.models.eva", "timm.models.vision_transformer", "timm.models.deit")
"""Their models take one size unless told to take any."""
_MODULES = (*_FIXED_MODULES, NaFlexVit.__module__, *(kind.__module__ for kind in conv.KINDS))
_SIGMOID = "quickgelu"
"""Stands in the names of models whose GELU is x * sigmoid(1.702 x), and in timm's notes on weights that need it."""
_UNTOLD = {
    "vit_base_patch16_clip_224.dfn2b": "open_clip:ViT-B-16-quickgelu/dfn2b; timm has no such model with this tag"
}
"""Such weights without a note, and what open_clip, which tells of their GELU, calls them."""


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


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry. Raises UsageError where the entry does not fit the model."""
    return assemble(entry, card, to_timm)


def assemble(entry: EncoderEntry, card: EncoderCard, convert: Convert, **options: Any) -> Encoder:
    """Build the model, fill it (`convert` brings the file's tensors under timm's names), wrap it.

    `options` are arguments of the architecture that differ from timm's.
    """
    model = _create(entry, **options)
    install(model, entry.positions)
    patch = _patch(model)
    if patch != entry.patch:
        raise UsageError(f"the entry of encoder {entry.name!r} says patch {entry.patch}; {entry.model} has {patch}.")
    _check_global(entry, model)
    path = weights_file(entry)
    if path is not None:
        tensors = read_tensors(path, entry.ignore)
        load_strict(model, convert(tensors, model, entry), what=str(path), ignore=classifier_keys(model))
        restore_periods(model, tensors, entry)
    return conv.KINDS.get(type(model), TimmTokens)(entry, card, model)


def derive(name: str, model: str, given: Mapping[str, Any] = MappingProxyType({})) -> EncoderEntry:
    """The entry of any timm model, from timm's configuration of the weights and the model's structure.

    Raises UsageError for what neither they tell nor the user has `given`.
    """
    _module(model)
    check_gelu(model)
    with sketching():
        built: Any = timm.create_model(model, num_classes=0)
    config = built.pretrained_cfg
    interpolation, crop = config["interpolation"], config.get("crop_mode") or "center"
    if interpolation not in ("bilinear", "bicubic") and "interpolation" not in given:
        raise untold(name, f"timm resizes its images by {interpolation!r}", interpolation="bicubic")
    if crop not in ("center", "squash") and "resize" not in given:
        raise untold(name, f"timm makes its images square by {crop!r}", resize="squash")
    repository, file = config.get("hf_hub_id"), config.get("hf_hub_filename")
    fields: dict[str, Any] = {
        "licence": config.get("license") or "unknown",
        "size": int(config["input_size"][-1]),
        "patch": _patch(built),
        "interpolation": interpolation,
        "resize": "squash" if crop == "squash" else "crop",
        "mean": _triple(config["mean"]),
        "std": _triple(config["std"]),
        "hub": f"{repository}/{file}" if repository and file else repository,
        **told(f"{config['architecture']}.{config['tag']}"),
        **_positions_of(name, built, given),
    }
    kind = given.get("global_feature") or fields.pop("global_feature", None) or _global_of(name, built)
    return EncoderEntry(name=name, source="timm", model=model, **{**fields, "global_feature": kind})


def check_gelu(model: str) -> None:
    """Raises UsageError for weights that were trained with another GELU than timm computes, and for unknown ones."""
    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        known = timm.list_models(f"{model.partition('.')[0]}.*", pretrained=True)
        raise UsageError(f"timm has no weights {model!r}. Known: {', '.join(known) or 'none'}.") from error
    if config is None or _SIGMOID in (config.architecture or ""):
        return
    own = f"{config.architecture}.{config.tag}"
    instead = _UNTOLD.get(own)
    if any(_SIGMOID in note for note in config.notes or ()):
        instead = f"timm:{own.replace('_clip_', f'_clip_{_SIGMOID}_')}"
    if instead is not None:
        raise UsageError(
            f"the weights {own} were trained with the sigmoid form of GELU, and under that name timm computes the "
            f"exact one: use {instead}."
        )


def _module(model: str) -> str:
    """Where timm defines a model. Raises UsageError for a name, or a kind of model, that this adapter does not know."""
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(pretrained=True) + timm.list_models(), n=5, cutoff=0.4)
        raise UsageError(f"timm has no model {model!r}. Nearest: {', '.join(near) or 'none'}.")
    module = model_entrypoint(model.partition(".")[0]).__module__
    if module not in _MODULES:
        raise UsageError(
            f"{model} is defined in {module}; patch features are taken from timm's eva, vision_transformer, deit, "
            "naflexvit, convnext and fastvit models."
        )
    return module


def _create(entry: EncoderEntry, **options: Any) -> Any:
    # Any multiple of the patch is a valid size: positions are made, or resampled, for the grid at hand.
    options |= {"dynamic_img_size": True} if _module(entry.model) in _FIXED_MODULES else {}
    check_gelu(entry.model)
    with seeded(entry.seed):
        return timm.create_model(entry.model, num_classes=0, **options)


def _patch(model: Any) -> int:
    if type(model) in conv.KINDS:
        return cast("int", model.feature_info[-1]["reduction"])
    rows, columns = (model.embeds if isinstance(model, NaFlexVit) else model.patch_embed).patch_size
    if rows != columns:
        raise UsageError(f"patches of {rows} x {columns} px are not square.")
    return int(rows)


def _check_global(entry: EncoderEntry, model: Any) -> None:
    """Raises UsageError when the model cannot give the global feature of the entry."""
    if type(model) in conv.KINDS:
        possible = conv.possible_globals(model)
    else:
        classes = [token for token in prefixes(entry.prefix or ()) if token.trained and token.name != "reg"]
        possible = ["none"]
        possible += ["cls"] if class_token_of(model) is not None else []
        possible += ["summary"] if classes and class_token_of(model) is not None else []
        possible += ["attn_pool"] if model.attn_pool is not None else []
    if entry.global_feature not in possible:
        raise UsageError(
            f"the entry of encoder {entry.name!r} says global_feature {entry.global_feature!r}; {entry.model} has "
            f"{', '.join(possible) or 'nothing, for it has no final norm after its last map'}."
        )


def _global_of(name: str, built: Any) -> GlobalFeature:
    if type(built) in conv.KINDS:
        possible = conv.possible_globals(built)
        if not possible:
            raise UsageError(f"{name} has no final norm after its last map; it cannot be used.")
        return possible[0]
    normed, pooled_norm = (not isinstance(norm, nn.Identity) for norm in (built.norm, built.fc_norm))
    if built.attn_pool is not None:
        return "attn_pool"
    if class_token_of(built) is not None and normed:
        return "cls"
    # Without any norm the class token, where there is one, was not trained as an output (PE-lang, PE-spatial).
    if not normed and not pooled_norm:
        return "none"
    raise untold(name, "there is only a mean over patches as its global feature", global_feature="none")


def _positions_of(name: str, built: Any, given: Mapping[str, Any]) -> dict[str, Positions]:
    """The rule for a RADIO's table, which timm has only as settings of the model, and for one of its models not at all.

    Raises UsageError for the RADIOs whose table was resampled to one grid, unless the user says how it follows another.
    """
    if "_radio_" not in built.pretrained_cfg["architecture"]:
        return {}
    if isinstance(built, NaFlexVit):
        return {"positions": "radio_aligned" if built.embeds.pos_embed_align_corners else "radio"}
    if "positions" not in given:
        why = "timm resampled its table of positions to one grid, from which upstream's others cannot be had; the model"
        raise untold(name, f"{why} naflexvit_* has the whole one", positions="library")
    return {}


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = (float(value) for value in values)
    return (red, green, blue)
