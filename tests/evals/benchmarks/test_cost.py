"""Operations and parameters against closed forms; latency for its bookkeeping."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evals.benchmarks.base import Job, Outcome, find
from evals.benchmarks.cost import Cost, count_operations
from evals.context import Context, Roots
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, ImageSpec

CARD = EncoderCard("fake", "fake", "fake", "none", "0" * 64, "Apache-2.0", 16, 64, "cls", text=False)
DIM = 8


class _Attention(Encoder):
    """A patch convolution and one attention, through torch's fused kernel."""

    def __init__(self, patch: int = 16, card: EncoderCard = CARD) -> None:
        super().__init__(card, ImageSpec(64, patch, "bicubic", True, "crop", (0.5,) * 3, (0.5,) * 3), dim=DIM, depth=1)
        self.patches = nn.Conv2d(3, DIM, patch, patch, bias=False)
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.passes = 0

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        self.passes += 1
        tokens = self.patches(images_B3YX).permute(0, 2, 3, 1)
        rows, columns = tokens.shape[1:3]
        query, key, value = self.qkv(tokens.flatten(1, 2))[:, None].chunk(3, dim=-1)
        mixed = functional.scaled_dot_product_attention(query, key, value)[:, 0]
        return Features(None, mixed.reshape(len(mixed), rows, columns, DIM))


def _operations(tokens: int, patch: int) -> int:
    """2 x multiply-accumulates: convolution, q k v, and the two products of attention."""
    return 2 * (tokens * DIM * 3 * patch**2 + tokens * DIM * 3 * DIM + 2 * tokens**2 * DIM)


def _run(bench: Cost, encoder: _Attention, tmp_path: Path) -> Outcome:
    context = Context(Roots({}), tmp_path, tmp_path)
    return bench.run(Job(encoder, cast(Any, None), (), context, tmp_path))


def _values(outcome: Outcome) -> dict[str, float]:
    return {score.name: cast(float, score.value) for score in outcome.metrics}


def test_operations_have_their_closed_form(tmp_path: Path) -> None:
    """16 tokens at 64 pixels, 64 at 128: attention grows with the square of the tokens."""
    outcome = _run(Cost(sides=(64, 128), repeats=2, warmup=0), _Attention(), tmp_path)
    assert _values(outcome)["gflops@64"] == pytest.approx(_operations(16, 16) / 1e9)
    assert _values(outcome)["gflops@128"] == pytest.approx(_operations(64, 16) / 1e9)
    assert "2 x multiply-accumulates" in outcome.notes["flops"]


def test_operations_do_not_depend_on_the_picture() -> None:
    """Black and noise count the same."""
    encoder = _Attention()
    assert count_operations(encoder, torch.zeros(1, 3, 64, 64)) == count_operations(encoder, torch.rand(1, 3, 64, 64))


def test_sides_go_to_the_patch(tmp_path: Path) -> None:
    """With a patch of 14 the sides 256 and 512 become 252 and 518; names keep the protocol's numbers."""
    outcome = _run(Cost(repeats=1, warmup=0), _Attention(patch=14), tmp_path)
    assert outcome.preprocess["sides_used"] == {"256": 252, "512": 518}
    assert _values(outcome)["gflops@256"] == pytest.approx(_operations(18**2, 14) / 1e9)
    assert _values(outcome)["gflops@512"] == pytest.approx(_operations(37**2, 14) / 1e9)


def test_parameters_in_millions(tmp_path: Path) -> None:
    """Every parameter, or what the adapter says of its image tower."""
    bench = Cost(sides=(64,), repeats=1, warmup=0)
    counted = 3 * DIM * 16**2 + 3 * DIM**2
    assert _values(_run(bench, _Attention(), tmp_path))["params"] == pytest.approx(counted / 1e6)
    told = _Attention(card=replace(CARD, params=5_000_000))
    assert _values(_run(bench, told, tmp_path))["params"] == 5


def test_latency_and_its_spread(tmp_path: Path) -> None:
    """Median between the 10th and 90th percentile, in milliseconds, with hardware and threads beside it."""
    encoder = _Attention()
    outcome = _run(Cost(sides=(64,), repeats=9, warmup=2), encoder, tmp_path)
    spread = outcome.notes["latency"]
    assert 0 < spread["latency@64"]["p10"] <= _values(outcome)["latency@64"] <= spread["latency@64"]["p90"]
    assert (spread["repeats"], spread["warmup"], spread["batch"], spread["unit"]) == (9, 2, 1, "ms")
    assert outcome.notes["threads"] == torch.get_num_threads()
    assert outcome.notes["hardware"]
    assert encoder.passes == 12, "one counted, two to warm up, nine timed"
    assert Cost(sides=(64,), repeats=9, warmup=2).work(encoder.spec, ())[0].images == 12


def test_the_headline_is_the_operations_at_256() -> None:
    """Lower is better for all of them, and no data are needed."""
    bench = Cost()
    assert bench.sides == (256, 512)
    assert bench.splits(Roots({}), cast(Any, None)) == ()
    assert list(Cost.protocols) == ["paper", "miniature"]
    assert Cost.of(None, world=True)[1].sides == bench.sides


def test_scores_are_marked(tmp_path: Path) -> None:
    """One primary score; nothing here is better when it is higher."""
    outcome = _run(Cost(sides=(64, 128), repeats=1, warmup=0), _Attention(), tmp_path)
    names = ["gflops@64", "gflops@128", "params", "latency@64", "latency@128"]
    assert [score.name for score in outcome.metrics] == names
    assert [score.name for score in outcome.metrics if score.primary] == ["gflops@64"]
    assert not any(score.higher_is_better for score in outcome.metrics)


def test_listing_needs_no_torch() -> None:
    """The module stays light."""
    code = "import sys; from evals.benchmarks.base import find; find('cost'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert find("cost") is Cost
