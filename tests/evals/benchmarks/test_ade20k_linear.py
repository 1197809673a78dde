"""ade20k-linear from files to scores, on painted scenes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torch.nn import functional

from evals.benchmarks.ade20k_linear import Ade20kLinear
from evals.benchmarks.base import Job, Outcome, find
from evals.context import Context, Roots
from evals.datasets.ade20k import SegmentationSplit
from evals.datasets.base import Images
from evals.errors import DataError
from evals.files import DigestMemo
from evals.metrics.segmentation import miou
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, ImageSpec

COLOURS = np.array([[0, 0, 0], [220, 40, 40], [40, 220, 40], [40, 40, 220]])


class Colours(Encoder):
    """Mean RGB of each 8-pixel patch; notes its rotary scales."""

    def __init__(self) -> None:
        card = EncoderCard("colours", "toy", "toy", "none", "0" * 64, "none", 8, 32, "none", text=False)
        spec = ImageSpec(32, 8, "bilinear", True, "crop", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        super().__init__(card, spec, dim=3, depth=1, rope_blocks=2)
        self.scales: list[Tensor | None] = []

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """Mean colours."""
        self.scales.append(ask.rope_scales_L)
        return Features(None, functional.avg_pool2d(images_B3YX, 8).permute(0, 2, 3, 1))


def paint(folder: Path, part: str, count: int, *, blank: bool = False) -> SegmentationSplit:
    """Scenes of four coloured quarters with noise, of four sizes; one quarter is unlabelled."""
    images, labels = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng([len(part), i])
        rows, columns = (48, 64) if i % 2 else (56, 48)
        label = np.zeros((rows, columns), np.uint8)
        order = rng.permutation(4)
        for k, (y, x) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            label[y * rows // 2 : (y + 1) * rows // 2, x * columns // 2 : (x + 1) * columns // 2] = order[k]
        pixels = COLOURS[label] + rng.integers(0, 30, (rows, columns, 3))
        images.append(folder / f"{part}{i:03d}.png")
        labels.append(folder / f"{part}{i:03d}_label.png")
        Image.fromarray(pixels.astype(np.uint8)).save(images[-1])
        Image.fromarray(np.zeros_like(label) if blank else label).save(labels[-1])
    shown = Images(f"ade20k/{part}", tuple(images), part)
    return SegmentationSplit("ade20k", part, shown, part, count, tuple(labels), ("red", "green", "blue"))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[Outcome, Colours]]:
    """Runs the benchmark on painted scenes."""
    splits = paint(tmp_path / "data", "training", 12), paint(tmp_path / "data", "validation", 6)

    def call(*, splits: Any = splits, context: dict[str, Any] | None = None, **changes: Any) -> tuple[Outcome, Colours]:
        small = {"crop": 32, "stride": 21, "batch": 4, "steps": 60, "evaluate_every": 20, "rate": 0.02, "warmup": 2}
        _, benchmark = Ade20kLinear.of("miniature", **{**small, **changes})
        encoder = Colours()
        surroundings = Context(Roots({}), tmp_path / "results", tmp_path / "cache", **(context or {}))
        checkpoints = tmp_path / f"job{len(list(tmp_path.iterdir()))}"
        return benchmark.run(Job(encoder, None, splits, surroundings, checkpoints)), encoder  # type: ignore[arg-type]

    return call


def same(one: Outcome, two: Outcome) -> bool:
    """Equal in every score and count."""
    counts = all(np.array_equal(one.samples[name], two.samples[name]) for name in one.samples)
    return counts and one.metrics == two.metrics and dict(one.notes) == dict(two.notes)


def test_constants_of_the_protocols() -> None:
    """The published ones, and where the paper's text departs."""
    official, paper = (Ade20kLinear.of(name)[1] for name in (None, "paper"))
    expected = {
        "classes": 150, "crop": 512, "stride": 341, "batch": 16, "steps": 40_000, "rate": 1e-3, "weight_decay": 1e-3,
        "warmup": 1_500, "batch_norm": True, "dropout": 0.1, "rescaled_steps": 5_000, "evaluate_every": 5_000,
        "report": "best", "dtype": "fp32", "limit": None,
    }  # fmt: skip
    assert official.params() == expected
    assert paper.changed("official") == {"batch_norm": False, "dropout": 0.0, "rescaled_steps": 0, "report": "last"}
    assert Ade20kLinear.of(None, world=True)[0] == "miniature" and find("ade20k-linear") is Ade20kLinear


