"""AdamW and LAMB for a learner: which parameters decay, one clip over all of them, and the guard against NaN."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.optim.lamb import Lamb
from torch import Tensor, nn

from evals.errors import NumericsError

_TOKENS = ("cls_token", "reg_token", "pos_embed", "gamma_1", "gamma_2", ".gamma", "ls1.", "ls2.")
"""Parameters of more than one dimension, or by layer, that are no matrices to be decayed."""
PATIENCE = 3
"""Steps in a row that may be skipped before a student stops."""


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How a student is optimised."""

    name: Literal["adamw", "lamb"] = "adamw"
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float = 3.0
    """Largest norm of all gradients of backbone and heads together."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of everything in the model that learns."""
        groups = parameter_groups(model.named_parameters(), self.weight_decay)
        if self.name == "lamb":
            lamb: torch.optim.Optimizer = Lamb(groups, lr=0.0, betas=self.betas, eps=self.eps)
            return lamb
        return torch.optim.AdamW(groups, lr=0.0, betas=self.betas, eps=self.eps)


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; vectors (norms, biases), tokens and layer scales do not.

    By shape, not by name alone: a rule that looks for "norm" misses the LayerNorms in a ConvNeXt's down-sampling.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in named:
        if parameter.requires_grad:
            (kept if parameter.ndim <= 1 or any(part in name for part in _TOKENS) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


class Guard:
    """Steps of one student: clipped, or skipped where a gradient is not finite."""

    def __init__(self, name: str, model: nn.Module, optimiser: torch.optim.Optimizer, clip: float) -> None:
        self._name, self._optimiser, self._clip = name, optimiser, clip
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.skipped = 0
        """Steps in a row."""

    def step(self, rate: float) -> Tensor:
        """Take the step at that rate and return the norm of the gradients before clipping.

        Raises NumericsError when PATIENCE steps in a row had to be skipped.
        """
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip)
        if bool(norm.isfinite()):
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            self._optimiser.step()
            self.skipped = 0
        else:
            self.skipped += 1
        self._optimiser.zero_grad(set_to_none=True)
        if self.skipped >= PATIENCE:
            raise NumericsError(
                f"the gradients of student {self._name} were not finite in {self.skipped} steps in a row."
            )
        return norm
