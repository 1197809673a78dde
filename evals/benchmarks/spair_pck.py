"""SPair-71k: training-free correspondence of key points between two images, PCK at 0.1 of the target's box.

Section 8 of arXiv 2603.22387 follows Walmer et al. (2023) and Suri et al. (LiFT, 2024); where its text is silent,
LiFT's evaluation decides: letterbox on black, tokens normalised before the enlargement, the whole square as candidates,
points pooled in a category and categories averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from evals.benchmarks.base import Benchmark, Family, Job, Outcome, Work, take
from evals.context import Roots
from evals.datasets import spair
from evals.datasets.base import Split
from evals.datasets.spair import Pair, PairSplit
from evals.files import DigestMemo
from evals.record import Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from evals.features import FeatureRequest
    from evals.metrics.keypoints import Tally
    from evals.preprocess import Letterbox
    from evals.types import ImageSpec


@dataclass(frozen=True, kw_only=True)
class SpairPck(Benchmark):
    """Percentage of correct key points on the test pairs."""

    id: ClassVar[str] = "spair-pck"
    title: ClassVar[str] = "SPair"
    family: ClassVar[Family] = "dense"
    folder: ClassVar[str | None] = "SPair-71k"
    published: ClassVar[Mapping[str, int]] = spair.PUBLISHED
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "miniature": {"side": 256, "side_patch14": 224, "draw": 50},
    }

    may_be_zero: ClassVar[frozenset[str]] = frozenset({"draw_seed"})

    side: int = 512
    """Pixels of the square, also of the enlarged maps (paper: 512 for patch 16, a grid of 32 x 32)."""
    side_patch14: int = 448
    """The same for encoders with patches of 14 (paper: 448, a grid of 32 x 32)."""
    grid_patch: int = 16
    """Maps with a coarser stride (ConvNeXt: 32) are brought to the grid of this patch, bilinear with antialias, before
    the final norm: an option of the authors' ConvNeXt code; the paper does not say what it does with them."""
    alphas: tuple[float, ...] = (0.1, 0.05)
    """Thresholds as shares of the longer side of the target's box, strictly below; the first is the headline."""
    draw: int = 100
    """Pairs a category of the headline, with replacement (paper; LiFT's script)."""
    draw_seed: int = 0
    """Of that draw (LiFT's script)."""
    renorm: Literal["before", "after"] = "before"
    """Normalise tokens before the enlargement (LiFT's script), or pixels after it (the text's cosine similarity)."""

    def splits(self, roots: Roots, digests: DigestMemo) -> tuple[Split, ...]:
        """Test pairs."""
        return (take(spair.load(roots.of("SPair-71k"), "test", digests), self.limit),)

    def requests(self, spec: "ImageSpec", splits: Sequence[Split]) -> "tuple[FeatureRequest, ...]":
        """Token maps of every image of the pairs."""
        from evals.features import FeatureRequest

        coarser = spec.patch > self.grid_patch
        grid = self._cells(spec) if coarser else None
        return (FeatureRequest(splits[0].images, self._geometry(spec), patches=True, grid=grid),)

    def work(self, spec: "ImageSpec", splits: Sequence[Split]) -> tuple[Work, ...]:
        """One pass over each image; the matching is small beside it."""
        side = self._side(spec)
        return (Work(len(splits[0].images.paths), side, side),)

    def run(self, job: Job) -> Outcome:
        """Match every pair once, then score all of them and the draw."""
        import numpy as np

        from evals.metrics.keypoints import draw_pairs, longest_side, tally, within

        spec, context = job.encoder.spec, job.context
        split = cast(PairSplit, job.splits[0])
        pairs = split.pairs
        maps = job.features.get(self.requests(spec, job.splits)[0])
        pair_N = np.repeat(np.arange(len(pairs)), [len(pair.point_ids) for pair in pairs])
        category = np.array([split.categories.index(pair.category) for pair in pairs])
        target = np.array([pair.target for pair in pairs])
        drawn = draw_pairs([(pair.category, pair.name) for pair in pairs], self.draw, self.draw_seed)
        box = np.array([longest_side(pair.target_box, pair.target_size, self._side(spec)) for pair in pairs])
        predicted_N2 = self._match(job, maps, pairs, pair_N, category)
        truth_N2 = self._points(spec, [(p.target_points_K2, p.target_size) for p in pairs])
        distance_N = np.hypot(*(predicted_N2 - truth_N2).T)

        metrics, notes = [], {}
        for at, alpha in enumerate(self.alphas):
            correct_N = within(distance_N, box[pair_N], alpha)
            for suffix, weights in (("", drawn), ("[all]", np.ones_like(drawn))):
                name = f"pck@{alpha:g}{suffix}"
                sums = tally(correct_N, category[pair_N], target[pair_N], weights[pair_N])
                metrics.append(_score(name, sums, context.seed, primary=at == 0 and not suffix))
                values = dict(zip(split.categories, sums.by_category(), strict=True))
                notes[name] = {category: round(float(value), 4) for category, value in values.items()}
        return Outcome(
            metrics=tuple(metrics),
            samples={
                "pair": pair_N.astype(np.int32),
                "predicted": predicted_N2.astype(np.int16),
                "distance": distance_N,
                "correct": within(distance_N, box[pair_N], self.alphas[0]),
                "pair_category": category.astype(np.int16),
                "pair_target": target.astype(np.int32),
                "pair_box_side": box,
                "pair_drawn": drawn.astype(np.int16),
            },
            notes={"by_category": notes, "pairs": len(pairs), "points": len(pair_N)},
            preprocess={**self._geometry(spec).describe(), "side_used": self._side(spec), "grid": self._cells(spec)},
        )

    def _match(
        self,
        job: Job,
        maps: "Tensor",
        pairs: Sequence[Pair],
        pair_N: "NDArray[np.int64]",
        category: "NDArray[np.int64]",
    ) -> "NDArray[np.int64]":
        """Predicted pixels of all points, category by category: its images are few, so their maps fit into memory."""
        import numpy as np
        import torch

        from evals.metrics.keypoints import nearest_pixels, transfer

        spec, device = job.encoder.spec, next(job.encoder.buffers()).device
        source_N = np.array([pair.source for pair in pairs])[pair_N]
        target_N = np.array([pair.target for pair in pairs])[pair_N]
        points_N2 = self._points(spec, [(p.source_points_K2, p.source_size) for p in pairs])
        pixels_N2 = nearest_pixels(points_N2, self._side(spec)).to(device)
        predicted_N2 = torch.empty_like(pixels_N2)
        with job.context.bar(f"{job.encoder.card.name}: matching", len(pair_N)) as bar:
            for name in np.unique(category):
                at = np.flatnonzero(category[pair_N] == name)
                used = np.union1d(source_N[at], target_N[at])
                ready = {int(image): self._prepare(maps[int(image)].to(device), spec) for image in used}
                rows = torch.from_numpy(at).to(device)
                predicted_N2[rows] = transfer(
                    ready, source_N[at], target_N[at], pixels_N2[rows], self._side(spec), cosine=self.renorm == "after"
                )
                bar.update(len(at))
        return predicted_N2.cpu().numpy()

    def _points(
        self, spec: "ImageSpec", annotated: "Sequence[tuple[NDArray[np.float64], tuple[int, int]]]"
    ) -> "NDArray[np.float64]":
        """Points of images of some size, one after another, in pixels of the square."""
        import numpy as np

        from evals.metrics.keypoints import on_canvas
        from evals.preprocess import letterbox_size

        side = self._side(spec)
        return np.concatenate(
            [on_canvas(points_K2, size, letterbox_size(*size, side), side) for points_K2, size in annotated]
        )

    def _prepare(self, map_HWD: "Tensor", spec: "ImageSpec") -> "Tensor":
        """The map on the protocol's grid, tokens of unit length unless pixels are normalised later."""
        from torch.nn import functional

        from evals.metrics.keypoints import regrid

        on_grid = regrid(map_HWD, self._cells(spec))
        return functional.normalize(on_grid, dim=-1) if self.renorm == "before" else on_grid

    def _geometry(self, spec: "ImageSpec") -> "Letterbox":
        from evals.preprocess import Letterbox

        return Letterbox(self.side_patch14 if spec.patch == 14 else self.side)

    def _side(self, spec: "ImageSpec") -> int:
        from evals.types import nearest_multiple

        return nearest_multiple(self._geometry(spec).side, spec.patch)

    def _cells(self, spec: "ImageSpec") -> int:
        return self._side(spec) // min(spec.patch, self.grid_patch)


def _score(name: str, sums: "Tally", seed: int, *, primary: bool) -> Score:
    """With an interval over target images: pairs that share a target share its map, its box and its difficulty."""
    from evals.metrics.statistics import bootstrap

    interval = bootstrap(len(sums.total_GC), sums.score, seed=seed, cluster="target image")
    return Score(name, sums.score(), "percent", True, primary=primary, ci=interval)
