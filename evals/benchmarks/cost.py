"""Cost: parameters, floating-point operations and latency of one image at 256 and 512 pixels. Needs no data."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from evals.benchmarks.base import Benchmark, Family, Job, Outcome, Work
from evals.context import Roots
from evals.datasets.base import Split
from evals.files import DigestMemo
from evals.record import Score

if TYPE_CHECKING:
    from torch import Tensor

    from evals.types import Encoder, ImageSpec

_COUNTED = "2 x multiply-accumulates of matrix products, attention and convolutions; element-wise work is not counted"


@dataclass(frozen=True, kw_only=True)
class Cost(Benchmark):
    """What one forward pass costs; latencies belong to the hardware that the notes name."""

    id: ClassVar[str] = "cost"
    title: ClassVar[str] = "GFLOPs"
    family: ClassVar[Family] = "cost"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "miniature": {"warmup": 1, "repeats": 5}}

    may_be_zero: ClassVar[frozenset[str]] = frozenset({"warmup"})

    sides: tuple[int, ...] = (256, 512)
    """Pixels of the square image (paper, tables of efficient models); the first is the headline."""
    warmup: int = 3
    """Passes before the clock starts."""
    repeats: int = 20
    """Timed passes of one image each; the median counts."""

    def splits(self, roots: Roots, digests: DigestMemo) -> tuple[Split, ...]:
        """None."""
        return ()

    def work(self, spec: "ImageSpec", splits: Sequence[Split]) -> tuple[Work, ...]:
        """One counted pass, the warm-up and the timed passes at each side."""
        from evals.types import nearest_multiple

        used = (nearest_multiple(side, spec.patch) for side in self.sides)
        return tuple(Work(1 + self.warmup + self.repeats, side, side) for side in used)

    def run(self, job: Job) -> Outcome:
        """Count, then time."""
        import torch

        from evals.device import torch_generator
        from evals.environment import hardware
        from evals.types import nearest_multiple

        encoder, device = job.encoder, next(job.encoder.buffers()).device
        operations, latencies, spread, used = [], [], {}, {}
        with job.context.bar(f"{encoder.card.name}: cost", len(self.sides) * (1 + self.warmup + self.repeats)) as bar:
            for at, side in enumerate(self.sides):
                used[str(side)] = pixels = nearest_multiple(side, encoder.spec.patch)
                image = torch.rand(1, 3, pixels, pixels, generator=torch_generator(job.context.seed, side)).to(device)
                gflops = count_operations(encoder, image) / 1e9
                operations.append(Score(f"gflops@{side}", gflops, "GFLOP", False, primary=at == 0))
                bar.update()
                times = []
                for _ in range(self.warmup + self.repeats):
                    times.append(1000 * self._seconds(encoder, image))
                    bar.update()
                times = times[self.warmup :]
                latencies.append(Score(f"latency@{side}", statistics.median(times), "ms", False))
                spread[f"latency@{side}"] = {"p10": _quantile(times, 0.1), "p90": _quantile(times, 0.9)}
        return Outcome(
            metrics=(*operations, Score("params", parameters(encoder) / 1e6, "M", False), *latencies),
            notes={
                "flops": _COUNTED,
                "latency": {**spread, "batch": 1, "warmup": self.warmup, "repeats": self.repeats, "unit": "ms"},
                "hardware": hardware(device),
                "threads": torch.get_num_threads(),
            },
            preprocess={"sides_used": used},
        )

    def _seconds(self, encoder: "Encoder", image: "Tensor") -> float:
        """Wall-clock time of one pass, the work of a GPU included."""
        import torch

        from evals.device import autocast

        device = image.device
        with autocast(device, self.dtype):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            encoder(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return time.perf_counter() - start


def parameters(encoder: "Encoder") -> int:
    """Parameters of the image tower: what the adapter says, else every parameter."""
    if encoder.card.params is not None:
        return encoder.card.params
    return sum(parameter.numel() for parameter in encoder.parameters())


def count_operations(encoder: "Encoder", image: "Tensor") -> int:
    """Floating-point operations of one forward pass, by torch's counter.

    Attention runs as plain matrix products while it is counted: the counter does not know every fused kernel, and
    would give an encoder another cost on another device.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(image)
    return int(counter.get_total_flops())


def _quantile(values: Sequence[float], share: float) -> float:
    """Linear between the order statistics."""
    import numpy as np

    return float(np.quantile(values, share))
