"""What a stage costs before anything starts: FLOPs, memory, bytes and hours, from its configuration alone.

Every network is built without weights, so that the largest can be planned on any machine.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from eupe.config import Stage, StudentConfig
from eupe.parallel import recompute
from eupe.students import Architecture, Learner, Target
from evals.device import autocast
from evals.encoders.load import blueprint
from evals.encoders.registry import resolve
from evals.types import Ask, Encoder

TRAINING = 3
"""Passes of a trained network, in forward passes: one forward, one backward for inputs, one for weights."""
_FP32, _HALF = 4, 2
_ADAM = 4
"""fp32 numbers a trained parameter: weight, gradient, two moments."""
JPEG = 115_000
"""Bytes of a file of ImageNet-1k on average, for what has to be read."""


@dataclass(frozen=True, slots=True)
class Costs:
    """FLOPs of one image, forward, by name of the network and side of its input."""

    teachers: Mapping[str, Mapping[int, float]]
    students: Mapping[str, Mapping[int, float]]
    """With their heads."""
    own: Mapping[str, int]
    """Side of each teacher where none is drawn."""

    def image(self, side: int, teacher_side: int | None) -> float:
        """FLOPs of an image of a step with those sides, with the backward passes of the students."""
        taught = sum(at[teacher_side or self.own[name]] for name, at in self.teachers.items())
        return taught + TRAINING * sum(at[side] for at in self.students.values())


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one process."""

    frozen: int
    """Weights of teachers."""
    trained: int
    """Weights, gradients, moments and averages of students, and their copies in the type of the arithmetic."""
    activations: int
    """An estimate: what the backward pass of the largest student needs of a micro-batch at the largest side."""


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
    memory: Memory
    again: float
    """FLOPs forward that backward passes repeat instead of keeping what they need."""

    @property
    def image(self) -> float:
        """FLOPs of one image, with the backward passes of the students."""
        trained = sum(self.students.values()) + sum(self.heads.values())
        return sum(self.teachers.values()) + TRAINING * trained + self.again

    @property
    def total(self) -> float:
        """FLOPs of the whole stage."""
        return self.image * self.batch * self.steps

    @property
    def pixels(self) -> int:
        """Bytes of crops that reach the devices in a step."""
        return 3 * self.canvas**2 * self.batch

    @property
    def files(self) -> int:
        """Bytes of images that the whole stage reads, at JPEG each."""
        return JPEG * self.batch * self.steps

    def hours(self, flops: float) -> float:
        """Of all devices together, at that many FLOPs a second."""
        return self.total / flops / 3600


def plan(stage: Stage, ranks: int = 1, coming: Mapping[str, StudentConfig] = MappingProxyType({})) -> Plan:
    """The plan of a stage; `coming` are teachers that are not trained yet, as the students that they will be.

    Raises UsageError for batches that do not divide, and as loading the teachers would.
    """
    share = stage.share(ranks)
    encoders = {
        name: _Coming(coming[name]) if name in coming else blueprint(resolve(config.encoder, weights=config.weights))
        for name, config in stage.teachers.items()
    }
    targets = {name: _target(encoder, stage.teachers[name].cls) for name, encoder in encoders.items()}
    learners = {name: _blank(stage, name, targets) for name in stage.students}
    counted = costs(stage, encoders, learners)
    heads = {name: _mean(_head_flops(one, side) for side in stage.sides) for name, one in learners.items()}
    students = {name: _mean(at.values()) - heads[name] for name, at in counted.students.items()}
    parameters = {name: _count(one) for name, one in {**encoders, **learners}.items()}
    largest = max(counted.students, key=lambda name: max(counted.students[name].values()))
    kept = _kept(stage, largest, _blank(stage, largest, targets))
    return Plan(
        teachers={
            name: _mean(at[side] for side in stage.teacher_sides or (counted.own[name],))
            for name, at in counted.teachers.items()
        },
        students=students,
        heads=heads,
        steps=stage.rate.steps,
        batch=stage.batch,
        parameters=parameters,
        canvas=stage.canvas,
        memory=_memory(stage, ranks, parameters, kept * (stage.micro or share)),
        again=sum(students[name] for name, config in stage.students.items() if config.recompute),
    )


