"""Sliding windows: places, averages, several heads."""

import torch
from torch import nn

from evals.probes.frozen import FrozenMaps
from evals.probes.heads import upsample
from evals.probes.windows import SlidingWindow, stitch


def spans(length: int) -> list[tuple[int, int]]:
    """First and one past the last pixel of the published windows along an axis."""
    return [(x.start, x.stop) for y, x in SlidingWindow(512, 341).boxes(512, length)]


def test_places_of_the_published_windows() -> None:
    """One for 512, two up to 853 = 512 + 341, three from 854; the last ends at the edge."""
    assert spans(512) == [(0, 512)]
    assert spans(513) == [(0, 512), (1, 513)]
    assert spans(683) == [(0, 512), (171, 683)]
    assert spans(853) == [(0, 512), (341, 853)]
    assert spans(854) == [(0, 512), (341, 853), (342, 854)]


def test_windows_are_row_major_and_no_larger_than_the_image() -> None:
    """A short axis gives one window of its length."""
    boxes = SlidingWindow(4, 3).boxes(3, 7)
    assert [(y.start, y.stop, x.start, x.stop) for y, x in boxes] == [(0, 3, 0, 4), (0, 3, 3, 7)]


def test_overlaps_are_averaged() -> None:
    """Two windows of four columns in six: the middle two show both."""
    boxes = SlidingWindow(4, 2).boxes(4, 6)
    logits = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 1, 1)
    assert stitch(logits, boxes, 4, 6)[0, 0].tolist() == [1, 1, 2, 2, 3, 3]


def test_each_window_is_upsampled_on_its_own() -> None:
    """A single window is the plain upsampling of its logits."""
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stitch(logits, SlidingWindow(8, 5).boxes(8, 8), 8, 8), upsample(logits, 8, 8)[0])


class Channel(nn.Module):
    """Class 1 where a colour is above a half."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Two logits."""
        bright = maps[:, self.channel : self.channel + 1]
        return torch.cat([torch.full_like(bright, 0.5), bright], 1)


def test_several_heads_share_the_windows(toy: type) -> None:
    """Two heads see red and green from one pass; groups of the batch size change nothing."""
    image = torch.zeros(3, 32, 64, dtype=torch.uint8)
    image[0, :, 32:], image[1, :16] = 255, 255
    for batch, calls in ((8, 1), (2, 2)):
        encoder = toy()
        window = SlidingWindow(32, 16)
        found = list(
            window.predict(
                image, (16, 32), [Channel(0), Channel(1)], FrozenMaps(encoder, "cpu", "fp32"), name="a", batch=batch
            )
        )
        assert len(encoder.sizes) == calls and len(found) == 2
        assert found[0].shape == (16, 32)
        assert found[0][:, :12].sum() == 0 and bool((found[0][:, 20:] == 1).all())
        assert bool((found[1][:6] == 1).all()) and found[1][10:].sum() == 0
