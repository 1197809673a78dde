"""Learning rates and momenta of head training, as pure functions of the step (0-based).

Both schedules have a jump where the warm-up ends; the jumps are part of the protocols.
"""

import math

WARMUP_RATIO = 1e-6
"""Share of the peak that the segmentation warm-up starts from (EUPE's released evaluation, ADE20K)."""


def segmentation_rate(step: int, *, peak: float, steps: int, warmup: int) -> float:
    """Linear warm-up times linear decay, then half a cosine; the first two steps share a rate.

    Source: EUPE's released evaluation (ADE20K: peak 1e-3, 40,000 steps, warm-up 1,500).
    """
    s = max(step - 1, 0)
    if s < warmup:
        return peak * (1 - (1 - s / warmup) * (1 - WARMUP_RATIO)) * (1 - s / steps)
    return peak / 2 * (1 + math.cos(math.pi * (s + 1) / steps))


def depth_rate(step: int, *, peak: float, steps: int, warmup: int) -> float:
    """A cosine times a linear warm-up that starts at a thousandth of the peak, then half a cosine to its 25,000th.

    Source: EUPE's released evaluation (NYUv2: peak 3e-4, 38,400 steps, warm-up 12,800).
    """
    if step < warmup:
        return peak / 1000 + peak / 2 * (1 + math.cos(math.pi * step / steps)) * step / warmup
    floor = peak / 25_000
    return floor + (peak - floor) / 2 * (1 + math.cos(math.pi * (step + 1) / steps))


def depth_beta1(step: int, *, steps: int, warmup: int) -> float:
    """First Adam coefficient: 0 during the warm-up, then 0.85 rising to 0.95 along a cosine (source: as the rate)."""
    if step < warmup:
        return 0.0
    return 0.95 - 0.05 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
