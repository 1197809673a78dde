"""The vision-language model of an encoder: found where it was trained before, or trained now, stage by stage.

`<cache>/vlm/<encoder>/<key>/model`: the key covers the recipe, the encoder's weights and geometry, the records to learn
from and the language model, so a model is used again for exactly what it was trained from. Beside it, until it is
whole, lies the state of its stages; a killed training goes on there.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from evals.context import Context
from evals.datasets import llava
from evals.device import versions
from evals.encoders.load import digest
from evals.encoders.weights import seeded
from evals.errors import ResultsError
from evals.record import safe_name
from evals.types import Encoder
from evals.vlm import loop
from evals.vlm.checkpoint import MANIFEST, Loaded, VlmCard, read_vlm, write_vlm
from evals.vlm.fit import Fitted, fit, view_of
from evals.vlm.language import open_language, width_of
from evals.vlm.model import Projector, VisionLanguage
from evals.vlm.recipe import Recipe
from evals.vlm.stopping import stopping
from evals.vlm.tokens import Codec

VERSION = 1
"""Grows when the same recipe can give another model."""
MODEL = "model"
_SEED = 0
"""Of the projector's first weights."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What a model is trained from, beside its encoder."""

    records: Path
    """The root of LLaVA's two files."""
    language: str
    """A folder or a name of the hub."""


def place(recipe: Recipe, encoder: Encoder, stock: Stock, context: Context) -> Path:
    """Where the model of an encoder is or will be. Raises UnavailableError where records are not here."""
    files = {stage: context.digests.digest(llava.file_of(stock.records, stage)) for stage, _ in recipe.stages}
    identity = {
        "version": VERSION,
        "recipe": recipe.describe(),
        "encoder": digest(encoder),
        "spec": asdict(encoder.spec),
        "structure": encoder.structure.describe(),
        "records": files,
        "language": _language_identity(stock.language, context),
        "device": context.device.split(":")[0],
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
    return context.cache / "vlm" / safe_name(encoder.card.name) / key


def obtain(recipe: Recipe, encoder: Encoder, stock: Stock, context: Context, *, skip_missing: bool = False) -> Loaded:
    """The model of an encoder: read, or trained first and kept.

    Two runs that want the same one do not train it twice: the second waits. A signal to stop saves the step at hand;
    the next call goes on there. Raises what reading records, training and writing raise.
    """
    folder = place(recipe, encoder, stock, context)
    if not (folder / MODEL / MANIFEST).is_file():
        with _alone(folder):
            if not (folder / MODEL / MANIFEST).is_file():
                _train(recipe, encoder, stock, context, folder, skip_missing)
    return read_vlm(folder / MODEL, encoder, torch.bfloat16 if recipe.dtype == "bf16" else torch.float32)


def _train(recipe: Recipe, encoder: Encoder, stock: Stock, context: Context, folder: Path, skip_missing: bool) -> None:
    processes = loop.accelerator(torch.device(context.device))
    view = view_of(recipe, encoder)
    projector: Projector | None = None
    data: dict[str, str] = {}
    losses: dict[str, dict[str, float]] = {}
    skipped: dict[str, tuple[str, ...]] = {}
    with stopping() as stop:
        for name, stage in recipe.stages:
            talks = llava.read_talks(
                stock.records,
                name,
                context.digests,
                on_missing="skip" if skip_missing else "stop",
                workers=context.workers,
                bar=context.bar,
            )
            # Each stage starts from the language model as it came; the projector goes from one to the next.
            language, tokenizer = open_language(stock.language)
            if projector is None:
                with seeded(_SEED):
                    projector = Projector(encoder.dim, width_of(language))
            model = VisionLanguage(language, projector)
            codec = Codec(tokenizer, view.tokens, stage.max_length, recipe.pad_token)
            done = fit(
                recipe, model, encoder, talks, codec, folder / name, processes,
                workers=context.workers, bar=context.bar, stop=stop,
            )  # fmt: skip
            if not done.finished:
                # Leaving the block raises the signal again, as it would have been without a training.
                return
            data[name], losses[name], skipped[name] = talks.fingerprint, _told(done), talks.skipped
    card = VlmCard(
        recipe=json.loads(json.dumps(recipe.describe())),
        encoder=encoder.card.name,
        encoder_digest=digest(encoder),
        dim=encoder.dim,
        layer=recipe.layer,
        side=view.side,
        grid=view.grid,
        pad_id=codec.pad_id,
        data=data,
        losses=losses,
        skipped={stage: ids for stage, ids in skipped.items() if ids},
        versions=versions(),
    )
    state = loop.whole_state(model)
    if processes.is_main_process:
        write_vlm(folder / MODEL, card, model, tokenizer, state)
        for name, _ in recipe.stages:
            shutil.rmtree(folder / name, ignore_errors=True)
    processes.wait_for_everyone()


def _told(done: Fitted) -> dict[str, float]:
    return {"steps": len(done.losses), "first": done.losses[0], "last": done.losses[-1]}


def _language_identity(name: str, context: Context) -> Any:
    """Digests of the files of a folder; the name of a repository."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): context.digests.digest(path) for path in files}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one training of this folder at a time on this machine; the processes of one training come together."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a")
    except OSError as error:
        raise ResultsError(f"{folder} cannot be used: {error.strerror or error}. Choose another --cache.") from error
    with file:
        if "RANK" not in os.environ:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
