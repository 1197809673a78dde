"""One training step: every teacher looks once, every student learns from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eupe.augment import shrink
from eupe.config import Stage
from eupe.losses import teacher_loss, total
from eupe.optim import Guard
from eupe.sampling import scales
from eupe.statistics import Statistics
from eupe.students import Learner, rescaling
from eupe.teachers import Lesson, Teacher
from evals.device import autocast


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


def sides_of(stage: Stage, step: int) -> tuple[int, int | None]:
    """(side of the students, side of the teachers or None for their own) of a step, the same on every process."""
    if len(stage.sides) == 1 and not stage.teacher_sides:
        return stage.sides[0], None
    student, teacher = scales(stage.seed, step, stage.sides)
    return student, teacher


def train_step(
    stage: Stage,
    step: int,
    images_B3SS: Float[Tensor, "B 3 S S"],
    teachers: Mapping[str, Teacher],
    standards: Mapping[str, Standard],
    pupils: Mapping[str, Pupil],
) -> dict[str, Tensor]:
    """Train every student on this process's share of a step; scalars by name, still on the device.

    Micro-batches are equal in size, so accumulating their gradients is the gradient of the whole share.
    """
    student_side, teacher_side = sides_of(stage, step)
    parts: tuple[Tensor, ...] = torch.split(images_B3SS, stage.micro or len(images_B3SS))
    assert len({len(part) for part in parts}) == 1, "the planner checks that micro-batches are equal"
    sums: dict[str, Tensor] = {}
    for at, part in enumerate(parts):
        with torch.no_grad():
            targets = _targets(part, teacher_side, teachers, standards)
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
    return sums


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
    waits: Any = pupil.wrapped
    factors = rescaling(pupil.learner.rope_blocks, stage.rope_rescale, stage.seed, step)
    if factors is not None:
        factors = factors.to(images_B3SS.device)
    if hasattr(waits, "require_backward_grad_sync"):
        waits.require_backward_grad_sync = sync
    with autocast(images_B3SS.device, stage.dtype):
        said = pupil.wrapped(images_B3SS, factors)
    losses = {
        name: teacher_loss(said[name][0], said[name][1], target.cls_BD, target.patches_BHWD)
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
