"""Extraction against its floor: decoding alone plus the forward pass alone, in one process, rounds interleaved.

python tests/performance/extraction.py --encoder eupe-vit-t --images 256 --size 224
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from evals.context import Context, Roots, batches
from evals.datasets.base import Images, read_rgb
from evals.device import exact_arithmetic
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.features import FeatureRequest, FeatureStore
from evals.files import DigestMemo
from evals.preprocess import ShortSideCrop, to_unit
from evals.types import Encoder


def main() -> None:
    """Print the seconds of each part and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="eupe-vit-t")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    exact_arithmetic()
    encoder = load(resolve(arguments.encoder, weights="random"), DigestMemo(None))
    geometry = ShortSideCrop(side=arguments.size, short=round(arguments.size * 256 / 224))
    with tempfile.TemporaryDirectory() as folder:
        images = pictures(Path(folder), arguments.images)
        rounds = [once(encoder, images, geometry, Path(folder) / f"cache{i}") for i in range(arguments.rounds + 1)]
    rounds = rounds[1:]  # the first pays for set-up
    for name in ("decode", "forward", "extract"):
        print(f"{name:8s} median {statistics.median(r[name] for r in rounds):8.3f} s")
    ratios = [r["extract"] / (r["decode"] + r["forward"]) for r in rounds]
    middle = statistics.median(ratios)
    print(f"extract / (decode + forward): {min(ratios):.3f} .. {max(ratios):.3f}, median {middle:.3f}")


def pictures(folder: Path, count: int) -> Images:
    """JPEG files of 500 x 375, the usual size of ImageNet, with content that compresses as photographs do."""
    rng = np.random.default_rng(0)
    paths = []
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
        path = folder / f"{index:05d}.jpg"
        coarse.save(path, quality=95)
        paths.append(path)
    return Images("photographs", tuple(paths), "00" * 32)


def once(encoder: Encoder, images: Images, geometry: ShortSideCrop, cache: Path) -> dict[str, float]:
    """Seconds of one round of each part."""
    started = time.perf_counter()
    pixels = torch.stack([geometry.apply(read_rgb(path), encoder.spec.patch) for path in images.paths])
    decoded = time.perf_counter()
    for rows in batches(len(pixels), 32):
        encoder(to_unit(pixels[rows.start : rows.stop]))
    forwarded = time.perf_counter()
    context = Context(Roots({}), cache, cache)
    store = FeatureStore(encoder, context)
    ready = time.perf_counter()
    store.get(FeatureRequest(images, geometry))
    return {
        "decode": decoded - started,
        "forward": forwarded - decoded,
        "extract": time.perf_counter() - ready,
    }


if __name__ == "__main__":
    main()