def test_colours_are_segmented(run: Callable[..., tuple[Outcome, Colours]]) -> None:
    """Each class has its colour, so the score is high; counts and notes hang together."""
    outcome, _ = run()
    best = outcome.metrics[0]
    assert (best.name, best.primary, best.unit) == ("mIoU", True, "percent")
    assert best.value is not None and best.value > 60
    assert best.ci is not None and best.ci.low <= best.value <= best.ci.high and best.ci.cluster == "image"
    assert [score.name for score in outcome.metrics] == [
        "mIoU", "acc", "aAcc", "dice", "fscore", "precision", "recall",
    ]  # fmt: skip
    counts = [outcome.samples[name] for name in ("intersections", "predictions", "labels")]
    assert all(count.shape == (6, 3) and count.dtype == np.int64 for count in counts)
    assert miou(*(count.sum(0) for count in counts)) == best.value
    # Three of four quarters are labelled; every labelled pixel is predicted as something.
    assert counts[1].sum() == counts[2].sum() == 3 * (3 * 48 * 64 // 4) + 3 * (3 * 56 * 48 // 4)
    curve = outcome.notes["mIoU_by_step"]
    assert list(curve) == ["20", "40", "60"] and max(curve.values()) == best.value
    assert curve[str(outcome.notes["reported_step"])] == best.value
    assert outcome.preprocess["crop"] == {"protocol": [32, 32], "encoder": [32, 32]}


def test_the_last_head_is_reported_if_asked(run: Callable[..., tuple[Outcome, Colours]]) -> None:
    """Whatever the others scored."""
    outcome, _ = run(report="last")
    assert outcome.notes["reported_step"] == 60
    assert outcome.metrics[0].value == outcome.notes["mIoU_by_step"]["60"]


def test_every_protocol_runs(run: Callable[..., tuple[Outcome, Colours]]) -> None:
    """The paper's head is linear and its encoder unscaled; official scales until the first evaluation."""
    _, encoder = run(rescaled_steps=20)
    assert [scale is not None for scale in encoder.scales[:60]] == [True] * 20 + [False] * 40
    assert all(scale is None for scale in encoder.scales[60:])
    outcome, encoder = run(batch_norm=False, dropout=0.0, rescaled_steps=0, rate=0.1)
    assert all(scale is None for scale in encoder.scales)
    assert outcome.metrics[0].value is not None and outcome.metrics[0].value > 40


def test_two_runs_are_equal_and_seeds_differ(run: Callable[..., tuple[Outcome, Colours]]) -> None:
    """Whatever batch and workers; another seed gives another head."""
    one, two = run()[0], run(context={"workers": 2})[0]
    assert same(one, two)
    assert not same(one, run(context={"seed": 1})[0])


def test_one_pass_scores_every_kept_head(run: Callable[..., tuple[Outcome, Colours]]) -> None:
    """Sixty steps, then each validation image once: all windows of one fit into a batch."""
    _, encoder = run()
    assert len(encoder.scales) == 60 + 6


def test_the_number_of_classes_comes_from_the_data(run: Callable[..., tuple[Outcome, Colours]], tmp_path: Path) -> None:
    """From the class table, or as given; without either it is asked for."""
    assert run()[0].notes["classes"] == 3
    splits = paint(tmp_path / "more", "training", 4), paint(tmp_path / "more", "validation", 2)
    nameless = tuple(replace(split, class_names=None) for split in splits)
    assert run(splits=nameless, classes=5, steps=2)[0].samples["labels"].shape == (2, 5)
    with pytest.raises(DataError, match=r"objectInfo150\.txt .*beside images/ .*-o ade20k-linear\.classes=N"):
        run(splits=nameless)


def test_unlabelled_validation_is_refused(run: Callable[..., tuple[Outcome, Colours]], tmp_path: Path) -> None:
    """No pixel to score is an error, not a zero."""
    splits = paint(tmp_path / "more", "training", 4), paint(tmp_path / "more", "validation", 2, blank=True)
    with pytest.raises(DataError, match="no pixel of ade20k/validation has a class"):
        run(splits=splits, steps=2)


def test_work_counts_forward_passes() -> None:
    """640,000 crops and two windows for each 4:3 image at 512 px."""
    spec = ImageSpec(32, 16, "bilinear", True, "crop", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    (work,) = Ade20kLinear().work(spec, [_sized("training", 20), _sized("validation", 10)])
    assert (work.images, work.rows, work.columns) == (640_000 + 20, 512, 512)
    (work,) = Ade20kLinear().work(replace(spec, patch=14), [_sized("training", 20), _sized("validation", 10)])
    assert (work.rows, work.columns) == (518, 518)


def _sized(part: str, count: int) -> SegmentationSplit:
    paths = tuple(Path(f"{i}.jpg") for i in range(count))
    return SegmentationSplit("ade20k", part, Images(part, paths, part), part, count, paths, None)


def test_the_embedded_world_from_its_folders(tiny_roots: Roots, tmp_path: Path) -> None:
    """Folders to scores with the real loader."""
    _, benchmark = Ade20kLinear.of("miniature", batch=4, steps=20, evaluate_every=10)
    splits = benchmark.splits(tiny_roots, DigestMemo(None))
    context = Context(tiny_roots, tmp_path / "r", tmp_path / "c")
    outcome = benchmark.run(Job(Colours(), None, splits, context, tmp_path / "job"))  # type: ignore[arg-type]
    value = outcome.metrics[0].value
    assert value is not None and 0 < value < 100 and outcome.notes["classes"] > 10
