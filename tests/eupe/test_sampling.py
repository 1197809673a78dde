"""Data order: a permutation computed item by item, the same for any number of processes and from any step on."""

from collections import Counter

import numpy as np
import pytest

from eupe.sampling import Mixture, StepSampler, permute, scales


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 1000, 4097])
def test_a_permutation_of_any_size(count: int) -> None:
    """Every item once; another seed or epoch gives another order."""
    items = permute(np.arange(count), count, 0, 0)
    assert sorted(items) == list(range(count))
    if count > 16:
        assert (permute(np.arange(count), count, 0, 1) != items).any()
        assert (permute(np.arange(count), count, 1, 0) != items).any()


def test_a_huge_permutation_is_computed_where_it_is_needed() -> None:
    """Items of 1.689 billion without a table, spread evenly and without repeats."""
    items = permute(np.arange(10**9, 10**9 + 20_000), 1_689_000_000, 3, 2)
    assert len(np.unique(items)) == 20_000
    counts = np.histogram(items, bins=10, range=(0, 1_689_000_000))[0]
    # Binomial: 2000 expected a tenth, 42 the deviation.
    assert (np.abs(counts - 2000) < 5 * 42).all()


def test_no_item_twice_in_an_epoch() -> None:
    """Batches that do not divide the source end an epoch in their middle."""
    mixture = Mixture((10,), (1.0,), 0)
    seen = np.concatenate([mixture.items(step, 4)[1] for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert list(seen[:10]) != list(seen[10:])


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_processes_share_the_same_global_batch(ranks: int) -> None:
    """Together they see what one would, disjointly, with the same positions."""
    mixture = Mixture((100, 50), (0.5, 0.5), 0)
    parts = [list(StepSampler(mixture, range(3, 6), batch=8, rank=rank, ranks=ranks)) for rank in range(ranks)]
    alone = list(StepSampler(mixture, range(3, 6), batch=8))
    for step in range(3):
        keys = [key for part in parts for key in part[step]]
        assert sorted(keys) == sorted(alone[step])
        assert len(set(keys)) == 8


def test_starting_later_is_the_same_stream() -> None:
    """Resuming at step 7 gives what an undisturbed run sees from step 7 on."""
    mixture = Mixture((1000, 10), (0.9, 0.1), 5)
    assert list(StepSampler(mixture, range(10), batch=4))[7:] == list(StepSampler(mixture, range(7, 10), batch=4))


def test_sources_come_as_often_as_asked() -> None:
    """Whole batches of the second source at 10 %, within three deviations."""
    drawn = [Mixture((1, 1), (0.9, 0.1), 0).sources(step, 3) for step in range(4000)]
    assert all(len(set(sources)) == 1 for sources in drawn)
    counts = Counter(int(sources[0]) for sources in drawn)
    assert abs(counts[1] / 4000 - 0.1) < 3 * (0.1 * 0.9 / 4000) ** 0.5


def test_sources_can_be_mixed_within_a_batch() -> None:
    """Every image is drawn by itself, at the same shares, and is an item of its source."""
    mixture = Mixture((1000, 7), (0.9, 0.1), 0, whole=False)
    sources, items = (
        np.concatenate(parts) for parts in zip(*(mixture.items(step, 40) for step in range(100)), strict=True)
    )
    assert abs((sources == 1).mean() - 0.1) < 3 * (0.1 * 0.9 / 4000) ** 0.5
    assert {0, 1} == set(mixture.items(0, 40)[0])
    assert items[sources == 1].max() == 6
    assert items[sources == 0].max() > 900


def test_scales_of_student_and_teacher_are_independent() -> None:
    """Nine pairs, each about as often as another, and the same at every call."""
    sides = (256, 384, 512)
    picks = [scales(0, step, sides, sides) for step in range(3600)]
    assert picks == [scales(0, step, sides, sides) for step in range(3600)]
    counts = Counter(picks)
    assert len(counts) == 9
    # Binomial: 400 expected, 19 the deviation.
    assert all(abs(count - 400) < 5 * 19 for count in counts.values())


def test_each_side_is_drawn_from_its_own_list() -> None:
    """A teacher that stays at its own size is given none, whatever the student draws."""
    assert {scales(0, step, (256, 384), (64,)) for step in range(50)} == {(256, 64), (384, 64)}
    assert {scales(0, step, (256,), (64, 96)) for step in range(50)} == {(256, 64), (256, 96)}
    assert {scales(0, step, (256, 384), ()) for step in range(50)} == {(256, None), (384, None)}
