"""nyuv2-linear from files to scores, on frames whose brightness is their depth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torch.nn import functional

from evals.benchmarks.base import Job, Outcome, find
from evals.benchmarks.nyuv2_linear import Nyuv2Linear
from evals.context import Context, Roots
from evals.datasets.base import Images
from evals.datasets.nyuv2 import DepthSplit
from evals.errors import DataError
from evals.files import DigestMemo
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, ImageSpec


class Brightness(Encoder):
    """The mean grey of each 8-pixel patch, its square and its root; notes its rotary scales and sizes."""

    def __init__(self, patch: int = 8) -> None:
        card = EncoderCard("brightness", "toy", "toy", "none", "0" * 64, "none", patch, 32, "none", text=False)
        spec = ImageSpec(32, patch, "bilinear", True, "crop", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        super().__init__(card, spec, dim=3, depth=1, rope_blocks=2)
        self.scales: list[Tensor | None] = []
        self.sizes: list[tuple[int, ...]] = []

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """Grey in three powers."""
        self.scales.append(ask.rope_scales_L)
        self.sizes.append(tuple(images_B3YX.shape))
        grey = functional.avg_pool2d(images_B3YX, self.spec.patch).mean(1)
        return Features(None, (grey[..., None] ** grey.new_tensor([0.5, 1.0, 2.0])))


def paint(folder: Path, part: str, count: int, *, blank: tuple[int, ...] = ()) -> DepthSplit:
    """Frames of 60 x 80 with a ramp of depth from 1 to 9 m, brighter where farther; `blank` frames know no depth."""
    images, depths = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng([len(part), i])
        low, high = np.sort(rng.uniform(1, 9, 2))
        metres = np.linspace(low, high, 80)[None].repeat(60, 0)
        metres = metres[:, ::-1] if i % 2 else metres
        pixels = (25 * metres)[..., None].repeat(3, -1)
        images.append(folder / f"{part}{i:03d}.png")
        depths.append(folder / f"{part}{i:03d}_depth.png")
        Image.fromarray(pixels.astype(np.uint8)).save(images[-1])
        known = np.zeros((60, 80)) if i in blank else 1000 * metres
        Image.fromarray(known.astype(np.uint16)).save(depths[-1])
    shown = Images(f"nyuv2/{part}", tuple(images), part)
    return DepthSplit("nyuv2", part, shown, part, count, tuple(depths))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[Outcome, Brightness]]:
    """Runs the benchmark on painted frames."""
    splits = paint(tmp_path / "data", "train", 12), paint(tmp_path / "data", "test", 5)

    def call(
        *, splits: Any = splits, context: dict[str, Any] | None = None, patch: int = 8, **changes: Any
    ) -> tuple[Outcome, Brightness]:
        small = {"batch": 4, "steps": 80, "warmup": 20, "rate": 0.05, "rescaled_steps": 80}
        _, benchmark = Nyuv2Linear.of("miniature", **{**small, **changes})
        encoder = Brightness(patch)
        surroundings = Context(Roots({}), tmp_path / "results", tmp_path / "cache", **(context or {}))
        checkpoints = tmp_path / f"job{len(list(tmp_path.iterdir()))}"
        return benchmark.run(Job(encoder, None, splits, surroundings, checkpoints)), encoder  # type: ignore[arg-type]

    return call


def test_constants_of_the_protocols() -> None:
    """The published ones, and where the paper's text departs."""
    official, paper = (Nyuv2Linear.of(name)[1] for name in (None, "paper"))
    expected = {
        "crop_rows": 416, "crop_columns": 544, "batch": 16, "steps": 38_400, "rate": 3e-4, "weight_decay": 1e-3,
        "warmup": 12_800, "clip": 35.0, "mean_only_steps": 100, "rescaled_steps": 38_400, "head_seed": 42,
        "dtype": "fp32", "limit": None,
    }  # fmt: skip
    assert official.params() == expected
    assert paper.changed("official") == {"steps": 38_000, "rescaled_steps": 0}
    assert Nyuv2Linear.of(None, world=True)[0] == "miniature" and find("nyuv2-linear") is Nyuv2Linear


