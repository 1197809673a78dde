"""Steps of the trainer against the matrix product of the device that they run on, in one process.

python tests/performance/trainer.py [--tiny] [--micro 128] [--compile] [--rounds 5] [--ranks 8]

Stage 2 is a ViT-B and a proxy of 1.85 billion random weights at 256 px, stage 3 the same at 256/384/512 px, and the
family all six students. With --tiny, networks of the same kinds that a CPU runs in seconds: what it prints then says
that the script works and nothing about the speed of the trainer.
"""

import argparse
import itertools
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from eupe.config import Stage, read
from eupe.meter import measured_peak
from eupe.optim import Guard
from eupe.parallel import compile_blocks, halve, recompute
from eupe.plan import costs
from eupe.statistics import Statistics
from eupe.step import Pupil, Standard, train_step, warm_up
from eupe.students import Architecture, Target, learner
from eupe.teachers import Teacher
from evals.device import generator
from evals.encoders.card import card
from evals.encoders.registry import resolve
from evals.encoders.weights import image_spec
from evals.files import DigestMemo
from evals.types import Ask, Encoder, Features

PROXY = {"embed_dim": 1536, "depth": 50, "num_heads": 16, "mlp_ratio": 8960 / 1536}
TINY_PROXY = {"embed_dim": 192, "depth": 8, "num_heads": 3}
VIT = "vit_{}_patch16_dinov3_qkvb"
FAMILY: dict[str, dict[str, Any]] = {
    **{f"vit-{size[0]}": {"model": VIT.format(size)} for size in ("tiny", "small", "base")},
    **{f"convnext-{size[0]}": {"model": f"convnext_{size}.eupe_lvd1689m"} for size in ("tiny", "small", "base")},
}
TINY_FAMILY: dict[str, dict[str, Any]] = {
    "vit-b": {"model": VIT.format("tiny"), "options": {"embed_dim": 96, "depth": 4, "num_heads": 3}},
    "convnext-t": {"model": "convnext_atto", "options": {"depths": [1, 1, 2, 1], "dims": [16, 32, 48, 64]}},
}
_PICK = 1
"""Stream of draws of what each process would pick."""


class Proxy(Encoder):
    """A teacher of random weights: the backbone of a learner."""

    def __init__(self, options: Mapping[str, Any], device: torch.device) -> None:
        entry = resolve("eupe-vit-b", weights="random")
        with torch.device(device):
            made = learner(Architecture(VIT.format("base"), options), {}, hidden=1, seed=0)
        super().__init__(
            card(entry, DigestMemo(None)), image_spec(entry), dim=made.width, depth=len(made.backbone.blocks)
        )
        self.network = made
        self.to(device).requires_grad_(False).eval()

    def encode(self, images_B3YX: torch.Tensor, ask: Ask) -> Features:
        """Class token and patches after the final norm."""
        return Features(*self.network.features(images_B3YX))


@dataclass(frozen=True)
class Bench:
    """What every measurement shares."""

    device: torch.device
    micro: int
    rounds: int
    dtype: str
    proxy: Mapping[str, Any]
    family: Mapping[str, Mapping[str, Any]]
    sides: tuple[int, ...]

    def stage(self, names: Sequence[str], **changes: Any) -> Stage:
        """A stage of these students."""
        raw = {
            "name": "bench",
            "teachers": {"proxy": {"encoder": "none", "side": self.sides[0]}},
            "students": {name: dict(self.family[name]) for name in names},
            "sources": {"none": {"kind": "folder", "root": "none"}},
            "rate": {"base": 1e-4, "steps": 1000},
            "batch": self.micro,
            "sides": [self.sides[0]],
            "dtype": self.dtype,
            **changes,
        }
        made: Stage = read(Stage, raw, "stage")
        return made


class Steps:
    """A stage without data: the same random images at every step."""

    def __init__(self, bench: Bench, stage: Stage, proxy: Proxy) -> None:
        self._bench, self._stage, device = bench, stage, bench.device
        width, dim = proxy.network.width, torch.zeros(proxy.network.width, device=device)
        self._teachers = {"proxy": Teacher("proxy", proxy, side=bench.sides[0], dtype=stage.dtype)}
        even = Statistics(dim, dim + 1, 2, 0)
        self._standards = {"proxy": Standard(even, even)}
        self._pupils = {name: self._pupil(name, Target(width, width)) for name in stage.students}
        learners = {name: pupil.learner for name, pupil in self._pupils.items()}
        # Counted before anything is compiled.
        self._costs = costs(replace(stage, teacher_sides=bench.sides, sides=bench.sides), {"proxy": proxy}, learners)
        if stage.compile:
            compile_blocks([proxy, *learners.values()])
            warm_up(stage, stage.micro or stage.batch, device, self._teachers, self._standards, self._pupils)

    def _pupil(self, name: str, target: Target) -> Pupil:
        config, stage = self._stage.students[name], self._stage
        with torch.device(self._bench.device):
            made = learner(Architecture(config.model, config.options), {"proxy": target}, hidden=stage.hidden, seed=0)
        made = made.to(self._bench.device).train()
        if config.recompute:
            recompute(made)
        optimiser = stage.optimisation.build(made)
        return Pupil(name, made, made, optimiser, Guard(name, made, optimiser, stage.optimisation.clip))

    def seconds(self, side: int, teacher_side: int) -> float:
        """Of one step at that pair of sides, the median of several; the first is not counted."""
        stage = replace(self._stage, sides=(side,), teacher_sides=(teacher_side,))
        images = torch.rand(stage.batch, 3, max(side, teacher_side), max(side, teacher_side), device=self._bench.device)
        times = []
        for step in range(self._bench.rounds + 1):
            since = time.perf_counter()
            numbers = train_step(stage, step, images, self._teachers, self._standards, self._pupils)
            # Reading a number waits for the step.
            next(iter(numbers.values())).item()
            times.append(time.perf_counter() - since)
        return statistics.median(times[1:])

    def flops(self, side: int, teacher_side: int) -> float:
        """Of such a step."""
        return self._stage.batch * self._costs.image(side, teacher_side)


