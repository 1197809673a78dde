"""One stage of the training of a vision-language model on a frozen encoder."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evals.context import BarFactory, silent_bar
from evals.datasets.llava import Talks
from evals.device import versions
from evals.encoders.load import digest
from evals.errors import UsageError, WeightsError
from evals.types import ConvEncoder, Encoder
from evals.vlm import log
from evals.vlm.collate import MicroBatch, collate
from evals.vlm.loop import Accelerator, Feed, Job, train
from evals.vlm.model import VisionLanguage, see
from evals.vlm.optimisation import Optimisation
from evals.vlm.order import Order, grouped, shuffled, words
from evals.vlm.pictures import geometry, picture
from evals.vlm.recipe import Recipe, StageRecipe, View
from evals.vlm.tokens import Codec


@dataclass(frozen=True, slots=True)
class Fitted:
    """What became of a stage."""

    finished: bool
    """False: it was asked to stop, and goes on from there when it is called again."""
    losses: tuple[float, ...]
    """Of every step so far."""
    encoder_digest: str
    """Of every parameter and buffer of the encoder, the same before and after."""


def fit(
    recipe: Recipe,
    model: VisionLanguage,
    encoder: Encoder,
    talks: Talks,
    codec: Codec,
    folder: Path,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    bar: BarFactory = silent_bar,
    stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train the stage of `talks` from the weights that the model has, or go on with it where `folder` has its state.

    The model is trained in place, on the device of the accelerator; every process calls it. The encoder is moved there
    and nothing else is done to it. Raises UsageError for a recipe without that stage, WeightsError where the encoder
    changed all the same, DataError for a record or picture that cannot be used, and what `loop.train` raises.
    """
    stage = recipe.alignment if talks.stage == "alignment" else recipe.instruction
    if stage is None:
        raise UsageError(f"recipe {recipe.name} has no stage `{talks.stage}`.")
    before = digest(encoder)
    job = _job(recipe, stage, model, encoder.to(accelerator.device), talks, codec, workers, before)
    model.train_only(stage.trained)
    language: Any = model.language
    if stage.recompute:
        language.activation_checkpointing_enable({"use_reentrant": False})
    try:
        finished = train(job, folder, accelerator, bar, stop)
    finally:
        if stage.recompute:
            language.activation_checkpointing_disable()
    if digest(encoder) != before:
        raise WeightsError(
            f"{encoder.card.name} changed while a model was trained on it: it is not frozen. The adapter must not "
            "write to parameters or buffers."
        )
    return Fitted(finished, tuple(line["loss"] for line in log.read(folder)), before)


def view_of(recipe: Recipe, encoder: Encoder) -> View:
    """How an encoder sees the pictures of a recipe."""
    return recipe.sides.view(encoder.spec.patch, convolutional=isinstance(encoder, ConvEncoder))


class TalkFeed(Feed[MicroBatch]):
    """The samples of a stage as micro-batches."""

    def __init__(self, stage: StageRecipe, talks: Talks, codec: Codec, encoder: Encoder, view: View) -> None:
        self._stage, self._talks, self._codec = stage, talks.talks, codec
        self._spec, self._way = encoder.spec, geometry(stage.padding, encoder.spec, view)
        self._orders: dict[int, Order] = {}
        self.steps = stage.steps(len(self._talks))

    def plan(self, step: int) -> list[list[int]]:
        """The samples of every micro-batch of a step."""
        epoch, step = divmod(step, self.steps // self._stage.epochs)
        if epoch not in self._orders:
            self._orders[epoch] = self._order(epoch)
        return self._orders[epoch].micro_batches(step)

    def read(self, samples: Sequence[int]) -> MicroBatch:
        """Their tokens and pictures."""
        talks = [self._talks[sample] for sample in samples]
        encoded = [self._codec.encode_talk(talk, self._stage.template) for talk in talks]
        images = [
            picture(talk.image, self._way, self._spec) if talk.image is not None and sample.shows else None
            for talk, sample in zip(talks, encoded, strict=True)
        ]
        return collate(encoded, images, self._codec.pad_id)

    def name(self, sample: int) -> str:
        """The id of the record."""
        return self._talks[sample].id

    def _order(self, epoch: int) -> Order:
        stage = self._stage
        if not stage.grouped:
            return shuffled(len(self._talks), seed=stage.seed, epoch=epoch, batch=stage.batch, micro=stage.micro)
        lengths_N = np.array([words(talk) for talk in self._talks])
        shows_N = np.array([talk.image is not None for talk in self._talks])
        return grouped(lengths_N, shows_N, seed=stage.seed, epoch=epoch, batch=stage.batch, micro=stage.micro)


def _job(
    recipe: Recipe,
    stage: StageRecipe,
    model: VisionLanguage,
    encoder: Encoder,
    talks: Talks,
    codec: Codec,
    workers: int,
    weights: str,
) -> Job[MicroBatch]:
    view, width = view_of(recipe, encoder), model.projector.inner.in_features
    feed = TalkFeed(stage, talks, codec, encoder, view)

    def inputs(batch: MicroBatch) -> tuple[Tensor, ...]:
        """Where no row has a picture, one token of zeros stands for the visual tokens that no row takes."""
        ids_BT, labels_BT = (tensor.to(encoder.mean.device) for tensor in (batch.ids_BT, batch.labels_BT))
        if batch.images_B3YX is None:
            return ids_BT, labels_BT, torch.zeros(len(ids_BT), 1, width, device=ids_BT.device)
        images_B3YX = batch.images_B3YX.to(ids_BT.device)
        return ids_BT, labels_BT, see(encoder, images_B3YX, recipe.layer, view.grid, recipe.dtype)

    def tokens(batch: MicroBatch) -> int:
        return int((batch.ids_BT != codec.pad_id).sum() + batch.has_image_B.sum() * (view.tokens - 1))

    return Job(
        title=f"{encoder.card.name}: {talks.stage}",
        work=_work(recipe, stage, view, model, talks, codec, weights),
        objective=model,
        inputs=inputs,
        tokens=tokens,
        feed=feed,
        optimisation=Optimisation(
            rate=stage.rate,
            steps=feed.steps,
            warmup=stage.warmup_steps(len(talks.talks)),
            betas=stage.betas,
            weight_decay=stage.weight_decay,
            clip=stage.clip,
            eps=stage.eps,
        ),
        dtype=recipe.dtype,
        workers=workers,
    )


def _work(
    recipe: Recipe, stage: StageRecipe, view: View, model: VisionLanguage, talks: Talks, codec: Codec, weights: str
) -> str:
    """Everything that the result of a stage depends on."""
    vocabulary = json.dumps(codec.tokenizer.get_vocab(), sort_keys=True)
    return json.dumps(
        {
            "stage": [talks.stage, asdict(stage)],
            "sight": [recipe.layer, recipe.dtype, asdict(view)],
            "encoder": weights,
            "start": digest(model),
            "talks": talks.fingerprint,
            "tokens": [hashlib.sha256(vocabulary.encode()).hexdigest(), codec.pad_id, codec.max_length],
            "versions": versions(),
        },
        sort_keys=True,
    )
