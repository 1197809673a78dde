"""How long a run will take on this machine: timed passes at the sizes to come, times their number."""

import time
from collections import Counter
from collections.abc import Sequence

import torch

from evals.benchmarks.base import Work
from evals.types import Encoder, TextAlignedEncoder


def seconds(encoder: Encoder, works: Sequence[Work], device: torch.device, batch: int) -> float:
    """Seconds of encoder time for these forward passes; decoding and heads come on top, and are small beside it."""
    images: Counter[tuple[int, int]] = Counter()
    for work in works:
        images[work.rows, work.columns] += work.images
    # A GPU is only busy with full batches; on a CPU two images tell as much as thirty-two.
    several = batch if device.type == "cuda" else min(batch, 2)
    passes = sum(count * _once(encoder, *size, device, several) for size, count in images.items())
    prompts = sum(work.prompts for work in works)
    if not prompts or not isinstance(encoder, TextAlignedEncoder):
        return passes
    started = time.perf_counter()
    encoder.encode_text(["a photo of one thing."] * several)
    return passes + prompts * (time.perf_counter() - started) / several


def _once(encoder: Encoder, rows: int, columns: int, device: torch.device, batch: int) -> float:
    """Seconds an image, after a first pass that pays for set-up."""
    images = torch.full((batch, 3, rows, columns), 0.5, device=device)
    for _ in range(2):
        started = time.perf_counter()
        encoder(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - started
    return elapsed / batch
