"""Who an encoder is before it is built: its card, the identity of its weights and where they lie. Imports no torch."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evals.encoders.entry import WORDS, EncoderEntry
from evals.encoders.hub import HubFile
from evals.encoders.plugins import plugins
from evals.errors import UnavailableError
from evals.files import DigestMemo
from evals.record import EncoderCard

_LIBRARIES = {"open_clip": ("open_clip_torch", "text"), "hf": ("transformers", "hf"), "radio": ("transformers", "hf")}
"""The package beside torch and timm whose version moves a random initialisation, and our extra with it, by source."""


def weights_file(entry: EncoderEntry) -> Path | None:
    """The local file of the weights; None where none is needed (`random`, `none`, code that fetches its own).

    Raises UnavailableError saying what to get, from where, and how to point to it. Never touches the network.
    """
    if entry.weights in ("random", "none") or _brings_its_own(entry):
        return None
    if entry.weights == "hub":
        return hub_file(entry).cached()
    path = Path(entry.weights).expanduser()
    if not path.is_file():
        raise UnavailableError("weights", f"the weights of {entry.name} are not at {path}: there is no such file.")
    return path


def fetch(entry: EncoderEntry) -> None:
    """Download hub weights that are not here yet; nothing to do for anything else.

    Raises UnavailableError when they cannot be had: no network, HF_HUB_OFFLINE, a gate, a repository that is gone.
    """
    if entry.weights == "hub" and not _brings_its_own(entry):
        hub_file(entry).download()


def identity(entry: EncoderEntry, digests: DigestMemo) -> str:
    """The sha256 that stands for the weights: of their file, or of all that they depend on.

    A file of the hub that is used for the first time is kept to from here on. Raises UnavailableError when the file is
    not here, or the library of the adapter is not; WeightsError for a file of the hub that has changed.
    """
    path = weights_file(entry)
    if path is not None:
        digest = digests.digest(path)
        if entry.weights == "hub":
            hub_file(entry).settle(path, digest)
        return digest
    recipe: list[object] = [entry.weights, entry.source, entry.model]
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


def hub_file(entry: EncoderEntry) -> HubFile:
    """Where the hub has the weights. Raises as `HubFile.of` does, with the entry's note on where else they are."""
    if entry.hub is None and entry.note is not None:
        raise UnavailableError(
            "weights",
            f"{entry.name} has no weights on the hub. {entry.note} Pass the file with --weights PATH; --weights random "
            "scores the untrained architecture, as a floor.",
        )
    return HubFile.of(entry.name, entry.licence, entry.hub, gated=entry.gated)


def _revision(entry: EncoderEntry) -> str | None:
    if entry.weights != "hub":
        return None
    if _brings_its_own(entry):
        return entry.model.partition("@")[2].partition(":")[0]
    file = hub_file(entry)
    return file.revision(file.cached())


def _brings_its_own(entry: EncoderEntry) -> bool:
    """The code of a repository, at its pinned commit, says where its weights are."""
    return entry.source == "torch_hub" and entry.weights == "hub"


def _versions(entry: EncoderEntry) -> dict[str, str]:
    package, extra = _LIBRARIES.get(entry.source, ("timm", "all"))
    try:
        return {name: version(name) for name in dict.fromkeys(("torch", "timm", package))}
    except PackageNotFoundError as error:
        raise UnavailableError(
            "package", f"{entry.name} needs {error.name}: pip install 'eupe-eval[{extra}]'"
        ) from error
