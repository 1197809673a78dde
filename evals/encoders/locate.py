"""Where the weights of an entry lie, and how they get here. Imports no torch."""

from pathlib import Path

from evals.encoders.entry import EncoderEntry
from evals.encoders.hub import HubFile
from evals.errors import UnavailableError


def weights_file(entry: EncoderEntry) -> Path | None:
    """The local file of the weights; None where none is needed (`random`, `none`, code that fetches its own).

    Raises UnavailableError saying what to get, from where, and how to point to it. Never touches the network.
    """
    if entry.weights in ("random", "none") or brings_its_own(entry):
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
    if entry.weights == "hub" and not brings_its_own(entry):
        hub_file(entry).download()


def hub_file(entry: EncoderEntry) -> HubFile:
    """Where the hub has the weights. Raises as `HubFile.of` does, with the entry's note on where else they are."""
    if entry.hub is None and entry.note is not None:
        raise UnavailableError(
            "weights",
            f"{entry.name} has no weights on the hub. {entry.note} Pass the file with --weights PATH; --weights random "
            "scores the untrained architecture, as a floor.",
        )
    return HubFile.of(entry.name, entry.licence, entry.hub, gated=entry.gated)


def brings_its_own(entry: EncoderEntry) -> bool:
    """The code of a repository, at its pinned commit, says where its weights are."""
    return entry.source == "torch_hub" and entry.weights == "hub"
