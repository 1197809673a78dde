"""Which samples make which step: known in full before training starts, from (seed, epoch) alone.

So a run goes on at any step, and any number of processes sees the same global batches. Either all samples are shuffled,
or batches hold one modality and like lengths, as LLaVA-1.5 trains on conversations (`group_by_modality_length`; for
length alone, `group_by_length` of transformers). Imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from evals.datasets.llava import Talk
from evals.errors import DataError, UsageError


@dataclass(frozen=True, slots=True)
class Order:
    """The samples of an epoch, in whole steps."""

    indices_N: Int[np.ndarray, " N"]
    """The last step is filled up with the first samples again, as accelerate evens out its batches."""
    batch: int
    """Samples a step, over all processes."""
    micro: int
    """Samples whose loss is averaged together."""

    @property
    def steps(self) -> int:
        """Steps of the epoch."""
        return len(self.indices_N) // self.batch

    def micro_batches(self, step: int) -> list[list[int]]:
        """The samples of a step in micro-batches, whatever the number of processes."""
        start = step * self.batch
        return [self.indices_N[at : at + self.micro].tolist() for at in range(start, start + self.batch, self.micro)]

    def share(self, step: int, rank: int, ranks: int) -> list[list[int]]:
        """The micro-batches of a step that fall to one process: every `ranks`-th.

        Raises UsageError where they do not divide.
        """
        if self.batch // self.micro % ranks:
            raise UsageError(
                f"{self.batch // self.micro} micro-batches of {self.micro} do not divide into {ranks} processes."
            )
        return self.micro_batches(step)[rank::ranks]


def words(talk: Talk) -> int:
    """The length by which samples are grouped: words between blanks over all turns, the picture's marker included."""
    return sum(len(turn.text.split()) for turn in talk.turns)


def shuffled(samples: int, *, seed: int, epoch: int, batch: int, micro: int) -> Order:
    """All samples at random (alignment). Raises DataError where there are none."""
    return _whole_steps(_generator(seed, epoch).permutation(_some(samples)), batch, micro)


def grouped(
    lengths_N: Int[np.ndarray, " N"],
    shows_N: Bool[np.ndarray, " N"],
    *,
    seed: int,
    epoch: int,
    batch: int,
    micro: int,
) -> Order:
    """Steps of one modality, with or without a picture, and micro-batches of like sums of lengths (instruction).

    Each modality is shuffled and cut into steps; a step's samples are dealt to its micro-batches, the longest first,
    each to the one with the smallest sum that has room. The last step of either modality waits: both come at the end,
    in the order of the file, as the only samples that may mix; the others are shuffled. With one modality alone steps
    stay as cut. Raises DataError where there are no samples.
    """
    generator = _generator(seed, epoch)
    _some(len(lengths_N))
    cut = [
        _megabatches(generator.permutation(np.flatnonzero(shows_N == modality)), lengths_N, batch, micro)
        for modality in (True, False)
    ]
    if not all(cut):
        return _whole_steps(np.concatenate(cut[0] or cut[1]), batch, micro)
    tail = np.sort(np.concatenate([megabatches[-1] for megabatches in cut]))
    full = [megabatch for megabatches in cut for megabatch in megabatches[:-1]]
    drawn = [full[index] for index in generator.permutation(len(full))]
    return _whole_steps(np.concatenate([*drawn, tail]), batch, micro)


def padding_waste(lengths_N: Int[np.ndarray, " N"], order: Order, ranks: int = 1) -> float:
    """Share of an epoch's work that is padding, for lengths in tokens, the visual ones included.

    A row is padded to the longest of its micro-batch; `ranks` processes that go in step wait for the longest of the
    micro-batches that they take at once, which counts as padding too. Raises UsageError as `Order.share` does.
    """
    order.share(0, 0, ranks)
    rows = lengths_N[order.indices_N].reshape(-1, ranks * order.micro)
    return float(1 - rows.sum() / (rows.max(axis=1).sum() * ranks * order.micro))


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch])


def _some(samples: int) -> int:
    if samples == 0:
        raise DataError("there are no samples to train on.")
    return samples


def _whole_steps(indices: Int[np.ndarray, "_"], batch: int, micro: int) -> Order:
    if batch % micro:
        raise UsageError(f"a batch of {batch} does not divide into micro-batches of {micro}.")
    return Order(np.resize(indices, -(-len(indices) // batch) * batch), batch, micro)


def _megabatches(
    indices: Int[np.ndarray, "_"], lengths_N: Int[np.ndarray, " N"], batch: int, micro: int
) -> list[Int[np.ndarray, "_"]]:
    """The steps of a modality; the last may be short."""
    dealt = []
    for start in range(0, len(indices), batch):
        megabatch = indices[start : start + batch]
        # Stable, so that equal lengths stay in the order drawn.
        longest_first = megabatch[np.argsort(-lengths_N[megabatch], kind="stable")]
        dealt.append(np.array(_deal(longest_first.tolist(), lengths_N, batch // micro)))
    return dealt


def _deal(longest_first: Sequence[int], lengths_N: Int[np.ndarray, " N"], hands: int) -> list[int]:
    """Hand after hand. Where samples do not divide into equal hands, they go round in turn."""
    room, rest = divmod(len(longest_first), hands)
    if rest:
        return [index for hand in range(hands) for index in longest_first[hand::hands]]
    dealt: list[list[int]] = [[] for _ in range(hands)]
    sums = [0.0] * hands
    for index, length in zip(longest_first, lengths_N[longest_first].tolist(), strict=True):
        hand = sums.index(min(sums))
        dealt[hand].append(index)
        sums[hand] = sums[hand] + length if len(dealt[hand]) < room else math.inf
    return [index for hand in dealt for index in hand]
