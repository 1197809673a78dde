"""Samples depend on seed and step alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from evals.context import Context
from evals.errors import DataError
from evals.probes.loader import Samples


def make(index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The index and a draw."""
    if index == 99:
        raise DataError("image 99 is damaged")
    return torch.tensor(index), torch.tensor(rng.random())


def spoilt(index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Always damaged."""
    return make(99, rng)


def batches(samples: Samples, steps: range, context: Context) -> list[list[list[float]]]:
    """Batches as lists."""
    return [[images.tolist(), draws.tolist()] for images, draws in samples.batches(steps, context)]


def test_an_epoch_shows_every_image_once(context: Context) -> None:
    """Ten images in batches of three: nine different ones an epoch, in another order the next time."""
    found = [images for images, _ in batches(Samples(make, 10, batch=3, seed=1), range(6), context)]
    first, second = np.concatenate(found[:3]).tolist(), np.concatenate(found[3:]).tolist()
    assert len(set(first)) == len(set(second)) == 9
    assert first != second


def test_later_steps_can_be_made_alone(context: Context) -> None:
    """A killed training goes on with the batches that would have come."""
    samples = Samples(make, 10, batch=3, seed=1)
    assert batches(samples, range(8), context)[5:] == batches(samples, range(5, 8), context)
    assert batches(samples, range(8, 8), context) == []


def test_workers_change_nothing(context: Context) -> None:
    """Two processes make the batches of one."""
    samples = Samples(make, 10, batch=3, seed=1)
    assert batches(samples, range(4), context) == batches(samples, range(4), replace(context, workers=2))


def test_seeds_differ(context: Context) -> None:
    """Another seed, other orders and draws."""
    one, two = (batches(Samples(make, 10, batch=3, seed=seed), range(3), context) for seed in (1, 2))
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in zip(one, two, strict=True))


def test_a_set_smaller_than_a_batch_is_refused() -> None:
    """With the numbers and what to do."""
    with pytest.raises(DataError, match=r"batch of 16 images and the training split has 6.*-o BENCHMARK.batch=N"):
        Samples(make, 6, batch=16, seed=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_gives_its_own_message(context: Context, workers: int) -> None:
    """The message of the reader, not the traceback of a worker process."""
    with pytest.raises(DataError, match=r"^image 99 is damaged$"):
        batches(Samples(spoilt, 4, batch=2, seed=0), range(1), replace(context, workers=workers))


def test_loading_leaves_the_global_generator_alone(context: Context) -> None:
    """No draw comes from global state."""
    before = torch.get_rng_state()
    batches(Samples(make, 4, batch=2, seed=0), range(2), context)
    assert torch.equal(before, torch.get_rng_state())
