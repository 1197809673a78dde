"""Who an encoder is before it is built: its card, and the identity of its weights. Imports no torch."""

import contextlib
import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evals.encoders.clip.vocabulary import tokenizer_identity, tower_of
from evals.encoders.entry import WORDS, EncoderEntry
from evals.encoders.hf.files import config_file
from evals.encoders.locate import brings_its_own, hub_file, weights_file
from evals.encoders.plugins import plugins
from evals.errors import UnavailableError, UsageError
from evals.files import DigestMemo
from evals.record import EncoderCard

_LIBRARIES = {"open_clip": ("open_clip_torch", "text"), "hf": ("transformers", "hf"), "radio": ("transformers", "hf")}
"""The package beside torch and timm whose version moves a random initialisation, and our extra with it, by source."""


def identity(entry: EncoderEntry, digests: DigestMemo) -> str:
    """The sha256 that stands for the weights: of their file, or of all that they depend on.

    A model of transformers is its weights and its config.json, which holds what no tensor does (activations, eps).
    A file of the hub that is used for the first time is kept to from here on. Raises UnavailableError when a file is
    not here, or the library of the adapter is not; WeightsError for a file of the hub that has changed.
    """
    path = weights_file(entry)
    recipe: list[object] = [entry.weights, entry.source, entry.model]
    if path is not None:
        digest = digests.digest(path)
        if entry.weights == "hub":
            hub_file(entry).settle(path, digest)
        if entry.source != "hf":
            return digest
        recipe = [digest]
    if entry.source == "hf":
        recipe += [digests.digest(config_file(entry.name, entry.model))]
    if entry.weights == "none":
        recipe += [entry.patch]
    elif entry.weights == "random":
        recipe += [entry.seed, _versions(entry)]
    # The code of an installed package is as much a part of what it computes as its weights.
    recipe += [plugin.package for plugin in plugins() if plugin.source == entry.source]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def card(entry: EncoderEntry, digests: DigestMemo) -> EncoderCard:
    """The card as far as it is known before the encoder is built. Raises as `identity` does."""
    return EncoderCard(
        name=entry.name,
        source=entry.source,
        model=entry.model,
        weights=entry.weights if entry.weights in WORDS else Path(entry.weights).name,
        weights_sha256=identity(entry, digests),
        licence=entry.licence,
        gated=entry.gated,
        revision=_revision(entry),
        patch=entry.patch,
        size=entry.size,
        global_feature=entry.global_feature,
        text=entry.text,
        text_side=_text_side(entry, digests) if entry.text else {},
        random=entry.weights == "random",
        dim=entry.dim,
        depth=entry.depth,
        spec={
            "interpolation": entry.interpolation,
            "antialias": entry.antialias,
            "resize": entry.resize,
            "mean": list(entry.mean),
            "std": list(entry.std),
            "rope_periods": entry.rope_periods,
            "positions": entry.positions,
            "prefix": None if entry.prefix is None else " ".join(entry.prefix),
            "norm": entry.norm,
        },
    )


def _text_side(entry: EncoderEntry, digests: DigestMemo) -> dict[str, str | None]:
    """Whose text tower meets the images, and with which tokenizer; None for what is not known on this machine."""
    side: dict[str, str | None] = {
        "tower": entry.text_tower or entry.name,
        **dict.fromkeys(("model", "weights_sha256", "tokenizer")),
    }
    try:
        tower = tower_of(entry)
    except UsageError:
        # A tower without an entry: whoever asks for text is told, images go on.
        return side
    side["model"] = tower.model
    for key, find in (("weights_sha256", identity), ("tokenizer", tokenizer_identity)):
        with contextlib.suppress(UnavailableError):
            side[key] = find(tower, digests)
    return side


def _revision(entry: EncoderEntry) -> str | None:
    if entry.weights != "hub":
        return None
    if brings_its_own(entry):
        return entry.model.partition("@")[2].partition(":")[0]
    file = hub_file(entry)
    return file.revision(file.cached())


def _versions(entry: EncoderEntry) -> dict[str, str]:
    package, extra = _LIBRARIES.get(entry.source, ("timm", "all"))
    try:
        return {name: version(name) for name in dict.fromkeys(("torch", "timm", package))}
    except PackageNotFoundError as error:
        raise UnavailableError(
            "package", f"{entry.name} needs {error.name}: pip install 'eupe-eval[{extra}]'"
        ) from error
