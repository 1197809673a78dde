"""Which encoders there are, and from a name on the command line to an entry. Nothing here imports torch by itself."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from evals.encoders.entry import WORDS, EncoderEntry, config_folder, read_entry, read_yaml
from evals.errors import UsageError, unknown

_HELPERS = frozenset({"card", "entry", "hub", "keys", "layouts", "load", "registry", "structure", "tokens", "weights"})
"""Modules of this package that are no source of weights."""


def names(extra: Path | None = None) -> list[str]:
    """Encoders that have an entry, in the project's folder and in `extra`. Raises UsageError if that is no folder."""
    return sorted(_files(extra))


def sources() -> list[str]:
    """The adapters: the modules of this package are the registry."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(module.name for module in found if module.name not in _HELPERS)


def resolve(name: str, *, weights: str | None = None, seed: int = 0, extra: Path | None = None) -> EncoderEntry:
    """The entry of `name`, or of `<source>:<model>` as its library describes it, with the weights that were asked for.

    An encoder that has nothing to load stays so under `hub` and `random`. `<source>:<model>` imports that library.
    Raises UsageError for an unknown name, an entry that does not fit, weights that are neither a word nor a file, or
    an `extra` that is no folder.
    """
    known = _files(extra)
    source, colon, model = name.partition(":")
    if colon:
        entry = _derive(name, source, model)
    else:
        if name not in known:
            raise unknown("encoder", name, list(known))
        entry = _with_source(read_entry(name, read_yaml(known[name])))
    if weights is None or (entry.weights == "none" and weights in WORDS):
        return replace(entry, seed=seed)
    return replace(entry, seed=seed, weights=_known_weights(entry, weights))


def adapter(source: str) -> Any:
    """The module of a source. Raises UsageError for an unknown one."""
    if source not in sources():
        raise unknown("source of encoders", source, sources())
    return importlib.import_module(f"evals.encoders.{source}")


def _with_source(entry: EncoderEntry) -> EncoderEntry:
    if entry.source not in sources():
        raise unknown(f"source in the entry of encoder {entry.name!r}", entry.source, sources())
    return entry


def _files(extra: Path | None) -> dict[str, Path]:
    if extra is not None and not extra.is_dir():
        raise UsageError(
            f"the folder of encoder entries {str(extra)!r} does not exist. Give --config-dir a folder of YAML files, "
            "<name>.yaml for each encoder."
        )
    folders = [config_folder() / "encoder", *([extra] if extra is not None else [])]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def _derive(name: str, source: str, model: str) -> EncoderEntry:
    if source not in sources():
        raise unknown(f"source of {name!r}", source, sources())
    derive = getattr(adapter(source), "derive", None)
    if derive is None:
        raise UsageError(f"models of {source!r} need an entry: write configs/encoder/<name>.yaml for {model!r}.")
    return cast("Callable[[str, str], EncoderEntry]", derive)(name, model)


def _known_weights(entry: EncoderEntry, weights: str) -> str:
    if weights not in WORDS and not Path(weights).expanduser().is_file():
        raise UsageError(
            f"weights {weights!r} of {entry.name}: no such file. Give a .safetensors, .pt or .pth file, "
            "`hub`, or `random` (with a seed)."
        )
    if (weights == "none") != (entry.weights == "none"):
        raise UsageError(f"{entry.name} has weights {entry.weights!r}; {weights!r} does not fit its adapter.")
    return weights
