"""One resumable pass over validation images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from evals.context import Context
from evals.errors import EvalError
from evals.probes.loader import Sample, load
from evals.probes.resume import Checkpoint

CHECKPOINT_EVERY = 100
"""Images: the most that a killed pass scores again."""


@dataclass(frozen=True, slots=True)
class _Items(Dataset[Sample | EvalError]):
    make: Callable[[int], Sample]

    def __getitem__(self, index: int) -> Sample | EvalError:
        try:
            return self.make(index)
        except EvalError as error:
            return error


def validate(
    title: str,
    make: Callable[[int], Sample],
    images: int,
    measure: Callable[[int, Tensor, Tensor], Tensor],
    context: Context,
    checkpoint: Checkpoint,
) -> Tensor:
    """`measure(index, image, target)` of every image, stacked in order on the CPU.

    `make` reads an image and travels to the context's worker processes. Goes on where `checkpoint` stopped. Raises
    what reading or measuring an image raises.
    """
    state = checkpoint.load()
    done: list[Tensor] = [] if state is None else list(state["done"])
    rest: Sequence[int] = range(len(done), images)
    with context.bar(title, images) as bar:
        bar.update(len(done))
        for index, (image, target) in zip(rest, load(_Items(make), rest, context, batch=None), strict=True):
            done.append(measure(index, image, target))
            if len(done) % CHECKPOINT_EVERY == 0:
                checkpoint.save({"done": torch.stack(done)})
            bar.update(1)
    return torch.stack(done)
