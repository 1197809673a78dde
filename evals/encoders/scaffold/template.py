"""Entries as text: a resolved one that reads back as the same, and the template of a new one. Imports no torch."""

import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from evals.encoders.entry import NORMALISATIONS, REQUIRED, EncoderEntry
from evals.encoders.scaffold.plugin import skeleton
from evals.errors import UsageError
from evals.files import write_atomic
from evals.notes import field_notes

_NAME = re.compile(r"[A-Za-z][\w.-]*")
_WIDTH = 118
_END = "...\n"
"""What YAML puts after a value that stands alone."""
_MODELS: Mapping[str, str] = {
    "timm": "vit_base_patch16_dinov3.lvd1689m",
    "hf": "facebook/dinov2-base",
    "open_clip": "ViT-B-16-SigLIP2/webli",
}
"""What a model is called, by source."""


def as_yaml(entry: EncoderEntry) -> str:
    """The entry as the text of a file that gives the same one, whatever becomes of its family."""
    values: dict[str, Any] = {}
    named = [name for name, pair in NORMALISATIONS.items() if pair == (entry.mean, entry.std)]
    for item in fields(EncoderEntry):
        if item.name == "prefix" and entry.prefix is not None:
            values["prefix"] = _short(entry.prefix)
        elif item.name in ("mean", "std") and named:
            values["normalise"] = named[0]
        elif item.name not in ("name", "seed", "family"):
            values[item.name] = getattr(entry, item.name)
    said = {key: value for key, value in values.items() if value is not None and value != ()}
    return "".join(_line(key, value) for key, value in said.items())


def template(name: str, source: str) -> str:
    """A file to fill in: every key with what it means and takes, those that must be there first."""
    items = {item.name: item for item in fields(EncoderEntry) if item.name not in ("name", "seed")}
    head = _comment(
        f"The encoder {name!r}. `eupe-eval info {name} --config-dir FOLDER` shows what comes of this file. For models "
        "of timm, transformers or open_clip, `eupe-eval info timm:NAME` (hf:ID, open_clip:ARCHITECTURE/TAG) prints one."
    )
    filled = {"source": f" {source}"}
    required = [f"{_note(key)}{key}:{filled.get(key, '')}\n" for key in REQUIRED]
    if source in _MODELS:
        required[REQUIRED.index("model")] += f"# for example {_MODELS[source]}\n"
    optional = [f"{_note(key)}# {_line(key, item.default)}" for key, item in items.items() if key not in REQUIRED]
    colours = f"# A known pair of mean and std, instead of them: {', '.join(NORMALISATIONS)}.\n# normalise: imagenet\n"
    parts = (head, "# Required\n", *required, "# Optional: without the `#`, what stands here is the default\n", colours)
    return "\n".join([*parts, *optional])


def write_new(name: str, source: str, folder: Path) -> list[Path]:
    """Write the template of an entry, or for `plugin` the files of a package, into a folder; returns what was written.

    Raises UsageError for a name that makes no file name, or where one of the files is there already.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} names a file and a package: letters, digits and `.`, `_`, `-`, a letter first.")
    if source == "plugin":
        files = {folder / name / path: text for path, text in skeleton(name).items()}
    else:
        files = {folder / f"{name}.yaml": template(name, source)}
    if there := [str(path) for path in files if path.exists()]:
        raise UsageError(f"{', '.join(there)} is there already; nothing was written. Choose another name or --to.")
    for path, text in files.items():
        write_atomic(path, text.encode())
    return list(files)


def _note(key: str) -> str:
    """What a field means and, where a note does not go through them, the words that it takes."""
    hint, note = get_type_hints(EncoderEntry)[key], field_notes(EncoderEntry)[key].replace("None:", "null:")
    words = [word for part in (hint, *get_args(hint)) if get_origin(part) is Literal for word in get_args(part)]
    untold = bool(words) and not all(f"`{word}`" in note for word in words)
    return _comment(f"{note} One of: {', '.join(words)}." if untold else note)


def _short(prefix: tuple[str, ...]) -> str:
    """`cls reg*4` for cls, reg, reg, reg, reg; `none` for nothing."""
    runs: list[tuple[str, int]] = []
    for word in prefix:
        if runs and runs[-1][0] == word:
            runs[-1] = (word, runs[-1][1] + 1)
        else:
            runs.append((word, 1))
    return " ".join(word if times == 1 else f"{word}*{times}" for word, times in runs) or "none"


def _line(key: str, value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=sys.maxsize, allow_unicode=True)
    return f"{key}: {text.removesuffix(_END).rstrip()}\n"


def _comment(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False) + "\n"
