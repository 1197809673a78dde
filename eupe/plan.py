"""What a stage costs before anything starts: FLOPs, memory, bytes and hours, from its configuration alone.

Every network is built without weights, so that the largest can be planned on any machine.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from eupe.config import Stage
from eupe.students import Architecture, Learner, Target
from evals.encoders.load import blueprint
from evals.encoders.registry import resolve
from evals.errors import UsageError
from evals.types import Ask, Encoder

TRAINING = 3
"""Passes of a trained network, in forward passes: one forward, one backward for inputs, one for weights."""
_ADAM = 4
"""fp32 numbers a trained parameter: weight, gradient, two moments."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Of one stage. FLOPs are per image, averaged over the scales that the stage draws."""

    teachers: Mapping[str, float]
    """FLOPs forward."""
    students: Mapping[str, float]
    """FLOPs forward, without heads."""
    heads: Mapping[str, float]
    """FLOPs forward of all heads of a student."""
    steps: int
    batch: int
    parameters: Mapping[str, int]
    """Of every network."""
    canvas: int

    @property
    def image(self) -> float:
        """FLOPs of one image, with the backward passes of the students."""
        return sum(self.teachers.values()) + TRAINING * (sum(self.students.values()) + sum(self.heads.values()))

    @property
    def total(self) -> float:
        """FLOPs of the whole stage."""
        return self.image * self.batch * self.steps

    @property
    def memory(self) -> int:
        """Bytes of weights, gradients and optimiser state on one process, without activations: teachers in fp32."""
        trained = sum(count for name, count in self.parameters.items() if name in self.students)
        frozen = sum(count for name, count in self.parameters.items() if name in self.teachers)
        return 4 * (_ADAM * trained + frozen)

    @property
    def pixels(self) -> int:
        """Bytes of crops that reach the devices in a step."""
        return 3 * self.canvas**2 * self.batch

    def hours(self, flops: float) -> float:
        """Of all devices together, at that many FLOPs a second."""
        return self.total / flops / 3600


def plan(stage: Stage, ranks: int = 1) -> Plan:
    """The plan of a stage. Raises UsageError for batches that do not divide, and as loading the teachers would."""
    share, rest = divmod(stage.batch, ranks)
    if rest or (stage.micro and share % stage.micro):
        raise UsageError(
            f"stage {stage.name!r}: a batch of {stage.batch} does not divide into {ranks} processes"
            + (f" and micro-batches of {stage.micro}." if stage.micro else ".")
        )
    encoders = {
        name: blueprint(resolve(config.encoder, weights=config.weights)) for name, config in stage.teachers.items()
    }
    targets = {name: _target(encoder, stage.teachers[name].cls) for name, encoder in encoders.items()}
    with torch.device("meta"):
        learners = {
            name: Learner(Architecture(config.model, config.options).build(), targets, stage.hidden)
            for name, config in stage.students.items()
        }
    sides = stage.sides
    teachers = {
        name: _mean(_flops(encoder, side) for side in (stage.teacher_sides or (stage.teachers[name].side,)))
        for name, encoder in encoders.items()
    }
    students = {name: _mean(_flops(_Features(one), side) for side in sides) for name, one in learners.items()}
    whole = {name: _mean(_flops(one, side) for side in sides) for name, one in learners.items()}
    parameters = {name: sum(p.numel() for p in one.parameters()) for name, one in {**encoders, **learners}.items()}
    heads = {name: whole[name] - students[name] for name in learners}
    return Plan(teachers, students, heads, stage.rate.steps, stage.batch, parameters, stage.canvas)


class _Features(nn.Module):
    """The backbone of a learner alone."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self._learner = learner

    def forward(self, images: torch.Tensor) -> object:
        return self._learner.features(images)


def _target(encoder: Encoder, cls: str) -> Target:
    with torch.no_grad():
        side = 2 * encoder.spec.patch
        features = encoder.encode(torch.empty(1, 3, side, side, device="meta"), Ask())
    found = {"none": None, "mean": encoder.dim}
    if cls in found:
        return Target(found[cls], encoder.dim)
    vector = features.pooled_BD if cls == "global" else features.others[cls]
    return Target(None if vector is None else vector.shape[1], encoder.dim)


def _flops(network: nn.Module, side: int) -> float:
    image = torch.empty(1, 3, side, side, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.encode(image, Ask()) if isinstance(network, Encoder) else network(image)
    return float(counter.get_total_flops())


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
