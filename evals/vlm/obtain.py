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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from evals.context import Context
from evals.datasets import llava
from evals.datasets.llava import Talks
from evals.device import versions
from evals.encoders.load import digest
from evals.encoders.weights import seeded
from evals.errors import ResultsError
from evals.record import safe_name
from evals.types import Encoder
from evals.vlm import loop
from evals.vlm.checkpoint import Loaded, VlmCard, read_vlm, write_vlm
from evals.vlm.fit import Fitted, fit, view_of
from evals.vlm.language import open_language, width_of
from evals.vlm.model import Projector, VisionLanguage
from evals.vlm.recipe import MANIFEST, Recipe
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


def obtain(recipe: Recipe, encoder: Encoder, stock: Stock, context: Context) -> Loaded:
    """The model of an encoder, trained if it is not there. Raises as `ensure` and `read_vlm` do."""
    folder = ensure(recipe, encoder, stock, context)
    return read_vlm(folder, encoder, torch.bfloat16 if recipe.dtype == "bf16" else torch.float32)


def ensure(recipe: Recipe, encoder: Encoder, stock: Stock, context: Context) -> Path:
    """The folder of the model of an encoder, which is trained first if it is not there.

    Two runs that want the same one do not train it twice: the second waits. A signal to stop saves the step at hand;
    the next call goes on there. Raises what reading records, training and writing raise.
    """
    folder = place(recipe, encoder, stock, context)
    if not (folder / MODEL / MANIFEST).is_file():
        with _alone(folder):
            if not (folder / MODEL / MANIFEST).is_file():
                _Training(recipe, encoder, stock, context, folder).run()
    return folder / MODEL


class _Training:
    """Both stages, one after the other, in every process of the training."""

    def __init__(self, recipe: Recipe, encoder: Encoder, stock: Stock, context: Context, folder: Path) -> None:
        self._recipe, self._encoder, self._stock = recipe, encoder, stock
        self._context, self._folder = context, folder
        self._processes = loop.accelerator(torch.device(context.device))
        self._view = view_of(recipe, encoder)
        self._done: dict[str, tuple[Talks, Fitted]] = {}

    def run(self) -> None:
        """Train and write the model; nothing is written where a signal asked to stop."""
        projector: Projector | None = None
        with stopping() as stop:
            for name, stage in self._recipe.stages:
                # Each stage starts from the language model as it came; the projector goes from one to the next.
                language, tokenizer = open_language(self._stock.language)
                if projector is None:
                    with seeded(_SEED):
                        projector = Projector(self._encoder.dim, width_of(language))
                model = VisionLanguage(language, projector)
                codec = Codec(tokenizer, self._view.tokens, stage.max_length, self._recipe.pad_token)
                if not self._fit(name, model, codec, stop):
                    # Leaving the block raises the signal again, as it would have been without a training.
                    return
        state = loop.whole_state(model)
        if self._processes.is_main_process:
            write_vlm(self._folder / MODEL, self._card(codec), model, tokenizer, state)
            for name, _ in self._recipe.stages:
                shutil.rmtree(self._folder / name, ignore_errors=True)
        self._processes.wait_for_everyone()

    def _fit(self, name: llava.Stage, model: VisionLanguage, codec: Codec, stop: Callable[[], bool]) -> bool:
        context = self._context
        talks = llava.read_talks(
            self._stock.records,
            name,
            context.digests,
            on_missing=self._recipe.on_missing,
            workers=context.workers,
            bar=context.bar,
        )
        fitted = fit(
            self._recipe,
            model,
            self._encoder,
            talks,
            codec,
            self._folder / name,
            self._processes,
            workers=context.workers,
            bar=context.bar,
            stop=stop,
        )
        self._done[name] = talks, fitted
        return fitted.finished

    def _card(self, codec: Codec) -> VlmCard:
        return VlmCard(
            recipe=json.loads(json.dumps(self._recipe.describe())),
            encoder=self._encoder.card.name,
            encoder_digest=digest(self._encoder),
            dim=self._encoder.dim,
            layer=self._recipe.layer,
            side=self._view.side,
            grid=self._view.grid,
            pad_id=codec.pad_id,
            data={name: talks.fingerprint for name, (talks, _) in self._done.items()},
            losses={name: _told(fitted) for name, (_, fitted) in self._done.items()},
            skipped={name: talks.skipped for name, (talks, _) in self._done.items() if talks.skipped},
            versions=versions(),
        )


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
