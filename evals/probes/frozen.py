"""Patch maps of a frozen encoder for images of any size."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evals.device import autocast
from evals.errors import NumericsError
from evals.types import Encoder, Features, nearest_multiple


class FrozenMaps:
    """The encoder at a protocol's image sizes, whatever its patch, with every map checked."""

    def __init__(self, encoder: Encoder, device: str, dtype: str) -> None:
        self.encoder, self.device, self._dtype = encoder, torch.device(device), dtype

    @torch.no_grad()
    def __call__(
        self,
        images_B3YX: Float[Tensor, "B 3 Y X"],
        names: Sequence[object],
        *,
        rope_scales_L: Float[Tensor, " L"] | None = None,
        during: str = "validation",
    ) -> Float[Tensor, "B D H W"]:
        """Maps in fp32 of RGB in [0, 1]; sides that are no multiple of the patch go to the nearest one.

        Raises NumericsError, naming the encoder, `during` and the first bad image of `names`, for a value that is not
        finite.
        """
        images = fit_to_patch(images_B3YX.to(self.device, non_blocking=True), self.encoder.spec.patch)
        scales = None if rope_scales_L is None else rope_scales_L.to(self.device)
        with autocast(self.device, self._dtype):
            features: Features = self.encoder(images, rope_scales_L=scales)
        maps_BDHW = features.patches_BHWD.float().permute(0, 3, 1, 2)
        finite_B = torch.isfinite(maps_BDHW).flatten(1).all(1)
        if not finite_B.all():
            bad = names[int((~finite_B).nonzero()[0, 0])]
            raise NumericsError(
                f"{self.encoder.card.name} gives features that are not finite for {bad} ({during}). "
                "Check the weights (a damaged file, fp16 values that overflowed), or run in fp32."
            )
        return maps_BDHW


def fit_to_patch(images_B3YX: Float[Tensor, "B 3 Y X"], patch: int) -> Float[Tensor, "B 3 y x"]:
    """Images whose sides are the multiples of `patch` nearest to their own (bilinear, antialiased)."""
    rows, columns = images_B3YX.shape[2:]
    size = nearest_multiple(rows, patch), nearest_multiple(columns, patch)
    if size == (rows, columns):
        return images_B3YX
    resized = functional.interpolate(images_B3YX, size=size, mode="bilinear", antialias=True, align_corners=False)
    return resized.clamp_(0, 1)  # weights that sum to one up to rounding


def encoder_size(rows: int, columns: int, patch: int) -> dict[str, list[int]]:
    """Both sizes of an image, (rows, columns), for the record: the protocol's and the encoder's."""
    return {
        "protocol": [rows, columns],
        "encoder": [nearest_multiple(rows, patch), nearest_multiple(columns, patch)],
    }
