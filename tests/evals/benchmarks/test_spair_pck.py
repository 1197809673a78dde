"""Correspondence on features whose matches are known."""

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from evals.benchmarks.base import Job, Outcome, find
from evals.benchmarks.spair_pck import SpairPck
from evals.context import Context, Roots
from evals.datasets.base import Images
from evals.datasets.spair import Pair, PairSplit
from evals.preprocess import Letterbox
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, ImageSpec

CARD = EncoderCard("fake", "fake", "fake", "none", "0" * 64, "Apache-2.0", 16, 224, "cls", text=False)


def _spec(patch: int = 16) -> ImageSpec:
    return ImageSpec(224, patch, "bicubic", True, "crop", (0.5,) * 3, (0.5,) * 3)


class _Encoder(Encoder):
    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        raise AssertionError("features come from the store")


class _Store:
    def __init__(self, maps: Tensor) -> None:
        self._maps = maps

    def get(self, request: Any) -> Tensor:
        assert request.patches
        return self._maps


def _pair(category: str, source: int, target: int, points: Any, truth: Any, **changes: Any) -> Pair:
    fields: dict[str, Any] = {
        "source_size": (128, 128),
        "target_size": (128, 128),
        "target_box": (0.0, 0.0, 100.0, 40.0),
        "name": f"{source:06d}-{source}-{target}:{category}",
    }
    first, second = np.array(points, dtype=np.float64), np.array(truth, dtype=np.float64)
    ids = tuple(str(i) for i in range(len(first)))
    return Pair(
        category=category, source=source, target=target, source_points_K2=first, target_points_K2=second,
        point_ids=ids, **{**fields, **changes},
    )  # fmt: skip


def _split(*pairs: Pair) -> PairSplit:
    count = 1 + max(max(pair.source, pair.target) for pair in pairs)
    images = Images("spair", tuple(Path(f"{i}.jpg") for i in range(count)), "f")
    categories = tuple(sorted({pair.category for pair in pairs}))
    return PairSplit("spair-71k", "test", images, "f", len(pairs), pairs, categories)


def _run(bench: SpairPck, tmp_path: Path, maps: Tensor, split: PairSplit, patch: int = 16) -> Outcome:
    context = Context(Roots({}), tmp_path, tmp_path)
    encoder = _Encoder(CARD, _spec(patch), dim=maps.shape[-1], depth=1)
    return bench.run(Job(encoder, cast(Any, _Store(maps)), (split,), context, tmp_path))


def _values(outcome: Outcome) -> dict[str, float]:
    return {score.name: cast(float, score.value) for score in outcome.metrics}


