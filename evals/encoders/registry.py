"""Which encoders there are, and from a name on the command line to an entry. Nothing here imports torch by itself."""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.encoders import routes
from evals.encoders.entry import WORDS, EncoderEntry, config_folder, read_entry, read_yaml
from evals.encoders.exports.entry import entry_of, is_export
from evals.encoders.exports.manifest import MANIFEST
from evals.encoders.plugins import plugins
from evals.errors import UsageError, unknown

SHIPPED = Path(__file__).parents[1] / "shipped"
"""Exports that come with this project: a folder there is an encoder of that name."""
UNTRAINED = "@random"
"""Behind the name of an encoder: with fresh weights."""
SOURCES = "evals.encoders.sources"
"""The package whose modules are the adapters: a file there is a source."""


def names(extra: Path | None = None) -> list[str]:
    """Encoders that have an entry: in the project's folder, in installed packages, and in `extra`.

    Raises UsageError if that is no folder.
    """
    return sorted(_files(extra))


def sources() -> list[str]:
    """The adapters: the modules of this package are the registry, and installed packages add theirs."""
    return sorted({*_own_sources(), *(plugin.source for plugin in plugins())})


def resolve(name: str, *, weights: str | None = None, seed: int = 0, extra: Path | None = None) -> EncoderEntry:
    """The entry of `name`, of a route such as `timm:<model>`, or of an export's folder, with the weights asked for.

    `<name>@random` is its architecture, untrained, whatever weights the others get.
    An encoder that has nothing to load stays so under `hub` and `random`. A route imports its library.
    Raises UsageError for an unknown name, one that two packages claim, an entry that does not fit, something that a
    route needs and its library does not tell, weights that are neither a word nor a file, or an `extra` that is no
    folder.
    """
    if name.endswith(UNTRAINED):
        name, weights = name.removesuffix(UNTRAINED), "random"
    known = _files(extra)
    if name not in known and is_export(name):
        entry: EncoderEntry = entry_of(name, known)
    else:
        entry = _routed(name, known) if ":" in name else _listed(name, known)
    if weights is None or (entry.weights == "none" and weights in WORDS):
        return replace(entry, seed=seed)
    return replace(entry, seed=seed, weights=_known_weights(entry, weights))


def adapter(source: str) -> Any:
    """What builds the encoders of a source: its module, or the plug-in that announces it.

    Raises UsageError for an unknown one, or one that several packages announce.
    """
    theirs = [plugin for plugin in plugins() if plugin.source == source]
    own = source in {*_own_sources(), *routes.SOURCES, routes.FILE}
    if len(theirs) + own > 1:
        claims = (["this project"] if own else []) + [f"{plugin.package} ({plugin.module})" for plugin in theirs]
        raise UsageError(f"the source {source!r} is announced by {' and by '.join(claims)}: uninstall one of them.")
    if theirs:
        return theirs[0]
    if source not in _own_sources():
        raise unknown("source of encoders", source, sources())
    return importlib.import_module(f"{SOURCES}.{source}")


def _own_sources() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent / "sources")]))


def _files(extra: Path | None) -> Mapping[str, Sequence[tuple[str, Path]]]:
    """Encoder -> whose entries it is in, and where; the folder that the user names goes before every other."""
    if extra is not None and not extra.is_dir():
        raise UsageError(
            f"the folder of encoder entries {str(extra)!r} does not exist. Give --config-dir a folder of YAML files, "
            "<name>.yaml for each encoder."
        )
    found: dict[str, list[tuple[str, Path]]] = {}
    offers = [("this project", path) for path in sorted((config_folder() / "encoder").glob("*.yaml"))]
    offers += [("this project", path.parent) for path in sorted(SHIPPED.glob(f"*/{MANIFEST}"))]
    offers += [(plugin.package, path) for plugin in plugins() for path in plugin.entries()]
    for owner, path in offers:
        found.setdefault(path.name.removesuffix(".yaml"), []).append((owner, path))
    mine = {path.stem: [("--config-dir", path)] for path in sorted(extra.glob("*.yaml"))} if extra is not None else {}
    return {**found, **mine}


def _listed(name: str, known: Mapping[str, Sequence[tuple[str, Path]]]) -> EncoderEntry:
    """The entry of a name without a colon."""
    if name not in known:
        raise unknown("encoder", name, list(known))
    if len(known[name]) > 1:
        claims = " and by ".join(f"{owner} ({path})" for owner, path in known[name])
        raise UsageError(
            f"the name {name!r} is claimed by {claims}: uninstall one, or put the entry you mean into a folder for "
            "--config-dir."
        )
    ((owner, path),) = known[name]
    if path.is_dir():
        return entry_of(str(path))
    try:
        entry = read_entry(name, read_yaml(path))
        if entry.source not in sources():
            raise unknown(f"source in the entry of encoder {name!r}", entry.source, sources())
    except UsageError as error:
        raise UsageError(f"{error} (Entry: {path}, of {owner}.)") from error
    return entry


def _routed(name: str, known: Mapping[str, Sequence[tuple[str, Path]]]) -> EncoderEntry:
    """The entry of a name that needs none."""
    route = routes.parse(name)
    if route.word != routes.FILE:
        return _derive(route)
    inner = routes.architecture(route)
    if inner.word:
        entry = _derive(inner)
    else:
        entry = routes.whole(replace(_listed(inner.model, known), name=name, **inner.given()))
    return routes.on_file(entry, route.model, inner.given())


def _derive(route: routes.Route) -> EncoderEntry:
    if route.source not in sources():
        raise UsageError(
            f"unknown source {route.word!r} in {route.name!r}. Known: {', '.join(routes.FORMS)}, and <source>:<model> "
            "for a source of an installed package."
        )
    derive = getattr(adapter(route.source), "derive", None)
    if derive is None:
        raise UsageError(f"models of {route.word!r} need an entry: `eupe-eval new-encoder NAME` makes a template.")
    given = route.given()
    return routes.whole(replace(derive(route.name, route.model, given), **given))


def _known_weights(entry: EncoderEntry, weights: str) -> str:
    if weights not in WORDS and not Path(weights).expanduser().is_file():
        raise UsageError(
            f"weights {weights!r} of {entry.name}: no such file. Give a .safetensors, .pt or .pth file, "
            "`hub`, or `random` (with a seed)."
        )
    if (weights == "none") != (entry.weights == "none"):
        raise UsageError(f"{entry.name} has weights {entry.weights!r}; {weights!r} does not fit its adapter.")
    return weights
