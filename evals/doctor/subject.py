"""The encoder under examination: where it runs, the images it is shown, and how its outputs are compared."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from evals.device import torch_generator
from evals.errors import DataError, EvalError, UnavailableError
from evals.types import Encoder, Features, nearest_multiple

Grid = tuple[int, int]
"""Rows and columns of patches."""

_OBLONG: Grid = (3, 5)
"""Small enough for encoders of billions of parameters, and neither a square nor its own transpose."""
_GREY = 0.4
FAILURES = (
    EvalError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError,
)  # fmt: skip
"""What adapters, and the libraries under them, raise where something is wrong."""
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Subject:
    """An encoder on its device."""

    encoder: Encoder
    device: torch.device
    grid: Grid
    """Where most trials look: an oblong grid, or the native one for an encoder that takes no other."""
    flexible: bool
    """It takes other sizes than its native one."""

    @property
    def native(self) -> Grid:
        """The grid of the native size."""
        spec = self.encoder.spec
        side = nearest_multiple(spec.size, spec.patch) // spec.patch
        return side, side

    def noise(self, count: int = 1, grid: Grid | None = None, *, seed: int = 0) -> Float[Tensor, "B 3 Y X"]:
        """Random pixels in [0, 1]; the same ones on every device."""
        rows, columns = (cells * self.encoder.spec.patch for cells in grid or self.grid)
        return torch.rand(count, 3, rows, columns, generator=torch_generator(seed)).to(self.device)

    def grey(self) -> Float[Tensor, "1 3 Y X"]:
        """An image without anything in it."""
        return torch.full_like(self.noise(), _GREY)


def admit(encoder: Encoder, device: torch.device) -> Subject:
    """Bring the encoder to the device and find out whether it takes more than its native size.

    Raises UnavailableError where its first pass does; what else that raises is for the trials to tell.
    """
    encoder.to(device)
    subject = Subject(encoder, device, _OBLONG, flexible=True)
    try:
        encoder(subject.noise())
    except DataError:
        return Subject(encoder, device, subject.native, flexible=False)
    except UnavailableError:
        raise
    except FAILURES:
        return subject
    return subject


def tensors(features: Features) -> dict[str, Tensor]:
    """Everything that a pass gave, by name."""
    found = {"patches": features.patches_BHWD, **{f"other {name}": x for name, x in features.others.items()}}
    found |= {f"layer {index}": x for index, x in enumerate(features.layers)}
    return found if features.pooled_BD is None else {"global feature": features.pooled_BD, **found}


def same_bits(one: Features, other: Features) -> bool:
    """Whether two passes gave the same numbers, to the last bit."""
    first, second = tensors(one), tensors(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def distance(one: Tensor, other: Tensor) -> float:
    """Length of the difference in parts of the length of the second; infinite for another shape or NaN."""
    if one.shape != other.shape:
        return math.inf
    a, b = one.double(), other.double()
    found = float((a - b).norm() / b.norm().clamp_min(_TINY))
    return math.inf if math.isnan(found) else found


def compared(one: Features, other: Features) -> str:
    """How far two passes are apart, in words."""
    return "the same bits" if same_bits(one, other) else f"{apart(one, other):.1e} of their length apart"


def apart(one: Features, other: Features) -> float:
    """The greatest distance between what two passes gave."""
    first, second = tensors(one), tensors(other)
    if first.keys() != second.keys():
        return math.inf
    return max(distance(first[name], second[name]) for name in first)
