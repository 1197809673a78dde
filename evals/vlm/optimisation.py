"""AdamW as LLaVA-1.5 was trained with: warm-up, cosine, and the norm of the gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor


@dataclass(frozen=True, slots=True)
class Optimisation:
    """AdamW with a linear warm-up from 0 and a cosine to 0."""

    rate: float
    steps: int
    warmup: int
    """Steps; the first has rate 0, as in transformers."""
    betas: tuple[float, float]
    weight_decay: float
    """Of matrices; vectors (norms, biases) never decay."""
    clip: float | None
    """Largest norm of all gradients together; None: they are only measured."""
    eps: float = 1e-8

    def at(self, step: int) -> float:
        """The rate of a step, 0 to steps - 1."""
        if step < self.warmup:
            return self.rate * step / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * 0.5 * (1 + math.cos(math.pi * done))

    def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.AdamW:
        """The optimiser; one kernel for all tensors, since the others need the memory of a second model."""
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": self.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        filled = [group for group in groups if group["params"]]
        return torch.optim.AdamW(filled, lr=self.rate, betas=self.betas, eps=self.eps, fused=True)


def gradient_norm(parameters: Sequence[nn.Parameter], clip: float | None) -> float:
    """The norm of all gradients together; afterwards at most `clip`, if that is given. Shards count as a whole."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
