"""Linear semantic segmentation on ADE20K (EUPE, section 8.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from evals.benchmarks.base import Benchmark, Family, Job, Outcome, Work, take
from evals.context import Roots
from evals.datasets import ade20k
from evals.datasets.ade20k import SegmentationSplit
from evals.datasets.base import Split
from evals.errors import DataError, UsageError
from evals.files import DigestMemo
from evals.metrics.segmentation import miou, scores
from evals.metrics.statistics import bootstrap
from evals.record import Score

if TYPE_CHECKING:
    from torch import Tensor

    from evals.probes.fit import State, Training
    from evals.probes.frozen import FrozenMaps
    from evals.probes.resume import Checkpoint
    from evals.types import ImageSpec


@dataclass(frozen=True, kw_only=True)
class Ade20kLinear(Benchmark):
    """A linear layer on frozen patch tokens, trained on random crops and scored with a sliding window.

    Constants are those of EUPE's released evaluation; where section 8.3 of the paper says something, it says the same
    but for the head (no normalisation or dropout), the frozen encoder (no random rotary scale) and the last head.
    """

    id: ClassVar[str] = "ade20k-linear"
    title: ClassVar[str] = "ADE20k"
    family: ClassVar[Family] = "dense"
    folder: ClassVar[str | None] = "ade20k"
    published: ClassVar[dict[str, int]] = ade20k.PUBLISHED
    protocols: ClassVar[dict[str, dict[str, Any]]] = {
        "official": {},
        "paper": {"batch_norm": False, "dropout": 0.0, "rescaled_steps": 0, "report": "last"},
        "miniature": {
            "classes": None,
            "crop": 128,
            "stride": 85,
            "steps": 200,
            "rate": 5e-3,
            "warmup": 8,
            "evaluate_every": 50,
            "rescaled_steps": 50,
        },
    }

    may_be_zero: ClassVar[frozenset[str]] = frozenset({"weight_decay", "warmup", "dropout", "rescaled_steps"})

    classes: int | None = ade20k.PUBLISHED_CLASSES
    """Classes that are scored; None: as many as the data set names."""
    crop: int = 512
    """Side of training crops and of windows, and the short side of validation images, in pixels."""
    stride: int = 341
    """Pixels between windows."""
    batch: int = 16
    """Crops a step."""
    steps: int = 40_000
    """Steps of head training."""
    rate: float = 1e-3
    """Peak learning rate (AdamW, betas 0.9 and 0.999)."""
    weight_decay: float = 1e-3
    """AdamW's, on every tensor of the head."""
    warmup: int = 1_500
    """Steps of warm-up."""
    batch_norm: bool = True
    """The head normalises its input over the batch."""
    dropout: float = 0.1
    """Share of channels that are zeroed in training, before the normalisation."""
    rescaled_steps: int = 5_000
    """First steps whose rotary coordinates are scaled at random, a factor a block in [1/2, 2]."""
    evaluate_every: int = 5_000
    """Steps between the heads that are scored."""
    report: Literal["best", "last"] = "best"
    """Which of them is reported: the highest mIoU on the validation set, or the last."""

    def __post_init__(self) -> None:
        """Refuse a dropout that leaves nothing."""
        if self.dropout >= 1:
            raise UsageError(f"{self.id}.dropout must be a share below 1; got {self.dropout}.")

    def splits(self, roots: Roots, digests: DigestMemo) -> tuple[Split, ...]:
        """Training and validation images."""
        root = roots.of("ade20k")
        return tuple(take(ade20k.load(root, part, digests), self.limit) for part in ade20k.PARTS)

    def work(self, spec: "ImageSpec", splits: Sequence[Split]) -> tuple[Work, ...]:
        """Training crops, and the windows of validation images taken as 4:3."""
        from evals.probes.windows import SlidingWindow
        from evals.types import nearest_multiple

        _, validation = splits
        side = nearest_multiple(self.crop, spec.patch)
        windows = SlidingWindow(self.crop, self.stride).boxes(self.crop, round(self.crop * 4 / 3))
        return (Work(self.steps * self.batch + len(validation) * len(windows), side, side),)

    def run(self, job: Job) -> Outcome:
        """Train the head, score every kept head in one pass over the validation images."""
        from evals.probes.fit import fit
        from evals.probes.frozen import FrozenMaps, encoder_size
        from evals.probes.resume import Checkpoint, work_key

        training, validation = job.splits
        assert isinstance(training, SegmentationSplit) and isinstance(validation, SegmentationSplit)
        classes = self._classes(training)
        maps = FrozenMaps(job.encoder, job.context.device, self.dtype)
        work = work_key(self.params(), job.encoder, job.splits, job.context)
        task = self._training(job, training, classes)
        heads = fit(task, maps, job.context, Checkpoint(job.checkpoints / "head.pt", work))
        checkpoint = Checkpoint(job.checkpoints / "scores.pt", work)
        counts_NS3C = self._validate(job, validation, task, heads, maps, checkpoint)
        if not counts_NS3C.any():
            raise DataError(
                f"no pixel of {validation.images.name} has a class: every label is 0 (unlabelled). "
                "Check the annotations with: eupe-eval data check."
            )
        curve = {step: miou(*counts_NS3C[:, at].sum(0)) for at, step in enumerate(heads)}
        chosen = max(curve, key=lambda step: curve[step]) if self.report == "best" else self.steps
        counts_3NC = np.ascontiguousarray(counts_NS3C[:, list(heads).index(chosen)].transpose(1, 0, 2))
        return Outcome(
            metrics=_metrics(counts_3NC, job.context.seed),
            samples=dict(zip(("intersections", "predictions", "labels"), counts_3NC, strict=True)),
            notes={
                "classes": classes,
                "reported_step": chosen,
                "mIoU_by_step": {str(step): value for step, value in curve.items()},
            },
            preprocess={
                "crop": encoder_size(self.crop, self.crop, job.encoder.spec.patch),
                "short_side": self.crop,
                "interpolation": "bilinear",
            },
        )

    def _classes(self, split: SegmentationSplit) -> int:
        if self.classes is not None:
            return self.classes
        if split.class_names is None:
            raise DataError(
                "the number of classes is to come from objectInfo150.txt and the data set has none. Restore the file "
                "to ADEChallengeData2016/, beside images/ and annotations/, or set the number with "
                "-o ade20k-linear.classes=N."
            )
        return len(split.class_names)

    def _training(self, job: Job, split: SegmentationSplit, classes: int) -> "Training":
        from evals.device import torch_generator
        from evals.probes.fit import Recipe, Training
        from evals.probes.heads import SegmentationHead, upsample
        from evals.probes.loader import Samples, Stream
        from evals.probes.losses import pixel_cross_entropy
        from evals.probes.scenes import TrainingScenes
        from evals.probes.schedules import segmentation_rate

        def loss(logits: "Tensor", labels: "Tensor", step: int) -> "Tensor":
            return pixel_cross_entropy(upsample(logits, self.crop, self.crop), labels)

        def rate(step: int) -> float:
            return segmentation_rate(step, peak=self.rate, steps=self.steps, warmup=self.warmup)

        encoder, seed = job.encoder, job.context.seed
        scenes = TrainingScenes(split.images.paths, split.labels, classes, self.crop, encoder.spec.mean)
        return Training(
            title=f"{encoder.card.name}: {self.id} head",
            head=SegmentationHead(
                encoder.dim, classes, batch_norm=self.batch_norm, generator=torch_generator(seed, Stream.HEAD)
            ),
            loss=loss,
            samples=Samples(scenes, len(split), batch=self.batch, seed=seed),
            names=split.images.paths,
            recipe=Recipe(
                steps=self.steps,
                batch=self.batch,
                rate=rate,
                betas=lambda step: (0.9, 0.999),
                weight_decay=self.weight_decay,
                snapshots=(*range(self.evaluate_every, self.steps, self.evaluate_every), self.steps),
                dropout=self.dropout,
                rescaled_steps=self.rescaled_steps,
            ),
        )

    def _validate(
        self,
        job: Job,
        split: SegmentationSplit,
        task: "Training",
        states: "dict[int, State]",
        maps: "FrozenMaps",
        checkpoint: "Checkpoint",
    ) -> np.ndarray:
        """Counts of every image, kept head and class: [N, S, 3, C]."""
        import copy

        import torch

        from evals.metrics.segmentation import pixel_counts
        from evals.probes.scenes import ValidationScenes
        from evals.probes.validate import validate
        from evals.probes.windows import SlidingWindow

        heads = []
        for state in states.values():
            head = copy.deepcopy(task.head).eval()
            head.load_state_dict(state)
            heads.append(head)
        classes = self._classes(split)
        window = SlidingWindow(self.crop, self.stride)

        def measure(index: int, image: "Tensor", label: "Tensor") -> "Tensor":
            found = window.predict(
                image,
                (label.shape[0], label.shape[1]),
                heads,
                maps,
                name=split.images.paths[index],
                batch=job.context.batch,
            )
            labels = label.numpy()
            counts = [pixel_counts(one.to(torch.int16).cpu().numpy(), labels, classes) for one in found]
            return torch.from_numpy(np.stack(counts))

        scenes = ValidationScenes(split.images.paths, split.labels, classes, self.crop)
        title = f"{job.encoder.card.name}: {self.id} validation"
        return validate(title, scenes, len(split), measure, job.context, checkpoint).numpy()


def _metrics(counts_3NC: np.ndarray, seed: int) -> tuple[Score, ...]:
    """With mIoU first and its interval over images; a score that is undefined for every class is left out."""
    exact = counts_3NC.astype(np.float64)  # whole numbers far below 2 ** 53

    def resampled(weights_N: np.ndarray) -> float:
        return miou(*(weights_N @ counts for counts in exact))

    interval = bootstrap(counts_3NC.shape[1], resampled, seed=seed, cluster="image")
    return tuple(
        Score(
            name,
            value,
            "percent",
            higher_is_better=True,
            primary=name == "mIoU",
            ci=interval if name == "mIoU" else None,
        )
        for name, value in scores(*counts_3NC.sum(1)).items()
        if not np.isnan(value)
    )
