"""ImageNet-1k k-NN: top-1 of a vote among the nearest training images, in the space of the global feature.

`official` is the evaluation of the authors' released code; `paper` is section 8.1 of arXiv 2603.22387 word for word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from evals.benchmarks.base import Benchmark, Family, Job, Outcome, Work, take
from evals.context import Roots, batches
from evals.datasets import imagenet
from evals.datasets.base import Split
from evals.datasets.imagenet import ClassificationSplit
from evals.errors import UsageError
from evals.files import DigestMemo
from evals.record import EncoderCard, Score

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from evals.features import FeatureRequest
    from evals.preprocess import ShortSideCrop
    from evals.types import ImageSpec

_TOP = 5
_VOTES_AT_ONCE = 4096
"""Queries whose class scores are held at once: 33 MB in fp64 for 1,000 classes."""


@dataclass(frozen=True, kw_only=True)
class In1kKnn(Benchmark):
    """k nearest neighbours on frozen global features. Field defaults are the official code's."""

    id: ClassVar[str] = "in1k-knn"
    title: ClassVar[str] = "IN1k-KNN"
    family: ClassVar[Family] = "image"
    folder: ClassVar[str | None] = "imagenet"
    published: ClassVar[Mapping[str, int]] = imagenet.PUBLISHED
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "official": {},
        "paper": {"ks": (10,), "metric": "l2", "normalize": False, "vote": "majority", "average_as_class": False},
        "miniature": {"short": 146, "side": 128},
    }

    short: int = 256
    """Pixels of the short side after the resize, bicubic with antialias on bytes (official code)."""
    side: int = 224
    """Pixels of the centre crop (official code; section 8.1)."""
    ks: tuple[int, ...] = (10, 20, 100, 200)
    """Neighbours that vote, the first one for the headline; larger ones become the train size (official code)."""
    metric: Literal["cosine", "l2"] = "cosine"
    """What is near: the cosine (official code), or the Euclidean distance (section 8.1)."""
    normalize: bool = True
    """Divide features by their L2 norm (official code; section 8.1 does not say so)."""
    vote: Literal["weighted", "majority"] = "weighted"
    """Softmax weights over the max(ks) kept similarities (official code), or one neighbour one vote (section 8.1)."""
    temperature: float = 0.07
    """Of the softmax (official code)."""
    average_as_class: bool = True
    """Take the pooled map where there is no class token: ConvNeXt (official code; the paper leaves it out)."""

    def __post_init__(self) -> None:
        """Refuse constants that contradict each other."""
        if self.metric == "cosine" and not self.normalize:
            raise UsageError(f"{self.id}: metric=cosine needs normalize=true. Use metric=l2 for raw features.")
        if self.vote == "weighted" and self.metric != "cosine":
            raise UsageError(f"{self.id}: vote=weighted weighs cosines. Use metric=cosine or vote=majority.")
        if self.short < self.side:
            raise UsageError(
                f"{self.id}: short={self.short} must be at least side={self.side}, which is cut out of it."
            )

    def skip(self, card: EncoderCard) -> str | None:
        """`no cls` without a global feature, and for an average where only a class token counts."""
        averaged = card.global_feature == "gap_norm" and not self.average_as_class
        return "no cls" if card.global_feature == "none" or averaged else None

    def splits(self, roots: Roots, digests: DigestMemo) -> tuple[Split, ...]:
        """Train and validation."""
        root = roots.of("imagenet")
        return tuple(take(imagenet.load(root, name, digests), self.limit) for name in ("train", "val"))

    def requests(self, spec: "ImageSpec", splits: Sequence[Split]) -> "tuple[FeatureRequest, ...]":
        """Global features of both splits."""
        from evals.features import FeatureRequest

        return tuple(FeatureRequest(split.images, self._geometry()) for split in splits)

    def work(self, spec: "ImageSpec", splits: Sequence[Split]) -> tuple[Work, ...]:
        """One pass over each image."""
        from evals.types import nearest_multiple

        side = nearest_multiple(self.side, spec.patch)
        return tuple(Work(len(split), side, side) for split in splits)

    def run(self, job: Job) -> Outcome:
        """Search, vote, count."""
        import torch
        from torch.nn import functional

        from evals.metrics.neighbours import nearest
        from evals.types import nearest_multiple

        spec, device = job.encoder.spec, next(job.encoder.buffers()).device
        train, val = (cast(ClassificationSplit, split) for split in job.splits)
        train_MD, query_ND = (job.features.get(request) for request in self.requests(spec, job.splits))
        if self.normalize:
            train_MD, query_ND = (functional.normalize(x, dim=1, eps=1e-12) for x in (train_MD, query_ND))
        ks = tuple(dict.fromkeys(min(k, len(train)) for k in self.ks))
        kind: Literal["dot", "l2"] = "dot" if self.metric == "cosine" else "l2"
        scores_NK, indices_NK = nearest(train_MD.to(device), query_ND.to(device), max(ks), kind)
        scores_NK, indices_NK = scores_NK.cpu(), indices_NK.cpu()

        labels_N = torch.from_numpy(val.labels_N)
        classes = int(train.labels_N.max()) + 1
        near_NK = torch.from_numpy(train.labels_N)[indices_NK]
        predicted, top5_N = self._votes(near_NK, scores_NK, labels_N, classes, ks)
        samples: dict[str, np.ndarray] = {
            "labels": val.labels_N,
            "neighbours": indices_NK[:, : ks[0]].to(torch.int32).numpy(),
            **{_column("predictions", k, ks): classes_N.numpy() for k, classes_N in predicted.items()},
        }
        correct = {_metric(k, ks): (classes_N == labels_N).numpy() for k, classes_N in predicted.items()}
        if classes >= _TOP:
            samples["top5"] = correct["top5"] = top5_N.numpy()
        patch_side = nearest_multiple(self.side, spec.patch)
        return Outcome(
            metrics=tuple(_score(name, hits_N, job.context.seed) for name, hits_N in correct.items()),
            samples=samples,
            notes={"classes": classes, "ks": list(ks), "train": len(train), "queries": len(val)},
            preprocess={**self._geometry().describe(), "side_used": patch_side},
        )

    def _geometry(self) -> "ShortSideCrop":
        from evals.preprocess import ShortSideCrop

        return ShortSideCrop(self.side, self.short)

    def _votes(
        self, near_NK: "Tensor", scores_NK: "Tensor", labels_N: "Tensor", classes: int, ks: tuple[int, ...]
    ) -> "tuple[dict[int, Tensor], Tensor]":
        """Predicted class for each k, and top-5 hits of the first k."""
        import torch

        from evals.metrics.classification import best_class, hits, similarity_weights, vote

        weights_NK = similarity_weights(scores_NK, self.temperature) if self.vote == "weighted" else None
        predicted: dict[int, list[Tensor]] = {k: [] for k in ks}
        top5 = []
        for rows in batches(len(near_NK), _VOTES_AT_ONCE):
            block = slice(rows.start, rows.stop)
            for k in ks:
                weights = None if weights_NK is None else weights_NK[block, :k]
                scores_NC = vote(near_NK[block, :k], classes, weights)
                predicted[k].append(best_class(scores_NC))
                if k == ks[0]:
                    top5.append(hits(scores_NC, labels_N[block], _TOP))
        return {k: torch.cat(parts) for k, parts in predicted.items()}, torch.cat(top5)


def _metric(k: int, ks: tuple[int, ...]) -> str:
    return "top1" if k == ks[0] else f"top1@k{k}"


def _column(name: str, k: int, ks: tuple[int, ...]) -> str:
    return name if k == ks[0] else f"{name}_k{k}"


def _score(name: str, hits_N: "np.ndarray", seed: int) -> Score:
    from evals.metrics.statistics import bootstrap_mean

    interval = bootstrap_mean(100.0 * hits_N, seed=seed, cluster="image")
    return Score(name, float(100 * hits_N.mean()), "percent", True, primary=name == "top1", ci=interval)
