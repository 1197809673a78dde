"""Encoders that are image towers of transformers (extra `hf`): `model` is a hub id, or a folder with config.json."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from safetensors import SafetensorError, safe_open

from evals.encoders.entry import EncoderEntry, GlobalFeature
from evals.encoders.hf.files import folder, image_settings, processed_side, read_config, read_processor
from evals.encoders.hf.models import KINDS, make, tower_config
from evals.encoders.hf.tokens import HfConv, HfTokens
from evals.encoders.hub import DEFAULT_FILE
from evals.encoders.locate import weights_file
from evals.encoders.routes import untold
from evals.encoders.sources.radio import RadioTokens, radio_defaults
from evals.encoders.weights import read_tensors
from evals.errors import UnavailableError, UsageError
from evals.record import EncoderCard
from evals.types import Encoder

_EXAMPLES = {
    "mean": ("normalise", "imagenet"),
    "interpolation": ("interpolation", "bicubic"),
    "resize": ("resize", "crop"),
    "size": ("size", "512"),
}
"""What to write, by the field that an image processor does not tell."""


def build(entry: EncoderEntry, card: EncoderCard) -> Encoder:
    """The encoder of an entry. Raises UsageError where the entry does not fit the configuration of its model."""
    config = tower_config(entry.name, read_config(entry.name, entry.model))
    kind = KINDS[config.model_type]
    patch, possible = _patch(config), _globals(config)
    if patch != entry.patch:
        raise UsageError(f"the entry of encoder {entry.name!r} says patch {entry.patch}; {entry.model} has {patch}.")
    if entry.global_feature not in possible:
        raise UsageError(
            f"the entry of encoder {entry.name!r} says global_feature {entry.global_feature!r}; {entry.model} has "
            f"{', '.join(possible)}."
        )
    path = weights_file(entry)
    model = make(entry, config, None if path is None else read_tensors(path), str(path))
    if config.model_type == "radio":
        return RadioTokens(entry, card, model)
    return HfConv(entry, card, model) if kind.convolutional else HfTokens(entry, card, model)


def derive(name: str, model: str, given: Mapping[str, object] = MappingProxyType({})) -> EncoderEntry:
    """The entry of a hub id or folder, from its config.json and the settings of its image processor.

    `given` are fields that the user tells. Raises UsageError for a model type that is not known here and for what is
    neither told nor given, UnavailableError where the files are not on this machine.
    """
    config = tower_config(name, read_config(name, model))
    processor = read_processor(name, model)
    told: dict[str, Any] = {"size": _native(config, processor), **image_settings(name, processor)}
    if config.model_type == "radio":
        told |= radio_defaults(config)
    told = {field: value for field, value in {**told, **given}.items() if value is not None}
    lacking = dict(example for field, example in _EXAMPLES.items() if field not in told)
    if lacking:
        raise untold(name, "its image processor's settings do not tell everything about images", **lacking)
    here = folder(model)
    place = {"hub": model} if here is None else {"weights": str(here / DEFAULT_FILE)}
    known = {"global_feature": _globals(config)[0], "licence": "unknown", "patch": _patch(config), **place}
    entry = EncoderEntry(name=name, source="hf", model=model, **{**known, **told})
    if entry.global_feature == "attn_pool" and "global_feature" not in given:
        _check_pool(entry)
    return entry


def _patch(config: Any) -> int:
    """Pixels a token. Raises UsageError for patches that are not square."""
    if KINDS[config.model_type].convolutional:
        return int(2 ** (len(config.hidden_sizes) + 1))
    return _square("patch_size", config.patch_size)


def _native(config: Any, processor: Mapping[str, Any]) -> int | None:
    """The side of the image that the table of positions is for; RADIO's is for any, so as the processor makes it."""
    if config.model_type == "radio":
        return processed_side(processor)
    if config.model_type == "siglip2_vision_model":
        return math.isqrt(config.num_patches) * _patch(config)
    return _square("image_size", config.image_size)


def _square(what: str, side: int | Sequence[int]) -> int:
    sides = {side} if isinstance(side, int) else set(side)
    if len(sides) != 1:
        raise UsageError(f"{what} {list(sides)} of the configuration is not square.")
    return sides.pop()


def _globals(config: Any) -> list[GlobalFeature]:
    """The global features that a model can give, the documented one first."""
    kind = KINDS[config.model_type]
    if config.model_type == "radio":
        return ["summary", "none"]
    if kind.convolutional:
        return ["gap_norm", "none"]
    if kind.pool is not None:
        return ["attn_pool", "none"] if getattr(config, kind.pool) else ["none"]
    return ["cls", "none"]


def _check_pool(entry: EncoderEntry) -> None:
    """Raises UsageError where the configuration asks for an attention pool that the weights, if here, do not have."""
    with contextlib.suppress(UnavailableError, OSError, SafetensorError):
        path = weights_file(entry)
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
        if not any(".head." in f".{key}" for key in keys):
            why = f"{path} lacks the attention pool that its configuration asks for, and none is made up"
            raise untold(entry.name, why, global_feature="none")
