"""Learning rate as a pure function of the step: nothing to save, nothing to restore wrongly."""

import math
from dataclasses import dataclass
from typing import Literal

Scaling = Literal["none", "sqrt_1024", "linear_256"]


@dataclass(frozen=True, slots=True)
class CosineRate:
    """Linear warm-up, then a cosine down to `final` of the peak."""

    base: float
    """As the paper gives it; scaled by the batch to the peak."""
    steps: int
    warmup: int = 0
    final: float = 1e-6
    """Of the peak, at the last step."""
    scaling: Scaling = "sqrt_1024"

    def peak(self, batch: int) -> float:
        """The highest rate: base x 4 sqrt(batch / 1024), the rule of the released configuration, or as set."""
        factors = {"none": 1.0, "sqrt_1024": 4 * math.sqrt(batch / 1024), "linear_256": batch / 256}
        return self.base * factors[self.scaling]

    def at(self, step: int, batch: int) -> float:
        """The rate of a step, 0 to steps - 1."""
        peak = self.peak(batch)
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - 1 - self.warmup)
        return peak * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
