"""Whose text tower an encoder uses, and tokenizers that do not come with open_clip. Imports no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from evals.encoders.entry import EncoderEntry
from evals.encoders.hub import HubFile
from evals.encoders.locate import fetch, weights_file
from evals.encoders.registry import names, resolve
from evals.errors import UnavailableError
from evals.files import DigestMemo, sha256_file

FILES = ("tokenizer.json", "tokenizer_config.json")
"""The tokenizer, and what it is set to: the second names the token that pads."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer on the hub, and the encoder whose text it is for."""

    encoder: str
    repository: str
    commit: str | None = None
    """The one that the entry names; None: the one first used on this machine."""

    @classmethod
    def of(cls, entry: EncoderEntry, repository: str) -> "Vocabulary":
        """The tokenizer of an entry; one that lies beside the weights is of the commit that the entry names."""
        place, _, commit = (entry.hub or "").partition("@")
        return cls(entry.name, repository, commit or None if place.startswith(f"{repository}/") else None)

    def files(self) -> tuple[Path, Path]:
        """The local copies of `FILES`, kept to from here on. Raises UnavailableError telling what to get."""
        tokenizer, settings = (self._settled(file) for file in FILES)
        return tokenizer, settings

    def fetch(self) -> None:
        """Download what is not here yet. Raises UnavailableError telling what to get where that fails."""
        for file in FILES:
            try:
                self._file(file).download()
            except UnavailableError as error:
                raise self._unavailable("could not be downloaded") from error

    def identity(self, digests: DigestMemo) -> str:
        """The sha256 of both files. Raises UnavailableError where one is not here."""
        found = [digests.digest(self._file(file).cached()) for file in FILES]
        return hashlib.sha256("\n".join(found).encode()).hexdigest()

    def _file(self, file: str) -> HubFile:
        at = f"@{self.commit}" if self.commit else ""
        return HubFile.of(self.encoder, "see its page", f"{self.repository}/{file}{at}")

    def _settled(self, name: str) -> Path:
        file = self._file(name)
        try:
            path = file.cached()
        except UnavailableError as error:
            raise self._unavailable("is not on this machine") from error
        file.settle(path, sha256_file(path))
        return path

    def _unavailable(self, what: str) -> UnavailableError:
        from huggingface_hub import constants

        files = " ".join(FILES)
        folder = Path(constants.HF_HUB_CACHE) / f"models--{self.repository.replace('/', '--')}"
        at, revision = (f" at commit {self.commit}", f" --revision {self.commit}") if self.commit else ("", "")
        return UnavailableError(
            "tokenizer",
            f"the tokenizer of {self.encoder} {what}. Needed: {files} of the hub's {self.repository}{at}, to lie below "
            f"{folder}. With a network: `hf download {self.repository} {files}{revision}`. Without: run that elsewhere "
            "and copy the folder here. Only text needs it: benchmarks of images alone run without.",
        )


def vocabulary(entry: EncoderEntry) -> Vocabulary | None:
    """The tokenizer that an entry of open_clip needs from the hub; None where it comes with the package.

    Raises UnavailableError without the package, which is not imported.
    """
    name = _text_config(entry.model.partition("/")[0]).get("hf_tokenizer_name")
    return Vocabulary.of(entry, str(name)) if name else None


def tokenizer_identity(tower: EncoderEntry, digests: DigestMemo) -> str | None:
    """What stands for the tokenizer of a text tower: the sha256 of its files, or the library that it comes with.

    None for a tower of another library, which tells nothing of it. Raises UnavailableError where it is not here.
    """
    if tower.source != "open_clip":
        return None
    needed = vocabulary(tower)
    return "open_clip" if needed is None else needed.identity(digests)


def tower_of(entry: EncoderEntry) -> EncoderEntry:
    """The encoder whose text tower an entry with text uses: its own, or that of another.

    Raises UsageError for a name that has no entry.
    """
    if entry.text_tower is None:
        return entry
    # The lineage of an export may end at an export that brings a tower: all of it is the entry's own.
    if entry.source == "export" and entry.text_tower not in names():
        return entry
    # An untrained image side meets an untrained text side, which needs no file.
    return resolve(entry.text_tower, weights="random" if entry.weights == "random" else None)


def require_text(entry: EncoderEntry) -> None:
    """Whether prompts can be encoded for an entry with a text side, before anything is built.

    Raises UnavailableError for the weights of another encoder's text tower, or a tokenizer, that are not here.
    """
    tower = tower_of(entry)
    if tower is not entry:
        weights_file(tower)
    if (needed := _needed(tower)) is not None:
        needed.files()


def fetch_text(entry: EncoderEntry) -> None:
    """Download what `require_text` asks for. Raises UnavailableError where it cannot be had."""
    tower = tower_of(entry)
    if tower is not entry:
        fetch(tower)
    if (needed := _needed(tower)) is not None:
        needed.fetch()


def _needed(tower: EncoderEntry) -> Vocabulary | None:
    return vocabulary(tower) if tower.source == "open_clip" else None


def _text_config(architecture: str) -> Mapping[str, Any]:
    """What open_clip's file of an architecture says of text; empty for one it does not have."""
    package = find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise UnavailableError("package", "text towers need open_clip: pip install 'eupe-eval[text]'")
    path = Path(package.submodule_search_locations[0]) / "model_configs" / f"{architecture}.json"
    return cast("Mapping[str, Any]", json.loads(path.read_text())["text_cfg"]) if path.is_file() else {}