def costs(stage: Stage, encoders: Mapping[str, nn.Module], learners: Mapping[str, Learner]) -> Costs:
    """Counted on one blank image a side, where the networks are."""
    own = {name: config.side for name, config in stage.teachers.items()}
    return Costs(
        teachers={
            name: {side: flops(encoder, side) for side in stage.teacher_sides or (own[name],)}
            for name, encoder in encoders.items()
        },
        students={name: {side: flops(one, side) for side in stage.sides} for name, one in learners.items()},
        own=own,
    )


def flops(network: nn.Module, side: int) -> float:
    """FLOPs forward of one image, two a multiply-accumulate."""
    device = next((tensor.device for tensor in [*network.parameters(), *network.buffers()]), torch.device("cpu"))
    image = torch.zeros(1, 3, side, side, device=device)
    # Frozen matrices may be held in the type of the arithmetic.
    half = any(tensor.dtype is torch.bfloat16 for tensor in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad(), autocast(device, "bf16" if half else "fp32"):
        network.encode(image, Ask()) if isinstance(network, Encoder) else network(image)
    return float(counter.get_total_flops())


def _blank(stage: Stage, name: str, targets: Mapping[str, Target]) -> Learner:
    """A student without weights or memory."""
    config = stage.students[name]
    asked = {teacher: target.asked(config.cls) for teacher, target in targets.items()}
    with torch.device("meta"):
        return Learner(Architecture(config.model, config.options).build(), asked, stage.hidden)


def _head_flops(learner: Learner, side: int) -> float:
    tokens = torch.zeros(1, (side // learner.patch) ** 2, learner.width, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for heads in learner.heads.values():
            for kind, head in heads.named_children():
                head(tokens[:, 0] if kind == "cls" else tokens)
    return float(counter.get_total_flops())


class _Coming(nn.Module):
    """A student that will teach, without weights or memory."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        with torch.device("meta"):
            self.learner = Learner(Architecture(config.model, config.options).build(), {}, 0)

    def forward(self, images: torch.Tensor) -> object:
        return self.learner.features(images)


def _target(encoder: Encoder | _Coming, cls: str) -> Target:
    if isinstance(encoder, _Coming):
        return Target(None if cls == "none" else encoder.learner.width, encoder.learner.width)
    with torch.no_grad():
        side = 2 * encoder.spec.patch
        features = encoder.encode(torch.empty(1, 3, side, side, device="meta"), Ask())
    found = {"none": None, "mean": encoder.dim}
    if cls in found:
        return Target(found[cls], encoder.dim)
    vector = features.pooled_BD if cls == "global" else features.others[cls]
    return Target(None if vector is None else vector.shape[1], encoder.dim)


def _memory(stage: Stage, ranks: int, parameters: Mapping[str, int], activations: int) -> Memory:
    held = _HALF if stage.dtype == "bf16" else _FP32
    trained = 0
    for name, config in stage.students.items():
        state = (_ADAM + (1 if stage.average else 0)) * _FP32 * parameters[name]
        copies = held * parameters[name] if stage.dtype == "bf16" else 0
        if ranks > 1 and config.shard:
            # Gathered weights stay between the passes; gradients do where micro-batches add up.
            waiting = _FP32 if stage.micro and stage.micro < stage.share(ranks) else 0
            state, copies = -(-state // ranks), (held + waiting) * parameters[name]
        trained += state + copies
    return Memory(held * sum(parameters[name] for name in stage.teachers), trained, activations)


def _kept(stage: Stage, name: str, learner: Learner) -> int:
    """Bytes that the backward pass of one more image needs, weights and their copies apart; no memory is used."""
    if stage.students[name].recompute:
        recompute(learner)
    with FakeTensorMode(allow_non_fake_inputs=True):
        learner.to_empty(device=torch.device("cpu"))
        one, two = (_saved(learner, max(stage.sides), images, stage.dtype) for images in (1, 2))
    return two - one


def _saved(learner: Learner, side: int, images: int, dtype: str) -> int:
    """Bytes that a forward pass leaves to its backward pass."""
    kept: dict[int, tuple[int, object]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        # Held, so that no other storage takes its number.
        kept[storage._cdata] = (storage.nbytes(), storage)
        return tensor

    blank = torch.zeros(images, 3, side, side)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast(blank.device, dtype):
        said = learner(blank)
    assert said, "a learner has heads"
    return sum(size for size, _ in kept.values())


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