def stage_two(bench: Bench, proxy: Proxy, peak: float, *, compiled: bool) -> float:
    """What was tried at the step of stage 2, one row each; seconds an image of the best."""
    side, main = bench.sides[0], "vit-b"
    tried: dict[str, dict[str, Any]] = {
        "teacher held in fp32": {},
        "as it comes": {},
        "half the images at once": {"batch": max(1, bench.micro // 2)},
        "two micro-batches": {"batch": 2 * bench.micro, "micro": bench.micro},
        "blocks computed again": {"students": {main: {**bench.family[main], "recompute": True}}},
    }
    if compiled:
        tried["compiled"] = {"compile": True}
    best = float("inf")
    print(f"{'stage 2, ' + main:<26}{'images':>8}{'ms':>10}{'images/s':>11}{'TFLOP/s':>10}{'MFU':>8}")
    for name, changes in tried.items():
        if name == "as it comes":
            halve(proxy, bench.dtype)
        stage = bench.stage([main], **changes)
        steps = Steps(bench, stage, proxy)
        taken, done = steps.seconds(side, side), steps.flops(side, side)
        best = min(best, taken / stage.batch)
        rates = f"{stage.batch / taken:>11.1f}{done / taken / 1e12:>10.3f}{done / taken / peak:>8.1%}"
        print(f"{name:<26}{stage.batch:>8}{taken * 1e3:>10.1f}{rates}")
    return best


def stage_three(bench: Bench, proxy: Proxy, ranks: int) -> None:
    """Nine pairs of sides against the first, with one pick for all processes and with one for each."""
    steps = Steps(bench, bench.stage(["vit-b"]), proxy)
    pairs = list(itertools.product(bench.sides, bench.sides))
    taken = {pair: steps.seconds(*pair) for pair in pairs}
    first = taken[pairs[0]]
    together = statistics.mean(taken.values()) / first
    draws = generator(0, _PICK).integers(len(pairs), size=(10_000, ranks))
    each = float(np.array([taken[pair] for pair in pairs])[draws].max(1).mean()) / first
    counted = statistics.mean(steps.flops(*pair) for pair in pairs) / steps.flops(*pairs[0])
    print(f"\nstage 3 / stage 2         {'equal batch':>14}{'4096 / 8192':>14}")
    print(f"{'counted in FLOPs':<26}{counted:>14.2f}{counted / 2:>14.2f}")
    print(f"{'one pick for all':<26}{together:>14.2f}{together / 2:>14.2f}")
    print(f"{f'one pick on each of {ranks}':<26}{each:>14.2f}{each / 2:>14.2f}   (slowest of {ranks} measured times)")


def family(bench: Bench, proxy: Proxy) -> None:
    """All students on one pass of the teacher against one run for each."""
    side, names = bench.sides[0], list(bench.family)
    apart = sum(Steps(bench, bench.stage([name]), proxy).seconds(side, side) for name in names)
    together = Steps(bench, bench.stage(names), proxy).seconds(side, side)
    print(f"\n{len(names)} students, steps of {bench.micro} images: together {together * 1e3:.1f} ms, apart", end=" ")
    print(f"{apart * 1e3:.1f} ms; {apart / together:.2f} times the images a second")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--micro", type=int, default=0, help="images at once (default: 128, tiny 4)")
    parser.add_argument("--rounds", type=int, default=0, help="steps that are measured (default: 10, tiny 3)")
    parser.add_argument("--ranks", type=int, default=8, help="processes whose picks are compared")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not given.tiny:
        parser.error("the full size needs a GPU; --tiny runs stand-ins here")
    tiny = given.tiny
    bench = Bench(
        device,
        given.micro or (4 if tiny else 128),
        given.rounds or (3 if tiny else 10),
        "fp32" if device.type == "cpu" else "bf16",
        TINY_PROXY if tiny else PROXY,
        TINY_FAMILY if tiny else FAMILY,
        (64, 96, 128) if tiny else (256, 384, 512),
    )
    chip = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU"
    peak = measured_peak(device, bench.dtype)
    print(f"{chip}, {bench.dtype}, torch {torch.__version__}: {peak / 1e12:.3f} TFLOP/s in a matrix product")
    if tiny:
        print("Stand-ins: these numbers say nothing about the speed of the trainer at its own sizes.")
    proxy = Proxy(bench.proxy, device)
    best = stage_two(bench, proxy, peak, compiled=given.compile)
    print(f"best: {1 / best:.1f} images/s; 8192 images in {8192 * best:.1f} s")
    stage_three(bench, proxy, given.ranks)
    family(bench, proxy)


if __name__ == "__main__":
    main()
