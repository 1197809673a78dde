"""Encoders with a text tower through open_clip (extra `text`): its own VisionTransformer, and models of timm."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float
from timm.models.fastvit import FastVit
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.clip.config import ClipConfig, read_config
from evals.encoders.clip.files import fill
from evals.encoders.clip.text import ClipText
from evals.encoders.clip.towers import global_feature, image_tower, stride
from evals.encoders.conv import stage_maps
from evals.encoders.entry import EncoderEntry, Positions
from evals.encoders.positions import install
from evals.encoders.structure import class_tokens, token_structure
from evals.encoders.tokens import as_map, last_channels, rope_blocks, run_tokens
from evals.encoders.weights import complete, image_spec, seeded, sketching
from evals.errors import UsageError
from evals.record import EncoderCard
from evals.types import Ask, ConvEncoder, Encoder, Features, Structure, TextAlignedEncoder

_RESIZE: Mapping[str, Literal["squash", "crop"]] = {"squash": "squash", "shortest": "crop"}
"""open_clip's names of how an image becomes square, and ours."""
_BILINEAR = "PE-Core-"
"""Beginning of the architectures whose authors resize positions bilinearly; open_clip leaves that to timm."""
_FILES = {"timm": "open_clip_model.safetensors"}
"""The file of a repository that open_clip names without one, by its owner."""
_OLDER_FILE = "open_clip_pytorch_model.bin"
"""Of any other owner: what open_clip takes by default."""
_PROJECTED = "projected"
"""The alternative to a global feature that has a projection: what comes out of it, of any length."""


class OpenClip(TextAlignedEncoder):
    """A transformer. Patches: tokens after the final norm without the prefix.

    The global feature is what the projection into the common space takes: the attention pool, or the class token after
    the final norm; `projected`, among the others, is what it gives.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, trunk: Any, text: ClipText) -> None:
        dim, depth = int(trunk.embed_dim), len(trunk.blocks)
        card = complete(entry, card, trunk, dim=dim, depth=depth)
        structure, blocks = token_structure(entry, trunk), rope_blocks(trunk)
        structure = Structure(
            structure.prefix, structure.norm, structure.positions, (*structure.alternatives, *_alternatives(trunk))
        )
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, rope_blocks=blocks, structure=structure)
        self.trunk, self.text = trunk, text

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        grid = [side // self.spec.patch for side in images_B3YX.shape[2:]]
        tokens = run_tokens(self.trunk, images_B3YX, ask)
        pooled_BD: Tensor = self.trunk.forward_head(tokens.final_BTD, pre_logits=True)
        layers = tuple(as_map(layer, *grid) for layer in tokens.layers)
        others = {**class_tokens(self.structure, tokens.final_BTD), **_projected(self.trunk, pooled_BD)}
        return Features(pooled_BD.float(), as_map(tokens.patches_BND, *grid), layers, others)

    @torch.no_grad()
    def encode_image(self, features: Features) -> Float[Tensor, "B D"]:
        """Unit image vectors: the projection of the global feature, as open_clip's encode_image gives them."""
        return _in_common_space(self.trunk, features)

    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit text vectors. Raises UnavailableError for a tokenizer that is not here."""
        return self.text.encode(prompts)


class OpenClipConv(TextAlignedEncoder, ConvEncoder):
    """A FastViT. Patches: the map after the final convolution, which no norm follows.

    The global feature `avg_pool` is the mean of that map, and `projected` what the projection makes of it. Layers are
    stages, the last one with the final convolution.
    """

    def __init__(self, entry: EncoderEntry, card: EncoderCard, trunk: FastVit, text: ClipText) -> None:
        dim, depth = int(trunk.num_features), len(trunk.stages)
        card = complete(entry, card, trunk, dim=dim, depth=depth)
        structure = Structure(norm="none_exists", alternatives=_alternatives(trunk))
        super().__init__(card, image_spec(entry), dim=dim, depth=depth, structure=structure)
        self.trunk, self.text = trunk, text

    def encode(self, images_B3YX: Float[Tensor, "B 3 Y X"], ask: Ask) -> Features:
        """One pass."""
        maps = stage_maps(self.trunk, images_B3YX)
        return self._features(maps[-1], maps[-1], tuple(last_channels(maps[layer]) for layer in ask.layers))

    def encode_on_grid(self, images_B3YX: Float[Tensor, "B 3 Y X"], grid: tuple[int, int]) -> Features:
        """One pass whose map is resized (bilinear, antialias)."""
        x_BDHW = stage_maps(self.trunk, images_B3YX)[-1]
        resized = functional.interpolate(x_BDHW, size=grid, mode="bilinear", antialias=True, align_corners=False)
        return self._features(x_BDHW, resized)

    @torch.no_grad()
    def encode_image(self, features: Features) -> Float[Tensor, "B D"]:
        """Unit image vectors: the projection of the global feature, as open_clip's encode_image gives them."""
        return _in_common_space(self.trunk, features)

    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit text vectors."""
        return self.text.encode(prompts)

    def _features(self, last_BDHW: Tensor, patches_BDHW: Tensor, layers: tuple[Tensor, ...] = ()) -> Features:
        pooled_BD: Tensor = self.trunk.forward_head(last_BDHW, pre_logits=True)
        return Features(pooled_BD.float(), last_channels(patches_BDHW), layers, _projected(self.trunk, pooled_BD))


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry whose model is `<architecture>/<pretrained tag>` of open_clip.

    Raises UnavailableError without the package, UsageError where the entry does not fit what open_clip says. A
    tokenizer that does not come with the package is looked for when the first prompt comes.
    """
    config = read_config(entry.name, entry.model)
    with seeded(entry.seed):
        trunk, text = image_tower(config), ClipText(entry, config)
    _check(entry, config, trunk)
    install(trunk, entry.positions)
    fill({"visual": nn.ModuleDict({"trunk": trunk}), "text": text.transformer}, entry)
    return OpenClipConv(entry, card, trunk, text) if isinstance(trunk, FastVit) else OpenClip(entry, card, trunk, text)


