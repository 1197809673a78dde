"""Names that need no entry: `<source>:<model>`, `file:<path>?arch=<name>`, `hub:<repository>@<commit>:<entry point>`.

A name may end in `?key=value&...`: keys of an entry (values as in YAML, `+` for a space), for what the library does not
tell and for what is wanted otherwise. Imports no torch by itself.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import parse_qsl

import yaml

from evals.encoders.entry import KEYS, EncoderEntry, read_values
from evals.errors import UsageError

SOURCES: Mapping[str, str] = {"hub": "torch_hub"}
"""Words before the colon that are not the name of their source."""
FILE = "file"
"""The word for a checkpoint of one's own."""
TRUST = "EUPE_EVAL_TRUST_REMOTE_CODE"
"""Set to 1: what `--trust-remote-code` says."""
FORMS = ("timm:<name>", "hf:<id or folder>", "open_clip:<architecture>/<tag>", "file:<path>?arch=<name>",
         "hub:<owner/repository>@<commit>:<entry point>")  # fmt: skip
_FIXED = ("family", "source", "model")
"""Keys that the name itself settles."""


@dataclass(frozen=True, slots=True)
class Route:
    """A name, taken apart."""

    name: str
    """As typed."""
    word: str
    """What stands before the colon."""
    model: str
    query: Mapping[str, object]

    @property
    def source(self) -> str:
        """The adapter."""
        return SOURCES.get(self.word, self.word)

    def given(self) -> dict[str, Any]:
        """What the query says, as fields of an entry. Raises UsageError for an unknown key or a value amiss."""
        known = [key for key in KEYS if key not in _FIXED]
        return read_values(f"name {self.name!r}", self.query, known)


def parse(name: str) -> Route:
    """Take a name with a colon apart. Raises UsageError where a part is missing or the query cannot be read."""
    body, _, query = name.partition("?")
    word, _, model = body.partition(":")
    if not word or not model:
        raise UsageError(f"{name!r} is no name of an encoder: expected {', '.join(FORMS)}.")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        values = {key: yaml.safe_load(value) for key, value in pairs}
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"the query of {name!r} must be key=value&key=value, values as in YAML: {error}.") from error
    if len(values) < len(pairs):
        raise UsageError(f"the query of {name!r} says a key twice.")
    return Route(name, word, model, values)


def architecture(route: Route) -> Route:
    """The route of the architecture of a `file:` with the rest of the query; an entry's name has no word.

    Raises UsageError for a query without `arch`, or one that tells the weights twice.
    """
    rest = dict(route.query)
    arch = rest.pop("arch", None)
    if not isinstance(arch, str) or arch.startswith(f"{FILE}:"):
        raise UsageError(
            f"{route.name!r} does not tell the architecture: add ?arch=timm:<name>, hf:<id>, open_clip:<architecture>/"
            "<tag>, or the name of an entry."
        )
    if "weights" in rest:
        raise UsageError(f"{route.name!r} names its weights by the path; leave weights out of the query.")
    word, colon, model = arch.partition(":")
    return Route(route.name, word, model, rest) if colon else Route(route.name, "", arch, rest)


def on_file(entry: EncoderEntry, path: str, given: Mapping[str, object]) -> EncoderEntry:
    """The entry with the weights of a file; the terms of the weights that it came with hold no longer.

    Raises UsageError for a path where no file is.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"{entry.name!r}: there is no file {str(file)!r}.")
    terms: dict[str, Any] = {"licence": "unknown", "hub": None, "gated": False, "note": None, "family": None}
    if entry.source == "timm" and "." not in entry.model:
        # An architecture without a tag of weights says nothing of how the file was trained.
        terms["rope_periods"] = "fp32"
    said = {key: value for key, value in given.items() if key in terms}
    return replace(entry, weights=str(file.resolve()), **{**terms, **said})


def whole(entry: EncoderEntry) -> EncoderEntry:
    """The entry with its prefix, norm, width and depth written out, as the model built without weights has them."""
    from evals.encoders.load import blueprint

    built = blueprint(entry)
    structure = built.structure
    words = tuple(token.name if token.trained else f"({token.name})" for token in structure.prefix)
    norm = cast("Literal['final', 'untrained', 'none_exists']", structure.norm)
    return replace(
        entry,
        prefix=words if entry.prefix is None else entry.prefix,
        norm=entry.norm or norm,
        dim=built.dim,
        depth=built.depth,
    )


def require_trust(model: str) -> None:
    """Raises UsageError unless the user said that code of other people's repositories may run here."""
    if os.environ.get(TRUST, "").lower() not in ("1", "true", "yes"):
        raise UsageError(
            f"hub:{model} runs code of that repository on this machine. Read it first; if you trust it, add "
            f"--trust-remote-code, or set {TRUST}=1."
        )


def untold(name: str, why: str, **examples: str) -> UsageError:
    """The error of a source's `derive` for keys that the library does not tell: how to say them in the name."""
    query = "&".join(f"{key}={value}" for key, value in examples.items())
    joined = f"{name}{'&' if '?' in name else '?'}{query}"
    return UsageError(
        f"{name}: {why}. Say it yourself, for example {joined!r} (quoted, for the shell), or write an entry: "
        "`eupe-eval new-encoder NAME` makes a template."
    )
