"""Linear monocular depth on NYUv2 (EUPE, section 8.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from evals.benchmarks.base import Benchmark, Family, Job, Outcome, Work, take
from evals.context import Roots
from evals.datasets import nyuv2
from evals.datasets.base import Split
from evals.datasets.layout import image_size
from evals.datasets.nyuv2 import DepthSplit
from evals.errors import DataError
from evals.files import DigestMemo
from evals.metrics.statistics import bootstrap_mean
from evals.record import Score

if TYPE_CHECKING:
    from torch import Tensor

    from evals.probes.fit import Training
    from evals.probes.frozen import FrozenMaps
    from evals.probes.resume import Checkpoint
    from evals.types import ImageSpec

_METRICS = (("rmse", "m", False), ("a1", "share", True), ("abs_rel", "share", False))


@dataclass(frozen=True, kw_only=True)
class Nyuv2Linear(Benchmark):
    """A linear classifier into depth bins on frozen, normalised patch tokens; flip-averaged, scored in the Eigen crop.

    Constants are those of EUPE's released evaluation; section 8.4 of the paper says the same where it says something,
    but for 38k steps and the frozen encoder (no random rotary scale).
    """

    id: ClassVar[str] = "nyuv2-linear"
    title: ClassVar[str] = "NYUv2"
    family: ClassVar[Family] = "dense"
    folder: ClassVar[str | None] = "nyu"
    published: ClassVar[dict[str, int]] = nyuv2.PUBLISHED
    protocols: ClassVar[dict[str, dict[str, Any]]] = {
        "official": {},
        "paper": {"steps": 38_000, "rescaled_steps": 0},
        # The crop is 96 x 128 of a 120 x 160 frame, a multiple of 16 and 32.
        "miniature": {
            "crop_rows": 384,
            "crop_columns": 512,
            "steps": 200,
            "rate": 3e-3,
            "warmup": 67,
            "mean_only_steps": 10,
            "rescaled_steps": 200,
        },
    }

    may_be_zero: ClassVar[frozenset[str]] = frozenset(
        {"weight_decay", "warmup", "mean_only_steps", "rescaled_steps", "head_seed"}
    )

    crop_rows: int = 416
    """Rows of a training crop, in pixels of a 480 x 640 frame; scales with frames of another size."""
    crop_columns: int = 544
    """Columns of a training crop, likewise."""
    batch: int = 16
    """Crops a step."""
    steps: int = 38_400
    """Steps of head training."""
    rate: float = 3e-4
    """Learning rate that the schedule is built on (AdamW, second beta 0.99, the first one cycled)."""
    weight_decay: float = 1e-3
    """AdamW's, on every tensor of the head."""
    warmup: int = 12_800
    """Steps of warm-up; the first beta is 0 in them."""
    clip: float = 35.0
    """Largest norm of the gradient."""
    mean_only_steps: int = 100
    """First steps whose loss leaves the variance of the log ratio out."""
    rescaled_steps: int = 38_400
    """First steps whose rotary coordinates are scaled at random, a factor a block in [1/2, 2]."""
    head_seed: int = 42
    """Seeds the head's start together with the run's seed: their sum seeds torch's generator."""

    def splits(self, roots: Roots, digests: DigestMemo) -> tuple[Split, ...]:
        """Training and test frames."""
        root = roots.of("nyu")
        return tuple(take(nyuv2.load(root, part, digests), self.limit) for part in nyuv2.PARTS)

    def authentic(self, splits: Sequence[Split]) -> bool:
        """Frames as published: in a resized copy crop, border and Eigen box would be others."""
        return all(image_size(split.images.paths[0]) == nyuv2.PUBLISHED_SIZE for split in splits)

    def work(self, spec: "ImageSpec", splits: Sequence[Split]) -> tuple[Work, ...]:
        """Training crops, and test frames with their mirror images."""
        from evals.types import nearest_multiple

        def passes(count: int, size: tuple[int, int]) -> Work:
            rows, columns = (nearest_multiple(side, spec.patch) for side in size)
            return Work(count, rows, columns)

        train, test = splits
        return passes(self.steps * self.batch, self._crop(train)), passes(2 * len(test), _frame(test))

    def run(self, job: Job) -> Outcome:
        """Train the head, score the last one on the whole test frames."""
        from evals.probes.fit import fit
        from evals.probes.frozen import FrozenMaps, encoder_size
        from evals.probes.resume import Checkpoint, work_key

        train, test = job.splits
        assert isinstance(train, DepthSplit) and isinstance(test, DepthSplit)
        maps = FrozenMaps(job.encoder, job.context.device, self.dtype)
        work = work_key(self.params(), job.encoder, job.splits, job.context)
        task = self._training(job, train)
        fit(task, maps, job.context, Checkpoint(job.checkpoints / "head.pt", work))
        values_N3 = self._validate(job, test, task, maps, Checkpoint(job.checkpoints / "scores.pt", work))
        scored = ~np.isnan(values_N3[:, 0])
        if not scored.any():
            raise DataError(
                f"no test frame of {test.images.name} has a depth above 1 mm and below 10 m inside the Eigen crop. "
                "Check the depth maps with: eupe-eval data check."
            )
        patch = job.encoder.spec.patch
        return Outcome(
            metrics=_metrics(values_N3[scored], job.context.seed),
            samples=dict(zip(("a1", "abs_rel", "rmse"), values_N3.T, strict=True)),
            notes={"frames_without_depth": int((~scored).sum()), "reported_step": self.steps},
            preprocess={
                "crop": encoder_size(*self._crop(train), patch),
                "frame": encoder_size(*_frame(test), patch),
            },
        )

    def _crop(self, split: Split) -> tuple[int, int]:
        from evals.probes.frames import crop_size

        return crop_size(*_frame(split), (self.crop_rows, self.crop_columns))

    def _training(self, job: Job, split: DepthSplit) -> "Training":
        from evals.probes.fit import Recipe, Training
        from evals.probes.frames import TrainingFrames
        from evals.probes.heads import DepthHead, upsample
        from evals.probes.loader import Samples
        from evals.probes.losses import log_depth_loss
        from evals.probes.schedules import depth_beta1, depth_rate

        crop = self._crop(split)

        def loss(depth: "Tensor", truth: "Tensor", step: int) -> "Tensor":
            return log_depth_loss(upsample(depth, *crop)[:, 0], truth, with_variance=step >= self.mean_only_steps)

        def rate(step: int) -> float:
            return depth_rate(step, peak=self.rate, steps=self.steps, warmup=self.warmup)

        def betas(step: int) -> tuple[float, float]:
            return depth_beta1(step, steps=self.steps, warmup=self.warmup), 0.99

        seed = job.context.seed
        frames = TrainingFrames(split.images.paths, split.depths, crop)
        return Training(
            title=f"{job.encoder.card.name}: {self.id} head",
            head=DepthHead(job.encoder.dim, seed=self.head_seed + seed),
            loss=loss,
            samples=Samples(frames, len(split), batch=self.batch, seed=seed),
            names=split.images.paths,
            recipe=Recipe(
                steps=self.steps,
                batch=self.batch,
                rate=rate,
                betas=betas,
                weight_decay=self.weight_decay,
                snapshots=(self.steps,),
                clip=self.clip,
                rescaled_steps=self.rescaled_steps,
            ),
        )

    def _validate(
        self, job: Job, split: DepthSplit, task: "Training", maps: "FrozenMaps", checkpoint: "Checkpoint"
    ) -> np.ndarray:
        """a1, abs_rel and rmse of every frame: [N, 3]; NaN for a frame without a scored pixel."""
        import torch

        from evals.metrics.depth import depth_errors
        from evals.probes.flips import predict_depth
        from evals.probes.frames import ValidationFrames
        from evals.probes.validate import validate

        head = task.head.eval()

        def measure(index: int, image: "Tensor", truth: "Tensor") -> "Tensor":
            size = truth.shape[0], truth.shape[1]
            depth = predict_depth(image, size, head, maps, name=split.images.paths[index])
            return torch.tensor(depth_errors(depth.cpu().numpy(), truth.numpy()), dtype=torch.float64)

        frames = ValidationFrames(split.images.paths, split.depths)
        title = f"{job.encoder.card.name}: {self.id} test"
        return validate(title, frames, len(split), measure, job.context, checkpoint).numpy()


def _frame(split: Split) -> tuple[int, int]:
    """Rows and columns of the first frame."""
    width, height = image_size(split.images.paths[0])
    return height, width


def _metrics(values_N3: np.ndarray, seed: int) -> tuple[Score, ...]:
    """Means over frames with their intervals, rmse first."""
    columns = dict(zip(("a1", "abs_rel", "rmse"), values_N3.T, strict=True))
    return tuple(
        Score(
            name,
            float(columns[name].mean()),
            unit,
            higher_is_better=higher,
            primary=name == "rmse",
            ci=bootstrap_mean(columns[name], seed=seed, cluster="image"),
        )
        for name, unit, higher in _METRICS
    )
