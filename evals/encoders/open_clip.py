"""Encoders with a text tower through open_clip (extra `text`): image towers that are timm vision transformers."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.card import weights_file
from evals.encoders.entry import EncoderEntry
from evals.encoders.structure import class_tokens, token_structure
from evals.encoders.tokens import as_map, rope_blocks, run_tokens
from evals.encoders.weights import complete, image_spec, load_strict, read_tensors, seeded
from evals.errors import UnavailableError, UsageError, unknown
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, TextAlignedEncoder

_PROMPTS = 256
"""Prompts a pass of the text tower."""


_RESIZE = {"squash": "squash", "shortest": "crop"}
"""open_clip's names of how an image becomes square, and ours."""


class OpenClip(TextAlignedEncoder):
    """Patches: tokens after the final norm without the prefix. Global feature: the attention pool, before projection.

    Images meet text after the projection, normalised; text goes through open_clip's own tokenizer and context length.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, model: Any, tokenizer: Any) -> None:
        trunk = model.visual.trunk
        dim, depth = int(trunk.embed_dim), len(trunk.blocks)
        card = complete(entry, card, model.visual, dim=dim, depth=depth)
        structure, blocks = token_structure(entry, trunk), rope_blocks(trunk)
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, rope_blocks=blocks, structure=structure)
        self.model, self._tokenizer = model, tokenizer

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        trunk = self.model.visual.trunk
        grid = [side // self.spec.patch for side in images_B3YX.shape[2:]]
        tokens = run_tokens(trunk, images_B3YX, ask)
        pooled_BD: Tensor = trunk.forward_head(tokens.final_BTD, pre_logits=True)
        layers = tuple(as_map(layer, *grid) for layer in tokens.layers)
        others = class_tokens(self.structure, tokens.final_BTD)
        return Features(pooled_BD.float(), as_map(tokens.patches_BND, *grid), layers, others)

    @torch.no_grad()
    def encode_image(self, features: Features) -> Float[Tensor, "B D"]:
        """Unit image vectors: the projection of the global feature, as open_clip's encode_image gives them."""
        assert features.pooled_BD is not None, "this encoder always pools"
        projected: Tensor = self.model.visual.head(self.model.visual.trunk.head(features.pooled_BD))
        return functional.normalize(projected, dim=-1)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit text vectors."""
        parts = []
        for start in range(0, len(prompts), _PROMPTS):
            ids = self._tokenizer(list(prompts[start : start + _PROMPTS])).to(self.mean.device)
            parts.append(self.model.encode_text(ids, normalize=True).float())
        return torch.cat(parts)


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry whose model is `<architecture>/<pretrained tag>` of open_clip.

    Raises UnavailableError without the package, UsageError where the entry does not fit what open_clip says.
    """
    library = _library(entry)
    name, _, tag = entry.model.partition("/")
    config = library.get_model_config(name)
    if config is None:
        raise unknown(f"open_clip architecture of {entry.name}", name, library.list_models())
    _check(entry, config, library.get_pretrained_cfg(name, tag), library.list_pretrained_tags_by_model(name))
    with seeded(entry.seed):
        model = library.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    model.visual.trunk = _any_size(model.visual.trunk, config["vision_cfg"]["timm_model_name"])
    path = weights_file(entry)
    if path is not None:
        tensors = read_tensors(path)
        if "logit_scale" in tensors:
            tensors["logit_scale"] = tensors["logit_scale"].reshape(model.logit_scale.shape)
        load_strict(model, tensors, what=str(path))
    return OpenClip(entry, card, model, library.get_tokenizer(name))


def _library(entry: EncoderEntry) -> Any:
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise UnavailableError(
            "package", f"{entry.name} needs open_clip ({error}): pip install 'eupe-eval[text]'"
        ) from error


def _check(entry: EncoderEntry, config: Mapping[str, Any], tag: Mapping[str, Any], tags: Sequence[str]) -> None:
    """Raises UsageError where entry, architecture and weights do not belong together."""
    if not tag:
        raise UsageError(f"model {entry.model!r} of {entry.name} must be <architecture>/<tag>: {', '.join(tags)}.")
    if "timm_model_name" not in config["vision_cfg"] or config["vision_cfg"].get("timm_pool") != "map":
        raise UsageError(f"{entry.model}: the image tower must be a timm transformer with an attention pool.")
    if "hf_tokenizer_name" in config["text_cfg"]:
        raise UsageError(f"{entry.model}: its tokenizer does not come with open_clip, which this adapter needs.")
    if bool(tag.get("quick_gelu", False)) != bool(config.get("quick_gelu", False)):
        raise UsageError(
            f"the weights of {entry.model} were trained with another GELU than the architecture computes: use the "
            "architecture whose name ends in -quickgelu, or not in it."
        )
    said = (entry.mean, entry.std, entry.interpolation, entry.resize)
    given = (tuple(tag["mean"]), tuple(tag["std"]), tag["interpolation"], _RESIZE.get(tag["resize_mode"]))
    if said != given:
        raise UsageError(
            f"mean, std, interpolation, resize of encoder {entry.name!r} are {said}; open_clip has {given}."
        )


def _any_size(trunk: Any, name: str) -> nn.Module:
    """The same tower for any grid: open_clip fixes it to the native one."""
    free: nn.Module = timm.create_model(
        name, num_classes=trunk.num_classes, global_pool=trunk.global_pool, dynamic_img_size=True
    )
    free.load_state_dict(trunk.state_dict())
    return free
