"""The experts of the embedded family: small ResNets of stride 16, each trained with labels of the embedded world.

A semantic one with a text tower, a dense one (labels, depth, key points) and a reading one: what PE-core, DINOv3 and
PE-lang are to the paper's proxy. They are written as exports, so any stage can name them as teachers.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from eupe.miniature import pictures, tasks
from eupe.miniature.tasks import Crops, Look, Reading
from eupe.students import Architecture
from evals.context import BarFactory
from evals.device import autocast, generator
from evals.encoders.entry import NORMALISATIONS
from evals.encoders.exports.files import write_export
from evals.encoders.exports.manifest import Manifest, Text
from evals.encoders.exports.text import WordTower, fresh_tower
from evals.encoders.weights import seeded
from evals.errors import NumericsError

SKILLS = ("semantic", "dense", "reading")
"""The experts, by what they know."""
PATCH, DIM = 16, 256
ARCHITECTURE = Architecture(
    "resnet10t", {"layers": [1, 1, 2, 1], "channels": [32, 64, 128, DIM], "stem_width": 16, "output_stride": PATCH}
)
_SPANS = (0.55, 0.95)
"""Share of a crop's width that a sign takes."""
_OTHERS = 4
"""One in so many pictures of the reading expert has nothing to read."""
_CLIP = 3.0
_FROZEN_FROM = 0.7
"""Share of the steps after which batch norms use their running statistics, as they will ever after."""


class Network(nn.Module):
    """The backbone of an expert, as the suite will read it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ARCHITECTURE.build()
        mean, std = NORMALISATIONS["imagenet"]
        self.normalise = partial(normalize, mean=list(mean), std=list(std))

    def forward(self, images_B3YX: Float[Tensor, "B 3 Y X"]) -> tasks.Features:
        """Of RGB images in [0, 1]: the mean of the last map, and that map."""
        # Backward passes of convolutions are several times as fast in this order of memory.
        images = self.normalise(images_B3YX).contiguous(memory_format=torch.channels_last)
        maps_BDHW = cast("Any", self.backbone).forward_features(images)
        return maps_BDHW.mean((2, 3)), maps_BDHW.permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class ExpertTraining:
    """How every expert learns."""

    steps: int = 500
    images: int = 64
    """A step."""
    rate: float = 3e-3
    """Peak (AdamW; a cosine after the warm-up)."""
    weight_decay: float = 0.05
    warmup: int = 30
    dtype: str = "bf16"
    seed: int = 0
    text: Text = field(default_factory=lambda: Text((), 128, 2, 4, 16))
    """Shape of the text tower; its words follow from the world."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one expert learns from: losses of one step, and the modules that are trained beside it."""

    losses: Callable[[Look, np.random.Generator], Mapping[str, Tensor]]
    extra: nn.ModuleDict
    tower: WordTower | None = None


def train_expert(skill: str, world: Path, folder: Path, training: ExpertTraining, bar: BarFactory) -> Manifest:
    """Train one expert on a world of lessons and export it. Raises NumericsError where a loss is no number."""
    with seeded(training.seed):
        made = Network().to(memory_format=torch.channels_last).train()
    with seeded(training.seed + 1):
        lesson = _LESSONS[skill](world, training)
    modules = nn.ModuleList([made, lesson.extra])
    optimiser = torch.optim.AdamW(modules.parameters(), lr=training.rate, weight_decay=training.weight_decay)
    with bar(f"expert: {skill}", training.steps) as progress:
        for step in range(training.steps):
            if step == int(_FROZEN_FROM * training.steps):
                made.eval()
            for group in optimiser.param_groups:
                group["lr"] = _rate(training, step)
            with autocast(torch.device("cpu"), training.dtype):
                losses = lesson.losses(made, generator(training.seed, SKILLS.index(skill), step))
            loss = sum(losses.values(), torch.zeros(()))
            if not bool(loss.isfinite()):
                raise NumericsError(f"the loss of the {skill} expert is {float(loss.detach())} at step {step}.")
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(modules.parameters(), _CLIP)
            optimiser.step()
            progress.update(1)
    manifest = _manifest(
        skill, training, lesson, {name: round(float(loss.detach()), 4) for name, loss in losses.items()}
    )
    return write_export(folder, manifest, made.backbone.state_dict(), text=lesson.tower)


