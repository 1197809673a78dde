"""AdamW and LAMB for a learner: which parameters decay, one clip over all of them, and the guard against NaN."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from timm.models import group_parameters
from timm.optim.lamb import Lamb
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

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
    layer_decay: float = 1.0
    """Share of the rate of the layer above at which each layer of a backbone learns (row 21)."""
    patch_rate: float = 1.0
    """Share of the rate at which patches (stem) learn, on top of that."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of everything in the model that learns."""
        slower = {} if (self.layer_decay, self.patch_rate) == (1, 1) else self._shares(model)
        groups = parameter_groups(model.named_parameters(), self.weight_decay, slower)
        made: torch.optim.Optimizer
        if self.name == "lamb":
            # Its own clip of 1 is off: there is one clip, that of the guard.
            made = Lamb(groups, lr=0.0, betas=self.betas, eps=self.eps, max_grad_norm=None)
        else:
            made = torch.optim.AdamW(groups, lr=0.0, betas=self.betas, eps=self.eps, fused=True)
        _begin(made)
        return made

    def _shares(self, model: nn.Module) -> dict[str, float]:
        """Share of the rate by parameter of the backbone, whose layers timm counts; heads learn at the whole rate."""
        backbone: Any = model.get_submodule("backbone")
        layers = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
        last = max(layers.values())
        first = tuple(name for name, _ in backbone.named_parameters() if name.startswith(("patch_embed.", "stem.")))
        return {
            f"backbone.{name}": self.layer_decay ** (last - layer) * (self.patch_rate if name in first else 1.0)
            for name, layer in layers.items()
        }


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float, shares: Mapping[str, float] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Matrices and kernels decay; vectors (norms, biases), tokens and layer scales do not.

    By shape, not by name alone: a rule that looks for "norm" misses the LayerNorms in a ConvNeXt's down-sampling.
    `shares` of the rate by name go into the groups as `share`, 1 where there is none.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, weight_decay): [], (1.0, 0.0): []}
    for name, parameter in named:
        if parameter.requires_grad:
            kept = parameter.ndim <= 1 or any(part in name for part in _TOKENS)
            key = (shares.get(name, 1.0), 0.0 if kept else weight_decay)
            groups.setdefault(key, []).append(parameter)
    return [{"params": one, "weight_decay": decay, "share": share} for (share, decay), one in groups.items()]


def _begin(optimiser: torch.optim.Optimizer) -> None:
    """Moments of 0 for every parameter, so that a checkpoint has all of them also while some do not learn yet."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            state = optimiser.state[parameter]
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            if group.get("fused"):
                state["step"] = torch.zeros((), device=parameter.device)
        if not group.get("fused"):
            group["step"] = torch.zeros(())


class Guard:
    """Steps of one student: clipped, or skipped where a gradient is not finite.

    Nothing here waits for the device: a step is skipped by the kernel that would take it, and how many were skipped is
    asked when a line is logged.
    """

    def __init__(self, name: str, model: nn.Module, optimiser: torch.optim.Optimizer, clip: float) -> None:
        self._name, self._optimiser, self._clip = name, optimiser, clip
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.skipped = torch.zeros((), dtype=torch.int64, device=self._parameters[0].device)
        """Steps in a row, up to now."""
        self._longest = self.skipped.clone()

    def step(self, rate: float) -> Tensor:
        """Take the step at that rate and return the norm of the gradients before clipping."""
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        finite = norm.isfinite()
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        if self._optimiser.defaults.get("fused"):
            self._optimiser.found_inf = finite.logical_not().float()  # type: ignore[attr-defined]
            self._optimiser.step()
        elif bool(finite):
            self._optimiser.step()
        self.skipped = torch.where(finite, 0, self.skipped + 1)
        self._longest = torch.maximum(self._longest, self.skipped)
        self._optimiser.zero_grad(set_to_none=True)
        return norm

    def check(self) -> None:
        """Raises NumericsError when PATIENCE steps in a row had to be skipped since the last check."""
        longest = int(self._longest)
        self._longest = self.skipped.clone()
        if longest >= PATIENCE:
            raise NumericsError(f"the gradients of student {self._name} were not finite in {longest} steps in a row.")
