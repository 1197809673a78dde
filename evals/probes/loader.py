"""Training samples that depend on nothing but seed and step, so that a killed training goes on with the same ones."""

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from evals.context import Context
from evals.device import generator
from evals.errors import DataError, EvalError

Sample = tuple[Tensor, Tensor]
"""An image (RGB in [0, 1]) and its target; in a batch with a leading B."""
Make = Callable[[int, np.random.Generator], Sample]
"""Reads and augments the image with this index; must travel to worker processes."""


class Stream(IntEnum):
    """What a random draw of head training is for: the key that follows the seed."""

    EPOCH = 1
    SAMPLE = 2
    HEAD = 3
    DROPOUT = 4
    ROPE = 5


class Samples(Dataset[Sample | EvalError]):
    """Item `step * batch + position`: every epoch in an order of its own, its incomplete last batch dropped.

    Raises DataError for a set that is smaller than a batch.
    """

    def __init__(self, make: Make, images: int, *, batch: int, seed: int) -> None:
        if images < batch:
            raise DataError(
                f"head training needs at least one batch of {batch} images and the training split has {images}. "
                "Raise --limit, or take a smaller batch with -o BENCHMARK.batch=N."
            )
        self._make, self._images, self._batch, self._seed = make, images, batch, seed

    def image(self, index: int) -> int:
        """The index of the image that is item `index`."""
        step, position = divmod(index, self._batch)
        epoch, within = divmod(step, self._images // self._batch)
        return int(_order(self._seed, epoch, self._images)[within * self._batch + position])

    def __getitem__(self, index: int) -> Sample | EvalError:
        step, position = divmod(index, self._batch)
        try:
            return self._make(self.image(index), generator(self._seed, Stream.SAMPLE, step, position))
        except EvalError as error:
            # Raised in a worker process it would come out wrapped in that process's traceback.
            return error

    def batches(self, steps: range, context: Context) -> Iterator[Sample]:
        """The batches of these steps, made by the context's worker processes. Raises what reading an image raised."""
        items = range(steps.start * self._batch, steps.stop * self._batch)
        return load(self, items, context, batch=self._batch, collate=_collate)


def load(
    items: Dataset[Sample | EvalError],
    indices: Sequence[int],
    context: Context,
    *,
    batch: int | None,
    collate: "Callable[[list[Sample | EvalError]], Sample | EvalError] | None" = None,
) -> Iterator[Sample]:
    """Items in the order of `indices`, in batches or (None) one by one; an item that is an error is raised here."""
    loader = DataLoader(
        items,
        sampler=indices,
        batch_size=batch,
        collate_fn=collate,
        num_workers=min(context.workers, len(indices)),
        pin_memory=torch.device(context.device).type == "cuda",
        generator=torch.Generator(),  # else it would move the global one
    )
    for item in loader:
        if isinstance(item, EvalError):
            raise item
        image, target = item
        yield image, target


def _collate(items: list[Sample | EvalError]) -> Sample | EvalError:
    for item in items:
        if isinstance(item, EvalError):
            return item
    images, targets = default_collate(items)
    return images, targets


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    return generator(seed, Stream.EPOCH, epoch).permutation(images)
