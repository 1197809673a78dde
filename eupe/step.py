"""One training step: every teacher looks once, every student learns from it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from eupe.augment import shrink
from eupe.average import Average
from eupe.config import Stage
from eupe.losses import teacher_loss, total
from eupe.optim import Guard
from eupe.parallel import synchronise
from eupe.sampling import scales
from eupe.statistics import Statistics
from eupe.students import Learner, rescaling
from eupe.teachers import Lesson, Teacher
from evals.device import autocast, torch_generator

_DROP = 13
"""Stream of draws of what networks drop."""


@dataclass(frozen=True, slots=True)
class Standard:
    """Statistics of one teacher's outputs."""

    cls: Statistics | None
    patch: Statistics

    def to(self, device: torch.device) -> "Standard":
        """On a device."""
        return Standard(None if self.cls is None else self.cls.to(device), self.patch.to(device))

    def apply(self, lesson: Lesson) -> Lesson:
        """Standardised targets."""
        cls_BD = None if self.cls is None or lesson.cls_BD is None else self.cls.standardise(lesson.cls_BD)
        return Lesson(cls_BD, self.patch.standardise(lesson.patches_BHWD))


@dataclass(slots=True)
class Pupil:
    """A student in training."""

    name: str
    learner: Learner
    wrapped: nn.Module
    """The learner, or what averages its gradients over processes."""
    optimiser: torch.optim.Optimizer
    guard: Guard
    average: Average | None = None


def sides_of(stage: Stage, step: int) -> tuple[int, int | None]:
    """(side of the students, side of the teachers or None for their own) of a step, the same on every process."""
    return scales(stage.seed, step, stage.sides, stage.teacher_sides)


def train_step(
    stage: Stage,
    step: int,
    images_B3SS: Float[Tensor, "B 3 S S"],
    teachers: Mapping[str, Teacher],
    standards: Mapping[str, Standard],
    pupils: Mapping[str, Pupil],
    clean_B3SS: Float[Tensor, "B 3 S S"] | None = None,
) -> dict[str, Tensor]:
    """Train every student on this process's share of a step; scalars by name, still on the device.

    Teachers see the same images, or `clean_B3SS` where there are any.
    Micro-batches are equal in size, so accumulating their gradients is the gradient of the whole share.
    """
    student_side, teacher_side = sides_of(stage, step)
    parts: tuple[Tensor, ...] = torch.split(images_B3SS, stage.micro or len(images_B3SS))
    assert len({len(part) for part in parts}) == 1, "the planner checks that micro-batches are equal"
    taught = parts if clean_B3SS is None else torch.split(clean_B3SS, len(parts[0]))
    sums: dict[str, Tensor] = {}
    with _dropping(stage, step, pupils, images_B3SS.device):
        for at, (part, seen) in enumerate(zip(parts, taught, strict=True)):
            with torch.no_grad():
                targets = _targets(seen, teacher_side, teachers, standards)
            given = shrink(part, student_side)
            for pupil in pupils.values():
                last = at == len(parts) - 1
                for key, value in _learn(stage, step, pupil, given, targets, share=1 / len(parts), sync=last).items():
                    sums[key] = sums.get(key, torch.zeros_like(value)) + value / len(parts)
    rate = stage.rate.at(step, stage.batch)
    for name, pupil in pupils.items():
        if step < stage.heads_only:
            # Dropped after the backward pass, not frozen before it: what averages gradients wants every one of them.
            pupil.learner.backbone.zero_grad(set_to_none=True)
        sums[f"{name}/gradient"] = pupil.guard.step(rate)
        if pupil.average is not None:
            pupil.average.update()
    return sums


def warm_up(
    stage: Stage,
    images: int,
    device: torch.device,
    teachers: Mapping[str, Teacher],
    standards: Mapping[str, Standard],
    pupils: Mapping[str, Pupil],
) -> None:
    """Every pair of sides that the stage can draw, once, on blank images: what compiles, compiles now.

    `images` a process takes at once. Gradients are dropped; nothing is learned.
    """
    blank = torch.zeros(images, 3, stage.canvas, stage.canvas, device=device)
    for teacher_side in stage.teacher_sides or (None,):
        with torch.no_grad():
            targets = _targets(blank, teacher_side, teachers, standards)
        for side in stage.sides:
            for pupil in pupils.values():
                _learn(stage, 0, pupil, shrink(blank, side), targets, share=1.0, sync=True)
                pupil.learner.zero_grad(set_to_none=True)


@contextmanager
def _dropping(stage: Stage, step: int, pupils: Mapping[str, Pupil], device: torch.device) -> Iterator[None]:
    """For students that drop paths: torch's own stream is that of the step and process, and then put back.

    A run that goes on drops the same.
    """
    if not any(pupil.learner.drops for pupil in pupils.values()):
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(torch_generator(stage.seed, step, distributed.get_rank(), _DROP).initial_seed())
        yield


def _targets(
    images_B3SS: Tensor, side: int | None, teachers: Mapping[str, Teacher], standards: Mapping[str, Standard]
) -> dict[str, Lesson]:
    return {
        name: standards[name].apply(teacher(shrink(images_B3SS, side or teacher.side)))
        for name, teacher in teachers.items()
    }


def _learn(
    stage: Stage,
    step: int,
    pupil: Pupil,
    images_B3SS: Tensor,
    targets: Mapping[str, Lesson],
    *,
    share: float,
    sync: bool,
) -> dict[str, Tensor]:
    """Forward and backward of one student on one micro-batch."""
    factors = rescaling(pupil.learner.rope_blocks, stage.rope_rescale, stage.seed, step)
    if factors is not None:
        factors = factors.to(images_B3SS.device, non_blocking=True)
    synchronise(pupil.wrapped, sync)
    with autocast(images_B3SS.device, stage.dtype):
        said = pupil.wrapped(images_B3SS, factors)
    losses = {
        name: teacher_loss(said[name][0], said[name][1], target.cls_BD, target.patches_BHWD, stage.loss)
        for name, target in targets.items()
    }
    weights = {name: (config.cls_weight, config.patch_weight) for name, config in stage.teachers.items()}
    loss = total(losses, weights)
    torch.autograd.backward(loss * share)
    shown = {f"{pupil.name}/loss": loss.detach()}
    for name, one in losses.items():
        shown[f"{pupil.name}/{name}/patch"] = one.patch().detach()
        if one.cls is not None:
            shown[f"{pupil.name}/{name}/cls"] = one.cls.detach()
    return shown