def _rate(training: ExpertTraining, step: int) -> float:
    rise = min(1.0, (step + 1) / training.warmup)
    return training.rate * rise * (1 + math.cos(math.pi * step / training.steps)) / 2


def _semantic(world: Path, training: ExpertTraining) -> Lesson:
    found, names = pictures.objects(world)
    shape = Text(
        tasks.vocabulary(names), *(asdict(training.text)[key] for key in ("width", "depth", "heads", "context"))
    )
    tower = fresh_tower(shape, DIM, training.seed + 1)
    crops = Crops(training.images, (0.8, 1.6))
    learnt = found.part(held_out=False)

    def losses(look: Look, draws: np.random.Generator) -> Mapping[str, Tensor]:
        return {"names": tasks.name_objects(look, tower, names, learnt, crops, draws)}

    return Lesson(losses, nn.ModuleDict({"tower": tower}), tower)


def _reading(world: Path, training: ExpertTraining) -> Lesson:
    signs, words = pictures.notices(world)
    others, _ = pictures.objects(world)
    aside = training.images // _OTHERS
    asked = Reading(
        signs.part(held_out=False),
        others.part(held_out=False),
        training.images - aside,
        _SPANS,
        Crops(aside, (0.8, 1.6)),
    )
    # One more than there are words and letters: none.
    heads = nn.Linear(DIM, len(words) + 1, bias=False), nn.Linear(DIM, tasks.LETTERS + 1)

    def losses(look: Look, draws: np.random.Generator) -> Mapping[str, Tensor]:
        return asked.losses(look, *heads, draws)

    return Lesson(losses, nn.ModuleDict(dict(zip(("words", "letters"), heads, strict=True))))


def _dense(world: Path, training: ExpertTraining) -> Lesson:
    scenes, classes = pictures.scenes(world)
    rooms, (portraits, points) = pictures.rooms(world), pictures.portraits(world)
    heads = {
        "labels": nn.Linear(DIM, classes),
        "depth": nn.Linear(DIM, 1),
        "points": nn.Linear(DIM, points, bias=False),
    }
    share = training.images // 3
    parts: dict[str, Callable[..., Tensor]] = {
        "labels": partial(
            tasks.label_scenes,
            labels=heads["labels"],
            pictures=scenes.part(held_out=False),
            crops=Crops(share, (0.8, 1.8)),
        ),
        # All frames come from one camera, so the scale stays.
        "depth": partial(
            tasks.measure_rooms,
            depth=heads["depth"],
            pictures=rooms.part(held_out=False),
            crops=Crops(share, (1, 1), (112, 144)),
        ),
        "points": partial(
            tasks.find_points,
            points=heads["points"],
            pictures=portraits.part(held_out=False),
            crops=Crops(share // 2, (1.3, 2.0), (192, 192), mirror=False, stray=0.5),
        ),
    }
    return Lesson(
        lambda look, draws: {name: part(look, draws=draws) for name, part in parts.items()}, nn.ModuleDict(heads)
    )


_LESSONS: Mapping[str, Callable[[Path, ExpertTraining], Lesson]] = {
    "semantic": _semantic,
    "dense": _dense,
    "reading": _reading,
}


def _manifest(skill: str, training: ExpertTraining, lesson: Lesson, losses: Mapping[str, float]) -> Manifest:
    mean, std = NORMALISATIONS["imagenet"]
    entry: dict[str, Any] = {
        "size": tasks.SIDE,
        "patch": PATCH,
        "dim": DIM,
        "global_feature": "avg_pool",
        "licence": "Apache-2.0",
        "mean": list(mean),
        "std": list(std),
        "interpolation": "bicubic",
        "antialias": True,
        "resize": "crop",
    }
    shape = None if lesson.tower is None else lesson.tower.shape
    notes = {"losses": dict(losses), "training": json.loads(json.dumps(asdict(training)))}
    return Manifest(
        f"miniature-{skill}", ARCHITECTURE.model, entry, dict(ARCHITECTURE.options), text=shape, training=notes
    )
