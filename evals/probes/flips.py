"""Depth of whole images, averaged with the mirror image's."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evals.probes.frozen import FrozenMaps
from evals.probes.heads import upsample


@torch.no_grad()
def predict_depth(
    image_3YX: Float[Tensor, "3 Y X"], size: tuple[int, int], head: nn.Module, maps: FrozenMaps, *, name: object
) -> Float[Tensor, "y x"]:
    """Depth in metres at `size` (rows, columns).

    The mean with the mirrored image's depth is taken at the resolution of the map, before upsampling.
    """
    image = image_3YX.to(maps.device, non_blocking=True)
    depth_21HW = head(maps(torch.stack([image, image.flip(-1)]), [name] * 2))
    return upsample(unflipped_mean(depth_21HW)[None, None], *size)[0, 0]


def unflipped_mean(depth_21HW: Float[Tensor, "2 1 H W"]) -> Float[Tensor, "H W"]:
    """Mean of the depth of an image and of the mirrored depth of its mirror image."""
    return (depth_21HW[0, 0] + depth_21HW[1, 0].flip(-1)) / 2
