"""A moving average of a student's weights, kept beside them (docs/training.md, row 24). Never what a run hands out
unless it is asked for: with a rate that ends near 0 the weights themselves are as good.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class Average:
    """shadow <- decay x shadow + (1 - decay) x weights after every step, in fp32."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._live = dict(model.named_parameters())
        self._decay = decay
        self.weights: dict[str, Tensor] = {name: live.detach().clone() for name, live in self._live.items()}
        """By name; of a sharded student the part of this process, like the parameters themselves."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are."""
        torch._foreach_lerp_(_parts(self.weights.values()), _parts(self._live.values()), 1 - self._decay)

    def whole(self) -> dict[str, Tensor]:
        """The average on the CPU, whole, under the names of the weights. Every process must call it."""
        gathered = {
            name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in self.weights.items()
        }
        return {name: value.cpu() for name, value in gathered.items()}


def _parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """What of each lies on this process."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