def _maps(n: int, cells: int, dim: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(n, cells, cells, dim, generator=torch.Generator().manual_seed(seed))


def test_counted_by_hand(tmp_path: Path) -> None:
    """Both images carry the same map, so that a point finds its own token: truths there are right, others wrong.

    On the 256 square of a 128 picture, the box of 100 x 40 is 200 pixels long: the bounds are 20 and 10 pixels.
    A source at (20, 36) is pixel (40, 72), the centre of token (2, 4); it is found at pixel (39, 71) or (40, 72) of
    that centre, the first in the raster, when the token is the best one.
    """
    maps = _maps(1, 16).repeat(3, 1, 1, 1)
    source = [[20, 36], [52, 60], [84, 20]]
    pairs = (
        _pair("cat", 0, 1, source, [[20, 36], [52, 60], [84, 20]]),
        _pair("cat", 1, 2, source[:1], [[20, 43]]),
        _pair("dog", 2, 0, source[:2], [[20, 36], [90, 60]]),
    )
    bench = SpairPck(side=256, draw=4)
    outcome = _run(bench, tmp_path, maps, _split(*pairs))
    samples, values = outcome.samples, _values(outcome)
    assert np.abs(samples["predicted"][0] - [40, 72]).max() <= 1
    assert samples["correct"].tolist() == [True, True, True, True, True, False]
    assert samples["pair"].tolist() == [0, 0, 0, 1, 2, 2]
    assert values["pck@0.1[all]"] == 75, "cat 4 of 4, dog 1 of 2"
    assert values["pck@0.05[all]"] == 62.5, "the point that is 14 pixels off is lost: cat 3 of 4"
    assert samples["pair_box_side"].tolist() == [200, 200, 200]
    assert samples["pair_drawn"].sum() == 8
    drawn = samples["pair_drawn"]
    right, total = 3 * drawn[0] + drawn[1], 3 * drawn[0] + drawn[1]
    assert values["pck@0.1"] == pytest.approx(50 * right / total + 25)
    assert outcome.notes["by_category"]["pck@0.05[all]"] == {"cat": 75, "dog": 50}
    assert [score.name for score in outcome.metrics if score.primary] == ["pck@0.1"]


def test_the_box_of_a_wide_target_scales_by_its_longer_side(tmp_path: Path) -> None:
    """A target of 128 x 64: scale 2, the box of 60 is 120 pixels long, the bound 12; a scale by the height gives 24.

    The truth lies 16 pixels beside the token, so another axis would count it as right.
    """
    maps = _maps(1, 16).repeat(2, 1, 1, 1)
    wide = {"target_size": (128, 64), "target_box": (0.0, 0.0, 60.0, 30.0)}
    # Source pixel (40, 136) is token (2, 8); in the letterbox of the wide target that is (20, 36) of the picture.
    pairs = (
        _pair("cat", 0, 1, [[20, 68], [20, 68]], [[20, 36], [28, 36]], **wide),
        _pair("cat", 0, 1, [[20, 68]], [[20, 36]], **wide),
    )
    outcome = _run(SpairPck(side=256, draw=1), tmp_path, maps, _split(*pairs))
    assert outcome.samples["correct"].tolist() == [True, False, True]
    assert outcome.samples["pair_box_side"].tolist() == [120, 120]


@pytest.mark.parametrize("renorm", ["before", "after"])
@pytest.mark.parametrize(("patch", "cells"), [(16, 16), (32, 8), (14, 18)])
def test_equals_the_usual_formulation(tmp_path: Path, patch: int, cells: int, renorm: Any) -> None:
    """Predictions from maps enlarged to every pixel, for strides of 16, 14 and 32."""
    maps = _maps(2, cells, 8, seed=patch)
    points = np.random.default_rng(patch).uniform(0, 127, (20, 2))
    pair = _pair("cat", 0, 1, points, points, source_size=(128, 96), target_size=(100, 128))
    bench = SpairPck(side=256, side_patch14=252, renorm=renorm)
    side = 252 if patch == 14 else 256
    outcome = _run(bench, tmp_path, maps, _split(pair), patch)

    big = maps.permute(0, 3, 1, 2)
    if patch == 32:
        big = functional.interpolate(big, size=(16, 16), mode="bilinear", antialias=True)
    if renorm == "before":
        big = functional.normalize(big, dim=1)
    big = functional.interpolate(big, size=(side, side), mode="bilinear")
    if renorm == "after":
        big = functional.normalize(big, dim=1)
    inset = (side - round(side * 96 / 128)) // 2
    pixels = np.rint(points * side / 128 + [0, inset]).clip(0, side - 1).astype(int)
    scores = big[0][:, pixels[:, 1], pixels[:, 0]].T @ big[1].flatten(1)
    predicted = torch.from_numpy(outcome.samples["predicted"].astype(np.int64))
    raster = predicted[:, 1] * side + predicted[:, 0]
    chosen = scores.gather(1, raster[:, None])[:, 0]
    assert (scores.max(1).values - chosen).abs().max() <= 1e-6
    assert (raster == scores.argmax(1)).float().mean() >= 0.9


def test_only_coarse_maps_are_brought_to_another_grid(tmp_path: Path) -> None:
    """Stride 32 is brought to the grid of patch 16 and the record says so; finer strides stay."""
    pair = _pair("cat", 0, 1, [[20, 36]], [[20, 36]])
    grids = {}
    for patch, cells in ((32, 8), (16, 16), (8, 32)):
        grids[patch] = _run(SpairPck(side=256), tmp_path, _maps(2, cells, 4), _split(pair), patch).preprocess["grid"]
    assert grids == {32: 16, 16: 16, 8: 32}


def test_squares_of_the_paper() -> None:
    """512 pixels for patch 16 and stride 32, 448 for patch 14: 32 x 32 tokens either way."""
    bench, split = SpairPck(), _split(_pair("cat", 0, 1, [[1, 1]], [[1, 1]]))
    sides = {patch: bench.requests(_spec(patch), (split,))[0].geometry for patch in (14, 16, 32)}
    assert sides == {14: Letterbox(448), 16: Letterbox(512), 32: Letterbox(512)}
    work = bench.work(_spec(14), (split,))
    assert [(item.images, item.rows, item.columns) for item in work] == [(2, 448, 448)]


def test_interval_is_over_target_images(tmp_path: Path) -> None:
    """Many pairs of one target are one cluster; the interval holds the value."""
    maps = _maps(12, 16, 8)
    generator = np.random.default_rng(0)
    pairs = [
        _pair("cat", i % 12, (5 * i + 1) % 12, generator.uniform(0, 127, (6, 2)), generator.uniform(0, 127, (6, 2)))
        for i in range(30)
    ]
    outcome = _run(SpairPck(side=256, draw=10, alphas=(1.0,)), tmp_path, maps, _split(*pairs))
    score = outcome.metrics[1]
    assert score.name == "pck@1[all]"
    assert score.ci is not None
    assert score.ci.cluster == "target image"
    assert score.ci.low < cast(float, score.value) < score.ci.high


def test_random_maps_fall_to_chance(tmp_path: Path) -> None:
    """Without any signal a point lands in the disc of 25.6 pixels with the share of its area, about 3 percent."""
    maps = _maps(40, 16, 16)
    generator = np.random.default_rng(1)
    pairs = [
        _pair("cat", 2 * i, 2 * i + 1, generator.uniform(0, 127, (30, 2)), generator.uniform(20, 108, (30, 2)),
              target_box=(0.0, 0.0, 128.0, 64.0))
        for i in range(20)
    ]  # fmt: skip
    outcome = _run(SpairPck(side=256, draw=20), tmp_path, maps, _split(*pairs))
    assert _values(outcome)["pck@0.1[all]"] == pytest.approx(100 * np.pi * 25.6**2 / 256**2, abs=3)


def test_two_runs_agree(tmp_path: Path) -> None:
    """Same features, same outcome."""
    maps = _maps(2, 16, 8)
    split = _split(_pair("cat", 0, 1, [[20, 36], [70, 9]], [[20, 36], [11, 50]]))
    first, again = (_run(SpairPck(side=256), tmp_path, maps, split) for _ in range(2))
    assert first.metrics == again.metrics
    assert all((first.samples[name] == again.samples[name]).all() for name in first.samples)


def test_protocols() -> None:
    """Constants of the paper and of the embedded world."""
    name, paper = SpairPck.of(None)
    assert name == "paper"
    assert (paper.side, paper.draw, paper.draw_seed, paper.alphas, paper.renorm) == (512, 100, 0, (0.1, 0.05), "before")
    name, small = SpairPck.of(None, world=True)
    assert (name, small.side, small.side_patch14) == ("miniature", 256, 224)


def test_listing_needs_no_torch() -> None:
    """The module stays light."""
    code = "import sys; from evals.benchmarks.base import find; find('spair-pck'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert find("spair-pck") is SpairPck