def test_depth_is_learnt_from_brightness(run: Callable[..., tuple[Outcome, Brightness]]) -> None:
    """Far below the error of the best constant; scores are the means of the samples."""
    outcome, encoder = run()
    scores = {score.name: score for score in outcome.metrics}
    assert list(scores) == ["rmse", "a1", "abs_rel"] and scores["rmse"].primary
    assert not scores["rmse"].higher_is_better and scores["rmse"].unit == "m" and scores["a1"].higher_is_better
    for name, score in scores.items():
        assert score.value is not None and score.value == pytest.approx(outcome.samples[name].mean())
        assert outcome.samples[name].shape == (5,)
        assert score.ci is not None and score.ci.low <= score.value <= score.ci.high
    assert scores["rmse"].value is not None and scores["rmse"].value < 0.9
    # Crops of 48 x 64 in frames of 60 x 80; frames go in whole (60 rows as 56), with their mirror images.
    assert encoder.sizes[0] == (4, 3, 48, 64) and encoder.sizes[-1] == (2, 3, 56, 80)
    assert outcome.preprocess["frame"] == {"protocol": [60, 80], "encoder": [56, 80]}
    assert outcome.notes["frames_without_depth"] == 0


def test_rotary_scales_follow_the_protocol(run: Callable[..., tuple[Outcome, Brightness]]) -> None:
    """Every training step in official, none in paper, and none in the test."""
    _, official = run(steps=6, rescaled_steps=6)
    _, paper = run(steps=6, rescaled_steps=0)
    assert [scale is not None for scale in official.scales] == [True] * 6 + [False] * 5
    assert paper.scales == [None] * 11


def test_two_runs_are_equal_and_seeds_differ(run: Callable[..., tuple[Outcome, Brightness]]) -> None:
    """Whatever the workers."""
    one, two = run(steps=12)[0], run(steps=12, context={"workers": 2})[0]
    assert one.metrics == two.metrics and np.array_equal(one.samples["rmse"], two.samples["rmse"])
    assert one.metrics != run(steps=12, context={"seed": 1})[0].metrics


def test_frames_without_depth_are_left_out_and_counted(
    run: Callable[..., tuple[Outcome, Brightness]], tmp_path: Path
) -> None:
    """The mean is over the others; a set without any depth is an error."""
    train = paint(tmp_path / "more", "train", 4)
    outcome, _ = run(splits=(train, paint(tmp_path / "more", "test", 3, blank=(1,))), steps=4)
    assert outcome.notes["frames_without_depth"] == 1
    assert np.isnan(outcome.samples["rmse"]).tolist() == [False, True, False]
    assert outcome.metrics[0].value == pytest.approx(np.nanmean(outcome.samples["rmse"]))
    with pytest.raises(DataError, match="no test frame of nyuv2/test has a depth"):
        run(splits=(train, paint(tmp_path / "none", "test", 2, blank=(0, 1))), steps=4)


def test_work_counts_forward_passes(tmp_path: Path) -> None:
    """614,400 crops of 416 x 544 scaled to the frames, and each test frame twice."""
    splits = paint(tmp_path, "train", 2), paint(tmp_path, "test", 3)
    spec = ImageSpec(32, 4, "bilinear", True, "crop", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    train, test = Nyuv2Linear().work(spec, splits)
    assert (train.images, train.rows, train.columns) == (614_400, 52, 68)
    assert (test.images, test.rows, test.columns) == (6, 60, 80)


def test_the_embedded_world_from_its_folders(tiny_roots: Roots, tmp_path: Path) -> None:
    """Folders to scores with the real loader."""
    _, benchmark = Nyuv2Linear.of("miniature", batch=4, steps=20, warmup=5)
    splits = benchmark.splits(tiny_roots, DigestMemo(None))
    context = Context(tiny_roots, tmp_path / "r", tmp_path / "c")
    outcome = benchmark.run(Job(Brightness(), None, splits, context, tmp_path / "job"))  # type: ignore[arg-type]
    value = outcome.metrics[0].value
    assert value is not None and 0 < value < 9
