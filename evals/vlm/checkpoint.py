"""Vision-language models on disk: folders that are whole or absent, bound to the encoder that they were trained on.

* `vlm.json`, written last: what follows, and size and sha256 of every other file.
* `projector.safetensors`: `inner.weight`, `inner.bias`, `outer.weight`, `outer.bias`.
* `language/`: a causal language model and its tokenizer, as save_pretrained of transformers writes them.

The encoder itself is not inside: its digest is.
"""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from evals.encoders.load import digest
from evals.encoders.weights import load_strict, read_tensors
from evals.errors import ResultsError, UsageError, WeightsError
from evals.files import sha256_file, write_atomic
from evals.types import Encoder
from evals.vlm.language import open_language, width_of
from evals.vlm.model import Projector, VisionLanguage
from evals.vlm.recipe import MANIFEST, Layer

SCHEMA = 1
PROJECTOR, LANGUAGE = "projector.safetensors", "language"
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a manifest of other content may raise."""


@dataclass(frozen=True, slots=True)
class VlmCard:
    """What a model was trained from, and how."""

    recipe: Mapping[str, Any]
    """`Recipe.describe()`; its `name` is that of the protocol."""
    encoder: str
    """Name of its entry."""
    encoder_digest: str
    """Of every parameter and buffer (see `encoders.load.digest`)."""
    dim: int
    """Channels of a visual token."""
    layer: Layer
    side: int
    """Pixels of the square that the encoder sees."""
    grid: int
    """Visual tokens along each axis."""
    pad_id: int
    """Token that fills short rows."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Stage -> fingerprint of its records and pictures."""
    losses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Stage -> numbers of its training (steps, first and last loss, ...)."""
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stage -> ids of records that were left out because their pictures were missing."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the libraries that it was trained with."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that was read."""

    model: VisionLanguage
    """On the CPU, in eval mode, without gradients."""
    tokenizer: Any
    card: VlmCard


def write_vlm(
    folder: Path, card: VlmCard, model: VisionLanguage, tokenizer: Any, state: Mapping[str, Tensor] | None = None
) -> None:
    """Write a model with its tokenizer. One process calls it.

    `state` is `loop.whole_state(model)` where the model is sharded over processes. Everything is written beside the
    folder and renamed. Raises UsageError for a folder that exists, ResultsError where it cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already; models are never overwritten. Choose another folder.")
    whole = model.state_dict() if state is None else state
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        (aside / LANGUAGE).mkdir(parents=True)
        save_file(_part(whole, "projector."), aside / PROJECTOR)
        _save_language(aside / LANGUAGE, model.language, _part(whole, "language."))
        tokenizer.save_pretrained(aside / LANGUAGE)
        files = {path.relative_to(aside).as_posix(): _stamp(path) for path in sorted(_files(aside))}
        told = {"schema": SCHEMA, **asdict(card), "files": files}
        write_atomic(aside / MANIFEST, json.dumps(told, indent=1, sort_keys=True).encode())
        aside.rename(folder)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise ResultsError(f"cannot write the model {folder}: {why}. Free some space, or choose another.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_card(folder: Path) -> VlmCard:
    """What the manifest says; no other file is looked at.

    Raises UsageError where there is no such model, ResultsError for a manifest that says something else.
    """
    return _card(_manifest(folder), folder)


def read_vlm(folder: Path, encoder: Encoder, dtype: torch.dtype = torch.float32) -> Loaded:
    """The model, for the encoder that it was trained on, with its weights in that type.

    Raises WeightsError for another encoder, and for files that are not those that were written, UsageError where there
    is no such model.
    """
    told = _manifest(folder)
    card = _card(told, folder)
    check_encoder(folder, card, encoder)
    _must_be_whole(folder, told["files"])
    language, tokenizer = open_language(folder / LANGUAGE)
    projector = Projector(card.dim, width_of(language))
    load_strict(projector, read_tensors(folder / PROJECTOR), what=str(folder / PROJECTOR))
    model = VisionLanguage(language, projector).to(dtype).requires_grad_(False).eval()
    return Loaded(model, tokenizer, card)


def check_encoder(folder: Path, card: VlmCard, encoder: Encoder) -> None:
    """Raises WeightsError where the model was trained on another encoder, or on other weights of it."""
    found = digest(encoder)
    if found != card.encoder_digest:
        raise WeightsError(
            f"{folder} was trained on the encoder {card.encoder} with weights {card.encoder_digest[:12]}, and this is "
            f"{encoder.card.name} with weights {found[:12]}: its projector means nothing to other features. Give the "
            "encoder that it was trained on, or train a model on this one."
        )


def _save_language(folder: Path, language: Any, state: dict[str, Tensor]) -> None:
    from transformers import GenerationConfig

    # Settings of sampling that came with the weights can be invalid for greedy search, which is all that is done here.
    language.generation_config = GenerationConfig.from_model_config(language.config)
    language.save_pretrained(folder, state_dict=state)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value.detach().cpu().contiguous()
        for key, value in state.items()
        if key.startswith(prefix)
    }


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _stamp(path: Path) -> dict[str, Any]:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(f"{folder} holds no vision-language model: there is no {MANIFEST}. Give the folder of one.")
    try:
        told = json.loads(path.read_text())
        schema = told["schema"]
    except (OSError, *_BROKEN) as error:
        raise ResultsError(f"{path} cannot be read ({error}); train the model again.") from error
    if schema != SCHEMA:
        raise ResultsError(f"{path} has schema {schema!r}; this version reads {SCHEMA}. Use the version that wrote it.")
    return dict(told)


def _card(told: Mapping[str, Any], folder: Path) -> VlmCard:
    names = {item.name for item in fields(VlmCard)}
    if (given := set(told) - {"schema", "files"}) != names:
        raise ResultsError(f"{folder / MANIFEST} lacks or adds {sorted(given ^ names)}; train the model again.")
    skipped = {stage: tuple(ids) for stage, ids in told["skipped"].items()}
    return VlmCard(**{name: told[name] for name in names - {"skipped"}}, skipped=skipped)


def _must_be_whole(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Nothing is missing, changed or added."""
    found = {path.relative_to(folder).as_posix() for path in _files(folder)} - {MANIFEST}
    if found != set(files):
        raise WeightsError(f"{folder} lacks or adds {sorted(found ^ set(files))}; copy the whole folder again.")
    for name, stamp in files.items():
        path = folder / name
        if path.stat().st_size != stamp["bytes"] or sha256_file(path) != stamp["sha256"]:
            raise WeightsError(f"{path} is not the file that was written; copy the whole folder again.")
