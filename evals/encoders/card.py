"""Who an encoder is before it is built: its card, the identity of its weights and where they lie. Imports no torch."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evals.encoders.entry import WORDS, EncoderEntry
from evals.encoders.hub import HubFile
from evals.errors import UnavailableError
from evals.files import DigestMemo
from evals.record import EncoderCard

_LIBRARIES = {"open_clip": ("open_clip_torch", "text"), "hf": ("transformers", "hf"), "radio": ("transformers", "hf")}
"""The package beside torch and timm whose version moves a random initialisation, and our extra with it, by source."""


def weights_file(entry: EncoderEntry) -> Path | None:
    """The local file of the weights; None where none is needed (`random`, `none`).

    Raises UnavailableError saying what to get, from where, and how to point to it. Never touches the network.
    """
    if entry.weights in ("random", "none"):
        return None
    if entry.weights == "hub":
        return _hub_file(entry).cached()
    path = Path(entry.weights).expanduser()
    if not path.is_file():
        raise UnavailableError("weights", f"the weights of {entry.name} are not at {path}: there is no such file.")
    return path


def fetch(entry: EncoderEntry) -> None:
    """Download hub weights that are not here yet; nothing to do for anything else.

    Raises UnavailableError when they cannot be had: no network, HF_HUB_OFFLINE, a gate, a repository that is gone.
    """
    if entry.weights == "hub":
        _hub_file(entry).download()


def identity(entry: EncoderEntry, digests: DigestMemo) -> str:
    """The sha256 that stands for the weights: of their file, or of what a random initialisation depends on.

    Raises UnavailableError when the file is not here, or the library of the adapter is not.
    """
    path = weights_file(entry)
    if path is not None:
        return digests.digest(path)
    recipe: list[object] = [entry.weights, entry.source, entry.model]
    recipe += [entry.patch] if entry.weights == "none" else [entry.seed, _versions(entry)]
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
        patch=entry.patch,
        size=entry.size,
        global_feature=entry.global_feature,
        text=entry.text,
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


def _hub_file(entry: EncoderEntry) -> HubFile:
    return HubFile.of(entry.name, entry.licence, entry.hub)


def _versions(entry: EncoderEntry) -> dict[str, str]:
    package, extra = _LIBRARIES.get(entry.source, ("timm", "all"))
    try:
        return {name: version(name) for name in dict.fromkeys(("torch", "timm", package))}
    except PackageNotFoundError as error:
        raise UnavailableError(
            "package", f"{entry.name} needs {error.name}: pip install 'eupe-eval[{extra}]'"
        ) from error
