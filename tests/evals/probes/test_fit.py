"""The training loop: learning, resuming, guarding."""

import math
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evals.context import Bar, Context
from evals.errors import NumericsError
from evals.probes.fit import Recipe, State, Training, fit, rope_scales
from evals.probes.frozen import FrozenMaps
from evals.probes.heads import SegmentationHead, upsample
from evals.probes.loader import Samples
from evals.probes.losses import pixel_cross_entropy
from evals.probes.resume import Checkpoint


def make(index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A noisy picture whose class is its brighter half; one class an image."""
    label = index % 2
    image = torch.from_numpy(rng.random((3, 32, 32), dtype=np.float32)) * 0.4
    image[label] += 0.5
    return image, torch.full((32, 32), label, dtype=torch.uint8)


def loss(logits: Tensor, labels: Tensor, step: int) -> Tensor:
    """Cross-entropy at the size of the labels."""
    return pixel_cross_entropy(upsample(logits, 32, 32), labels)


def training(steps: int = 20, snapshots: tuple[int, ...] = (10, 20), dropout: float = 0.3) -> Training:
    """A head of two classes."""
    recipe = Recipe(
        steps=steps,
        batch=4,
        rate=lambda step: 0.05,
        betas=lambda step: (0.9 if step < 12 else 0.5, 0.99),
        weight_decay=1e-3,
        snapshots=snapshots,
        dropout=dropout,
        clip=35.0,
        rescaled_steps=5,
    )
    head = SegmentationHead(3, 2, batch_norm=True, generator=torch.Generator().manual_seed(0))
    return Training(
        "toy head", head, loss, Samples(make, 10, batch=4, seed=3), [f"image {i}" for i in range(10)], recipe
    )


def equal(one: State, two: State) -> bool:
    """Bit for bit."""
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


class Killed(Exception):
    """The process dies here."""


class Fuse:
    """A bar that breaks after some advances."""

    def __init__(self, advances: int) -> None:
        self.left = advances

    def update(self, n: int = 1) -> None:
        """Advance, or die."""
        self.left -= n
        if self.left < 0:
            raise Killed

    def __call__(self, title: str, total: int) -> AbstractContextManager[Bar]:
        """Itself."""
        return self

    def __enter__(self) -> "Fuse":
        return self

    def __exit__(self, *exc: object) -> None: ...


def test_the_head_learns(toy: type, context: Context, tmp_path: Path) -> None:
    """Two brightness classes are told apart after twenty steps."""
    states = fit(training(), FrozenMaps(toy(), "cpu", "fp32"), context, Checkpoint(tmp_path / "head.pt", "w"))
    assert list(states) == [10, 20]
    head = SegmentationHead(3, 2, batch_norm=True, generator=torch.Generator()).eval()
    head.load_state_dict(states[20])
    maps = torch.tensor([[0.7, 0.2, 0.2], [0.2, 0.7, 0.2]])[:, :, None, None]
    assert head(maps).argmax(1).flatten().tolist() == [0, 1]


@pytest.mark.parametrize("dies_at", [0, 10, 14, 19])
def test_a_killed_training_goes_on_bit_for_bit(toy: type, context: Context, tmp_path: Path, dies_at: int) -> None:
    """Twenty steps equal some, a death, and the rest."""
    maps = FrozenMaps(toy(), "cpu", "fp32")
    whole = fit(training(), maps, context, Checkpoint(tmp_path / "whole.pt", "w"))
    checkpoint = Checkpoint(tmp_path / "head.pt", "w")
    with pytest.raises(Killed):
        fit(training(), maps, replace(context, bar=Fuse(dies_at)), checkpoint)
    assert (checkpoint.load() is not None) == (dies_at >= 9)
    resumed = fit(training(), maps, context, checkpoint)
    assert list(resumed) == list(whole) and all(equal(resumed[step], whole[step]) for step in whole)


def test_a_finished_training_is_not_repeated(toy: type, context: Context, tmp_path: Path) -> None:
    """The second call makes no forward pass and its head is the trained one."""
    checkpoint = Checkpoint(tmp_path / "head.pt", "w")
    first = fit(training(), FrozenMaps(toy(), "cpu", "fp32"), context, checkpoint)
    encoder, again = toy(), training()
    second = fit(again, FrozenMaps(encoder, "cpu", "fp32"), context, checkpoint)
    assert encoder.sizes == [] and equal(first[20], second[20])
    assert equal(second[20], dict(again.head.state_dict()))


def test_rotary_scales_are_given_for_the_first_steps_only(toy: type, context: Context, tmp_path: Path) -> None:
    """Five of twenty steps; an encoder without rotary positions takes none."""
    with_rope, without = toy(), toy(rope_blocks=0)
    for name, encoder in (("a", with_rope), ("b", without)):
        fit(training(), FrozenMaps(encoder, "cpu", "fp32"), context, Checkpoint(tmp_path / name, "w"))
    assert [scales is not None for scales in with_rope.scales] == [True] * 5 + [False] * 15
    assert not torch.equal(with_rope.scales[0], with_rope.scales[1])
    assert without.scales == [None] * 20


def test_rotary_scales_are_log_uniform_between_a_half_and_two() -> None:
    """Mean 0 and deviation ln 4 / sqrt 12 of the logarithm, every block with a draw of its own."""
    logs = torch.stack([rope_scales(12, 0, step) for step in range(400)]).log()
    assert logs.abs().max() <= math.log(2) + 1e-6 and logs.abs().max() > 0.68
    assert logs.mean().item() == pytest.approx(0, abs=0.02)
    assert logs.std().item() == pytest.approx(math.log(4) / math.sqrt(12), rel=0.03)
    assert len(set(logs[0].tolist())) == 12


def test_rates_and_momenta_follow_the_step(toy: type, context: Context, tmp_path: Path) -> None:
    """With a clip far below epsilon only weight decay moves the weights: by 1 - rate x decay, step by step."""
    task, asked = training(steps=2, snapshots=(2,)), []
    start = task.head.state_dict()["classify.weight"].clone()

    def betas(step: int) -> tuple[float, float]:
        asked.append(step)
        return 0.9, 0.99

    recipe = replace(task.recipe, clip=1e-30, rate=lambda step: 5.0 * (step + 1), betas=betas)
    still = replace(task, recipe=recipe)
    states = fit(still, FrozenMaps(toy(), "cpu", "fp32"), context, Checkpoint(tmp_path / "head.pt", "w"))
    expected = start * (1 - 5e-3) * (1 - 10e-3)
    torch.testing.assert_close(states[2]["classify.weight"], expected, rtol=1e-6, atol=1e-9)
    assert asked == [0, 0, 1]  # to build the optimiser, then for each step


def test_a_loss_that_is_not_finite_stops(toy: type, context: Context, tmp_path: Path) -> None:
    """With encoder, step and images."""
    task = replace(training(), loss=lambda logits, labels, step: logits.sum() * (math.nan if step == 3 else 1.0))
    with pytest.raises(NumericsError, match=r"toy head on toy is not finite at step 3 \(images image \d"):
        fit(task, FrozenMaps(toy(), "cpu", "fp32"), context, Checkpoint(tmp_path / "head.pt", "w"))


def test_features_that_are_not_finite_stop(toy: type, context: Context, tmp_path: Path) -> None:
    """With encoder, image and step."""
    with pytest.raises(NumericsError, match=r"toy .*not finite for image \d+ \(toy head, step 0\)"):
        fit(training(), FrozenMaps(toy(spoil=0.1), "cpu", "fp32"), context, Checkpoint(tmp_path / "head.pt", "w"))
