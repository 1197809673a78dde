"""What a final norm did, told from its input and output alone: which norm, and with which weights and bias."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

RESIDUAL = 1e-3
"""What a norm may leave unexplained, in parts of what varies among the tokens."""
_EPSILONS = (1e-5, 1e-6, 1e-8, 1e-12, 1e-3)
"""Of the norms of published encoders, the commonest first."""


@dataclass(frozen=True, slots=True)
class Form:
    """A norm: `weight * standardised token + bias`."""

    kind: Literal["LayerNorm", "RMSNorm"]
    eps: float
    weight_D: Float[Tensor, " D"]
    bias_D: Float[Tensor, " D"]
    residual: float
    """What is left of the output, in parts of what varies among its tokens."""

    def of(self, x: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """Tokens after the norm."""
        return self.weight_D * standardised(x, self.kind, self.eps) + self.bias_D


def standardised(x: Float[Tensor, "*S D"], kind: Literal["LayerNorm", "RMSNorm"], eps: float) -> Float[Tensor, "*S D"]:
    """Tokens of mean 0 and variance 1 (RMSNorm: of mean square 1), in double precision."""
    x = x.double()
    if kind == "LayerNorm":
        x = x - x.mean(dim=-1, keepdim=True)
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


def forms(before_ND: Float[Tensor, "N D"], after_ND: Float[Tensor, "N D"]) -> Sequence[Form]:
    """The norms that lead from some tokens to others, the best first; several where eps hardly matters.

    Weights and bias of a channel are the straight line through its N values.
    """
    after_ND = after_ND.double()
    spread = after_ND - after_ND.mean(dim=0)
    found = []
    for kind in ("LayerNorm", "RMSNorm"):
        for eps in _EPSILONS:
            z_ND = standardised(before_ND, kind, eps)
            centred = z_ND - z_ND.mean(dim=0)
            weight_D = (centred * spread).sum(dim=0) / centred.square().sum(dim=0).clamp_min(1e-30)
            bias_D = after_ND.mean(dim=0) - weight_D * z_ND.mean(dim=0)
            left = float((weight_D * centred - spread).norm() / spread.norm().clamp_min(1e-30))
            found.append(Form(kind, eps, weight_D, bias_D, left))
    return sorted(found, key=lambda form: form.residual)
