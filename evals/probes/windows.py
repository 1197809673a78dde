"""Segmentation of whole images by a sliding window, for several heads from one pass of the encoder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn

from evals.context import batches
from evals.preprocess import to_unit
from evals.probes.frozen import FrozenMaps
from evals.probes.heads import upsample

Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Square windows of `side` pixels, `stride` apart; the last of a row or column ends at the image's edge."""

    side: int
    stride: int

    def boxes(self, rows: int, columns: int) -> list[Box]:
        """Rows and columns of every window of an image, row-major."""
        return [(y, x) for y in self._spans(rows) for x in self._spans(columns)]

    def _spans(self, length: int) -> list[slice]:
        count = max(length - self.side + self.stride - 1, 0) // self.stride + 1
        ends = [min(i * self.stride + self.side, length) for i in range(count)]
        return [slice(max(end - self.side, 0), end) for end in ends]

    @torch.no_grad()
    def predict(
        self,
        image_3YX: UInt8[Tensor, "3 Y X"],
        size: tuple[int, int],
        heads: Sequence[nn.Module],
        maps: FrozenMaps,
        *,
        name: object,
        batch: int,
    ) -> Iterator[Integer[Tensor, "y x"]]:
        """The class of every pixel at `size` (rows, columns), head by head.

        Logits are averaged over windows, resized to `size`, and turned into probabilities before the largest is taken.
        """
        rows, columns = image_3YX.shape[1:]
        boxes = self.boxes(rows, columns)
        image = to_unit(image_3YX.to(maps.device, non_blocking=True))
        features = [
            maps(torch.stack([image[:, *boxes[i]] for i in group]), [name] * len(group))
            for group in batches(len(boxes), batch)
        ]
        for head in heads:
            logits = torch.cat([head(part) for part in features])
            canvas = stitch(logits, boxes, rows, columns)
            yield upsample(canvas[None], *size)[0].softmax(0).argmax(0)


def stitch(
    logits_BCHW: Float[Tensor, "B C H W"], boxes: Sequence[Box], rows: int, columns: int
) -> Float[Tensor, "C Y X"]:
    """The mean logits of every pixel over the windows that show it; each window's are first upsampled to its size."""
    canvas = logits_BCHW.new_zeros(logits_BCHW.shape[1], rows, columns)
    visits = logits_BCHW.new_zeros(rows, columns)
    for logits, (y, x) in zip(logits_BCHW, boxes, strict=True):
        canvas[:, y, x] += upsample(logits[None], y.stop - y.start, x.stop - x.start)[0]
        visits[y, x] += 1
    return canvas / visits