def derive(name: str, model: str, given: Mapping[str, object] = MappingProxyType({})) -> EncoderEntry:
    """The entry of any `<architecture>/<tag>`; open_clip tells everything, so nothing needs to be `given`.

    Raises as `build` does.
    """
    config = read_config(name, model)
    with sketching():
        trunk = image_tower(config)
    place = config.tag.get("hf_hub", "")
    told = _told(config, trunk)
    if told["resize"] is None or told["interpolation"] not in ("bilinear", "bicubic"):
        raise UsageError(
            f"{name}: open_clip resizes its images by {config.tag['interpolation']!r} and {config.tag['resize_mode']!r}"
            ", which is not known here."
        )
    file = _FILES.get(place.split("/")[0], _OLDER_FILE) if place.endswith("/") else ""
    hub = f"{place}{file}" or None
    positions: Positions = "bilinear" if config.architecture.startswith(_BILINEAR) else "library"
    return EncoderEntry(
        name=name, source="open_clip", model=model, licence="unknown", hub=hub, text=True, positions=positions, **told
    )


def _check(entry: EncoderEntry, config: ClipConfig, trunk: Any) -> None:
    """Raises UsageError where the entry says anything else than open_clip."""
    told = _told(config, trunk)
    wrong = [f"{key} {getattr(entry, key)!r} instead of {value!r}" for key, value in told.items()
             if getattr(entry, key) != value]  # fmt: skip
    if wrong:
        raise UsageError(f"the entry of encoder {entry.name!r} does not fit {entry.model}: {', '.join(wrong)}.")


def _told(config: ClipConfig, trunk: Any) -> dict[str, Any]:
    """What open_clip says of an encoder, as fields of an entry."""
    return {
        "global_feature": global_feature(config),
        "size": config.vision["image_size"],
        "patch": stride(trunk),
        "mean": tuple(config.tag["mean"]),
        "std": tuple(config.tag["std"]),
        "interpolation": config.tag["interpolation"],
        "resize": _RESIZE.get(config.tag["resize_mode"]),
    }


def _alternatives(trunk: Any) -> tuple[str, ...]:
    return () if isinstance(trunk.get_classifier(), nn.Identity) else (_PROJECTED,)


def _projected(trunk: Any, pooled_BD: Float[Tensor, "B D"]) -> dict[str, Float[Tensor, "B _"]]:
    return {key: trunk.get_classifier()(pooled_BD).float() for key in _alternatives(trunk)}


def _in_common_space(trunk: Any, features: Features) -> Float[Tensor, "B D"]:
    assert features.pooled_BD is not None, "this encoder always pools"
    vectors: Tensor = trunk.get_classifier()(features.pooled_BD)
    return functional.normalize(vectors, dim=-1)
