"""Adapter heads: from a student's tokens to what a teacher puts out, coordinate by coordinate standardised.

The paper's formula (arXiv 2603.22387, section 3): Linear without bias, LayerNorm, GELU, Linear without bias.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.exports.manifest import Teacher
from evals.errors import WeightsError

_INITIAL_STD = 0.02
"""Of the weights of a fresh head: outputs then start at 0.7 of the length of a standardised target."""
_RELEASED = "projectors."


class Head(nn.Module):
    """An adapter head, fresh. `folded` heads put out what the teacher does: their last layer has a bias."""

    def __init__(self, dim: int, hidden: int, target: int, *, folded: bool = False) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)
        self.outer = nn.Linear(hidden, target, bias=folded)
        for layer in (self.inner, self.outer):
            nn.init.trunc_normal_(layer.weight, std=_INITIAL_STD)

    def forward(self, tokens: Float[Tensor, "*S D"]) -> Float[Tensor, "*S E"]:
        """Standardised targets of tokens."""
        out: Tensor = self.outer(functional.gelu(self.norm(self.inner(tokens))))
        return out


class Statistics(nn.Module):
    """Mean and deviation of each coordinate of what a teacher put out, fixed before training."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean_D: Float[Tensor, " D"], std_D: Float[Tensor, " D"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean_D)
        self.register_buffer("std", std_D)

    def standardise(self, values: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """(value - mean) / deviation."""
        return (values - self.mean) / self.std

    def restore(self, values: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """The inverse of `standardise`."""
        return values * self.std + self.mean


class Adapter(nn.Module):
    """What a student has for one teacher: `cls` and `patch` heads, and the teacher's own `projection` into text."""

    def __init__(self, teacher: Teacher, dim: int) -> None:
        super().__init__()
        self.cls = None if teacher.cls is None else Head(dim, teacher.hidden, teacher.cls)
        self.patch = None if teacher.patch is None else Head(dim, teacher.hidden, teacher.patch)
        projected = teacher.projection is not None and teacher.cls is not None
        self.projection = nn.Linear(teacher.cls or 0, teacher.projection or 0) if projected else None


def adapters(teachers: Sequence[Teacher], dim: int) -> nn.ModuleDict:
    """The adapter of each teacher for a student of that width, fresh."""
    return nn.ModuleDict({teacher.name: Adapter(teacher, dim) for teacher in teachers})


def target_statistics(teachers: Sequence[Teacher]) -> nn.ModuleDict:
    """Statistics by teacher and kind of output (`cls`, `patch`), with means of 0 and deviations of 1."""
    made = nn.ModuleDict()
    for teacher in teachers:
        widths = {kind: width for kind, width in (("cls", teacher.cls), ("patch", teacher.patch)) if width is not None}
        made[teacher.name] = nn.ModuleDict(
            {kind: Statistics(torch.zeros(width), torch.ones(width)) for kind, width in widths.items()}
        )
    return made


def check_statistics(tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Raises WeightsError for means or deviations that are not finite, or deviations that are not above 0."""
    for key, value in tensors.items():
        if not bool(value.isfinite().all()) or (key.endswith("std") and not bool((value > 0).all())):
            raise WeightsError(f"{what}: {key} must be finite, and deviations above 0; export it again.")


def fold(head: Head, statistics: Statistics) -> Head:
    """The head that gives `statistics.restore(head(tokens))`: rows of the last weight times deviations, means as bias.

    De-standardisation is part of the last Linear then (PHI-S, arXiv 2410.01680, appendix A.6).
    """
    with torch.device("meta"):
        folded = Head(head.inner.in_features, head.inner.out_features, head.outer.out_features, folded=True)
    weight_EH = head.outer.weight.detach() * statistics.std[:, None]
    last = {"outer.weight": weight_EH, "outer.bias": statistics.mean.clone()}
    folded.load_state_dict({**head.state_dict(), **last}, assign=True)
    return folded.requires_grad_(False)


@dataclass(frozen=True, slots=True)
class ReleasedHead:
    """A distillation head in a released checkpoint, as far as its tensors tell."""

    name: str
    """What its keys have in common."""
    shapes: Mapping[str, tuple[int, ...]]
    """Rest of the key -> shape, in the order of the file."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of the input, then what each matrix puts out; (192, 3072, 1536) from a ViT-T to a proxy of 1536."""
        matrices = [shape for shape in self.shapes.values() if len(shape) == 2]
        return (*(shape[1] for shape in matrices[:1]), *(shape[0] for shape in matrices))


def released_heads(tensors: Mapping[str, Tensor]) -> tuple[ReleasedHead, ...]:
    """The heads (`projectors.*`) of a released EUPE file, in its order; keys end in `<layer>.<weight or bias>`.

    They lead to the space of a proxy whose statistics and own heads were not released, so not to any text.
    """
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, value in tensors.items():
        if key.startswith(_RELEASED):
            name, *layer = key.removeprefix(_RELEASED).rsplit(".", 2)
            found.setdefault(name, {})[".".join(layer)] = tuple(value.shape)
    return tuple(ReleasedHead(name, shapes) for name, shapes in found.items())
