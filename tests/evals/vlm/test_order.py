"""The order of samples: known in advance, the same for every number of processes, grouped as LLaVA-1.5 groups."""

from collections.abc import Callable

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from evals.datasets.llava import Talk, Turn
from evals.errors import DataError, UsageError
from evals.vlm.order import Order, grouped, padding_waste, shuffled, words

BATCH, MICRO = 24, 4


def lengths_and_modalities(samples: int, text_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Long-tailed lengths; text alone is longer, as ShareGPT is."""
    rng = np.random.default_rng(3)
    shows = rng.random(samples) >= text_share
    lengths = np.where(shows, rng.geometric(1 / 60, samples), rng.geometric(1 / 300, samples))
    return lengths.astype(np.int64), shows


def mixed(seed: int = 0, epoch: int = 0, samples: int = 1000) -> Order:
    """Grouped, with text in a tenth of the samples."""
    lengths, shows = lengths_and_modalities(samples, 0.1)
    return grouped(lengths, shows, seed=seed, epoch=epoch, batch=BATCH, micro=MICRO)


def plain(seed: int = 0, epoch: int = 0, samples: int = 1000) -> Order:
    """Shuffled."""
    return shuffled(samples, seed=seed, epoch=epoch, batch=BATCH, micro=MICRO)


@pytest.mark.parametrize("make", [mixed, plain])
def test_an_epoch_has_every_sample_once(make: Callable[..., Order]) -> None:
    """1000 samples are 42 steps of 24; the last is filled with the first 8 samples again."""
    order = make()
    assert order.steps == 42
    assert sorted(order.indices_N[:1000]) == list(range(1000))
    assert order.indices_N[1000:].tolist() == order.indices_N[:8].tolist()


@pytest.mark.parametrize("make", [mixed, plain])
def test_the_order_is_a_function_of_seed_and_epoch(make: Callable[..., Order]) -> None:
    """Made again it is the same; another seed or epoch gives another; the global generator stays out."""
    np.random.seed(1)
    first = make(seed=1, epoch=2).indices_N
    np.random.seed(2)
    assert np.array_equal(first, make(seed=1, epoch=2).indices_N)
    assert not np.array_equal(first, make(seed=2, epoch=2).indices_N)
    assert not np.array_equal(first, make(seed=1, epoch=3).indices_N)


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_any_number_of_processes_sees_the_same_steps(ranks: int) -> None:
    """Shares together are the step's micro-batches, each in one share."""
    order = mixed()
    for step in (0, 17, 41):
        shares = [order.share(step, rank, ranks) for rank in range(ranks)]
        assert sorted(micro for share in shares for micro in share) == sorted(order.micro_batches(step))
        assert {len(share) for share in shares} == {6 // ranks}


def test_shares_are_those_of_accelerate() -> None:
    """Batches of each of its processes, the filled ones of the last step too."""
    order = plain()
    for rank in range(6):
        sampler = BatchSampler(order.indices_N[:1000].tolist(), MICRO, drop_last=False)
        theirs = list(BatchSamplerShard(sampler, num_processes=6, process_index=rank))
        assert theirs == [order.share(step, rank, 6)[0] for step in range(order.steps)]


def test_steps_have_one_modality_but_for_the_tail() -> None:
    """Only the last step of either modality waits for the end; there the order is that of the file."""
    samples = 1000
    _, shows = lengths_and_modalities(samples, 0.1)
    order = mixed()
    pictures, texts = int(shows.sum()), int((~shows).sum())
    tail = (pictures % BATCH or BATCH) + (texts % BATCH or BATCH)
    pure = (samples - tail) // BATCH
    kinds = [set(shows[order.indices_N[step * BATCH : (step + 1) * BATCH]].tolist()) for step in range(pure)]
    assert {len(kind) for kind in kinds} == {1}
    assert kinds.count({False}) == (texts - 1) // BATCH > 1
    assert kinds != sorted(kinds, key=lambda kind: kind == {False})
    assert order.indices_N[pure * BATCH : samples].tolist() == sorted(order.indices_N[pure * BATCH : samples])


def test_dealing_by_hand() -> None:
    """Two hands of three: 9 to the first, 8 and 2 to the second, then 7 to the first, 1 and 0 where there is room."""
    lengths = np.array([1, 9, 2, 8, 0, 7])
    order = grouped(lengths, np.ones(6, dtype=bool), seed=0, epoch=0, batch=6, micro=3)
    # 9 | 8; the second has less: 7; then 16 > 15 no more: 9 + 2, 9 + 2 + 1, and 0 for the place that is left.
    assert [lengths[micro].tolist() for micro in order.micro_batches(0)] == [[9, 2, 1], [8, 7, 0]]


def test_an_uneven_rest_goes_round() -> None:
    """Five samples of one modality for hands of three: every second of the sorted ones, then the first again."""
    lengths = np.array([1, 9, 2, 8, 7])
    order = grouped(lengths, np.zeros(5, dtype=bool), seed=0, epoch=0, batch=6, micro=3)
    assert lengths[order.indices_N].tolist() == [9, 7, 1, 8, 2, 9]


def test_one_modality_alone_sets_no_step_aside() -> None:
    """Steps are consecutive parts of a permutation, sorted and dealt; the short one is last."""
    lengths = np.arange(20)
    order = grouped(lengths, np.ones(20, dtype=bool), seed=5, epoch=1, batch=8, micro=4)
    drawn = np.random.default_rng([5, 1]).permutation(20)
    steps = [set(order.indices_N[:20][at : at + 8].tolist()) for at in (0, 8, 16)]
    assert steps == [set(drawn[at : at + 8].tolist()) for at in (0, 8, 16)]


def test_micro_batches_have_like_sums() -> None:
    """Dealing brings the sums of a step closer together than drawing does."""
    lengths, _ = lengths_and_modalities(1000, 0.1)
    spread = [
        np.mean([np.ptp([lengths[micro].sum() for micro in order.micro_batches(step)]) for step in range(38)])
        for order in (mixed(), plain())
    ]
    assert spread[0] < 0.5 * spread[1]


def test_padding_waste_by_hand() -> None:
    """Rows of 4 and 2, then 1 and 1: 2 of 10 places are padding; in step, 8 of 16 are padding or waiting."""
    order = Order(np.array([0, 1, 2, 3]), 4, 2)
    assert padding_waste(np.array([4, 2, 1, 1]), order) == pytest.approx(0.2)
    assert padding_waste(np.array([4, 2, 1, 1]), order, ranks=2) == pytest.approx(0.5)


def test_grouping_saves_waiting() -> None:
    """Six processes in step compute fewer places for the same samples."""
    words_N, shows = lengths_and_modalities(20_000, 0.06)
    lengths = words_N + 300 * shows
    orders = (
        grouped(words_N, shows, seed=0, epoch=0, batch=BATCH, micro=MICRO),
        shuffled(20_000, seed=0, epoch=0, batch=BATCH, micro=MICRO),
    )
    places = [1 / (1 - padding_waste(lengths, order, ranks=6)) for order in orders]
    assert places[0] < 0.97 * places[1]


def test_words_are_counted_between_blanks() -> None:
    """Over all turns, the marker too."""
    talk = Talk("1", None, (Turn("human", "<image>\nWhat  colour?"), Turn("gpt", "Red.")))
    assert words(talk) == 4


def test_what_does_not_divide_is_told() -> None:
    """Batches into micro-batches, micro-batches into processes, and nothing into anything."""
    with pytest.raises(UsageError, match="batch of 24 does not divide into micro-batches of 5"):
        shuffled(10, seed=0, epoch=0, batch=24, micro=5)
    with pytest.raises(UsageError, match="6 micro-batches of 4 do not divide into 4 processes"):
        plain().share(0, 0, 4)
    with pytest.raises(DataError, match="no samples"):
        plain(samples=0)
    with pytest.raises(DataError, match="no samples"):
        mixed(samples=0)
