"""The one training loop of dense heads on a frozen encoder."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evals.context import Context
from evals.device import generator, torch_generator
from evals.errors import NumericsError
from evals.probes.frozen import FrozenMaps
from evals.probes.heads import drop_channels
from evals.probes.loader import Samples, Stream
from evals.probes.resume import Checkpoint

CHECKPOINT_EVERY = 50
"""Steps: the most that a killed training computes again."""
ROPE_RESCALE = 2.0
"""Rotary coordinates are multiplied by at most this factor, or its inverse (EUPE's released evaluation)."""
EPSILON = 1e-8
"""AdamW's (EUPE's released evaluation)."""

State = dict[str, Tensor]
Loss = Callable[[Tensor, Tensor, int], Tensor]
"""Head output at the resolution of the map, target, step -> a scalar."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a head is trained."""

    steps: int
    batch: int
    rate: Callable[[int], float]
    betas: Callable[[int], tuple[float, float]]
    weight_decay: float
    snapshots: Sequence[int]
    """Numbers of finished steps at which the head is kept; the last is `steps`."""
    dropout: float = 0.0
    """Share of channels that are zeroed, image by image."""
    clip: float = math.inf
    """Largest norm of the gradient."""
    rescaled_steps: int = 0
    """First steps whose rotary coordinates are scaled at random, block by block (encoders that have any)."""


@dataclass(frozen=True, slots=True)
class Training:
    """One head to train: what is learnt from what."""

    title: str
    head: nn.Module
    loss: Loss
    samples: Samples
    names: Sequence[object]
    """What to call each image in an error."""
    recipe: Recipe


def fit(training: Training, maps: FrozenMaps, context: Context, checkpoint: Checkpoint) -> dict[int, State]:
    """Train the head; returns its state on the CPU after each number of steps in `recipe.snapshots`.

    Goes on where `checkpoint` stopped, bit for bit. Raises NumericsError for a loss or features that are not finite,
    and what reading an image raises.
    """
    recipe = training.recipe
    head = training.head.to(maps.device).train()
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=recipe.rate(0), betas=recipe.betas(0), eps=EPSILON, weight_decay=recipe.weight_decay
    )
    progress = _resume(checkpoint, head, optimiser)
    steps = range(progress.step, recipe.steps)
    with context.bar(training.title, recipe.steps) as bar:
        bar.update(progress.step)
        for step, (images, targets) in zip(steps, training.samples.batches(steps, context), strict=True):
            _set(optimiser, recipe, step)
            _step(training, maps, optimiser, (images, targets), step, context.seed)
            progress.step = step + 1
            if progress.step in recipe.snapshots:
                progress.snapshots[progress.step] = _copy(head)
            if progress.step in recipe.snapshots or progress.step % CHECKPOINT_EVERY == 0:
                _keep(checkpoint, progress, head, optimiser)
            bar.update(1)
    return progress.snapshots


def rope_scales(blocks: int, seed: int, step: int) -> Float[Tensor, " L"]:
    """One factor a block, log-uniform in [1/2, 2] (EUPE's released evaluation draws anew at every forward pass)."""
    limit = math.log(ROPE_RESCALE)
    draws = generator(seed, Stream.ROPE, step).uniform(-limit, limit, blocks)
    return torch.from_numpy(draws).exp().float()


@dataclass(slots=True)
class _Progress:
    step: int = 0
    snapshots: dict[int, State] = field(default_factory=dict)


def _step(
    training: Training,
    maps: FrozenMaps,
    optimiser: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    step: int,
    seed: int,
) -> None:
    recipe, blocks = training.recipe, maps.encoder.rope_blocks
    images, targets = batch
    first = step * recipe.batch
    names = [training.names[training.samples.image(first + i)] for i in range(recipe.batch)]
    scales = rope_scales(blocks, seed, step) if blocks and step < recipe.rescaled_steps else None
    features = maps(images, names, rope_scales_L=scales, during=f"{training.title}, step {step}")
    if recipe.dropout:
        features = drop_channels(features, recipe.dropout, torch_generator(seed, Stream.DROPOUT, step))
    loss = training.loss(training.head(features), targets.to(maps.device, non_blocking=True), step)
    if not torch.isfinite(loss):
        raise NumericsError(
            f"the loss of {training.title} on {maps.encoder.card.name} is not finite at step {step} "
            f"(images {', '.join(map(str, names[:3]))}, ...). Check their labels and the encoder's weights."
        )
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if math.isfinite(recipe.clip):
        nn.utils.clip_grad_norm_(training.head.parameters(), recipe.clip)
    optimiser.step()


def _set(optimiser: torch.optim.Optimizer, recipe: Recipe, step: int) -> None:
    for group in optimiser.param_groups:
        group["lr"], group["betas"] = recipe.rate(step), recipe.betas(step)


def _copy(head: nn.Module) -> State:
    return {name: value.detach().cpu().clone() for name, value in head.state_dict().items()}


def _keep(checkpoint: Checkpoint, progress: _Progress, head: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    checkpoint.save(
        {
            "step": progress.step,
            "head": _copy(head),
            "optimiser": optimiser.state_dict(),
            "snapshots": progress.snapshots,
        }
    )


def _resume(checkpoint: Checkpoint, head: nn.Module, optimiser: torch.optim.Optimizer) -> _Progress:
    state: Mapping[str, Any] | None = checkpoint.load()
    if state is None:
        return _Progress()
    head.load_state_dict(state["head"])
    optimiser.load_state_dict(state["optimiser"])
    return _Progress(state["step"], state["snapshots"])
