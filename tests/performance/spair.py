"""Time of the key-point matching against the usual formulation, in one process, on all pairs of some feature maps.

    python tests/performance/spair.py [--images 3] [--points 9] [--cells 32] [--side 512] [--dim 768] [--repeats 3]
                                        [--threads 1]

The usual formulation enlarges both normalised maps to the pixels of the square and takes the largest dot product.
Prints the ratio and where predictions differ; ends with 1 when two of them differ although their scores do not tie
within 1e-6, or when the ratio is below 30.
"""

import argparse
import itertools
import sys
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evals.metrics.keypoints import transfer


def reference(source: Tensor, target: Tensor, pixels: Tensor, side: int) -> Tensor:
    """Scores [K, side x side] of every pixel of the target."""
    large = [
        functional.interpolate(tokens.permute(2, 0, 1)[None], size=(side, side), mode="bilinear")[0]
        for tokens in (source, target)
    ]
    return large[0][:, pixels[:, 1], pixels[:, 0]].T @ large[1].flatten(1)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("images", 3),
        ("points", 9),
        ("cells", 32),
        ("side", 512),
        ("dim", 768),
        ("repeats", 3),
        ("threads", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    torch.set_num_threads(size.threads)
    generator = torch.Generator().manual_seed(0)
    # Neighbouring tokens of real maps resemble each other: smooth noise, then unit length.
    noise = torch.randn(size.images, size.dim, size.cells // 2, size.cells // 2, generator=generator)
    smooth = functional.interpolate(noise, size=(size.cells, size.cells), mode="bilinear").permute(0, 2, 3, 1)
    rough = torch.randn(smooth.shape, generator=generator)
    maps = dict(enumerate(functional.normalize(smooth + 0.3 * rough, dim=-1)))
    pairs = list(itertools.permutations(range(size.images), 2))
    pixels = torch.randint(size.side, (len(pairs), size.points, 2), generator=generator)

    source, target = np.repeat(np.array(pairs), size.points, axis=0).T
    slow, fast = [], []
    # Taken in turns, so that a busy machine slows both; the fastest of each counts.
    for _ in range(size.repeats):
        start = time.perf_counter()
        scores = [reference(maps[s], maps[t], points, size.side) for (s, t), points in zip(pairs, pixels, strict=True)]
        expected = torch.cat([score.argmax(1) for score in scores])
        slow.append(time.perf_counter() - start)
        start = time.perf_counter()
        best = transfer(maps, source, target, pixels.flatten(0, 1), size.side, cosine=False)
        fast.append(time.perf_counter() - start)

    found = best[:, 1] * size.side + best[:, 0]
    all_scores = torch.cat(scores)
    gaps = all_scores.gather(1, expected[:, None]) - all_scores.gather(1, found[:, None])
    n, gap, slow_s, fast_s = len(pairs), float(gaps.max()), min(slow), min(fast)
    tokens = f"{size.cells} x {size.cells} x {size.dim} tokens"
    print(f"{n} pairs of {size.points} points, {tokens}, {size.side} px, {size.threads} threads")
    print(f"usual formulation {1000 * slow_s / n:9.2f} ms a pair\nours              {1000 * fast_s / n:9.2f} ms a pair")
    different = int((found != expected).sum())
    print(f"ratio {slow_s / fast_s:.0f} x; {different} of {len(found)} predictions differ, by at most {gap:.1e}")
    return int(gap >= 1e-6 or slow_s < 30 * fast_s)


if __name__ == "__main__":
    sys.exit(main())
