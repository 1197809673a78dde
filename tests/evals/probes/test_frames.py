"""Training samples of NYUv2: geometry by hand, draws by their frequencies."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evals.errors import DataError
from evals.probes import frames
from evals.probes.frames import TrainingFrames, ValidationFrames


def write(folder: Path, rows: int, columns: int) -> tuple[Path, Path]:
    """A frame whose red and depth are its columns, and green its rows."""
    y, x = np.indices((rows, columns))
    pixels = np.stack([x % 256, y % 256, np.zeros_like(x)], -1).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "rgb.png")
    Image.fromarray((1000 + x).astype(np.uint16)).save(folder / "depth.png")
    return folder / "rgb.png", folder / "depth.png"


def test_the_border_of_a_published_frame() -> None:
    """Rows 45 .. 471 and columns 43 .. 607: 427 x 565."""
    rows = torch.arange(480.0)[:, None].expand(480, 640)
    columns = torch.arange(640.0)[None].expand(480, 640)
    cut = frames.cut_border(torch.stack([rows, columns]))
    assert cut.shape == (2, 427, 565)
    assert cut[:, 0, 0].tolist() == [45, 43] and cut[:, -1, -1].tolist() == [471, 607]


def test_crops_scale_with_the_frame() -> None:
    """416 x 544 at 480 x 640; 384 x 512 becomes 96 x 128 in a frame of 120 x 160, which fits within its border."""
    assert frames.crop_size(480, 640, (416, 544)) == (416, 544)
    assert frames.crop_size(120, 160, (384, 512)) == (96, 128)
    height, width = frames.cut_border(torch.zeros(120, 160)).shape
    assert (height, width) == (107, 141)


def test_crop_offsets_of_a_published_frame(tmp_path: Path) -> None:
    """Without a rotation the top is 0 .. 11 and the left 0 .. 21 within the border; half are flipped, halves keep."""
    image, depth = write(tmp_path, 480, 640)
    make = TrainingFrames([image], [depth], (416, 544))
    lefts: Counter[int] = Counter()
    flips = straight = 0
    for seed in range(160):
        _, metres = make(0, np.random.default_rng(seed))
        assert metres.shape == (416, 544)
        row = metres[200]
        if not torch.equal(row, metres[0]):
            continue  # rotated
        straight += 1
        flips += int(row[0] > row[-1])
        lefts[round(1000 * float(row.min())) - 1000 - 43] += 1
    assert straight / 160 == pytest.approx(0.5, abs=0.12)
    assert flips / straight == pytest.approx(0.5, abs=0.18)
    assert min(lefts) >= 0 and max(lefts) <= 21 and len(lefts) > 15


def test_image_and_depth_are_cut_alike(tmp_path: Path) -> None:
    """Red and depth both hold the column, before the colours change."""
    image, depth = write(tmp_path, 120, 160)
    make = TrainingFrames([image], [depth], (96, 128))
    checked = 0
    for seed in range(80):
        colours, metres = make(0, np.random.default_rng(seed))
        if torch.equal(metres[0], metres[-1]) and torch.equal(colours[2], torch.zeros(96, 128)):
            columns = (1000 * metres - 1000).round()
            if torch.allclose(colours[0] * 255, columns, atol=1e-3):
                checked += 1
            else:
                ratio = torch.log(colours[0] * 255)[:, 64] / torch.log(columns)[:, 64]
                assert bool(((ratio > 0.8) & (ratio < 1.2)).all())  # gamma and factors only
    assert checked >= 8


def test_rotation_keeps_the_size_and_fills_with_zero() -> None:
    """Depth keeps its own values (nearest), colour is mixed, and the corners see nothing."""
    depth = torch.where(torch.arange(60)[None] < 30, 1.0, 3.0).expand(40, 60)
    image = depth.expand(3, 40, 60) / 3
    turned, metres = frames.rotate(image, depth, 2.5)
    assert turned.shape == image.shape and metres.shape == depth.shape
    assert sorted(torch.unique(metres).tolist()) == [0, 1, 3]
    assert (metres == 0).sum() > 0 and len(torch.unique(turned)) > 10
    assert turned.amin() >= 0 and turned.amax() <= 1


def test_a_rotated_white_stays_within_the_range() -> None:
    """Interpolation may pass 1 by rounding, and no encoder takes that: white frames at many angles stay in [0, 1]."""
    white, depth = torch.ones(3, 107, 141), torch.ones(107, 141)
    for degrees in np.linspace(-2.5, 2.5, 41):
        low, high = frames.rotate(white, depth, float(degrees))[0].aminmax()
        assert float(low) >= 0
        assert float(high) <= 1


def test_no_rotation_changes_nothing() -> None:
    """Zero degrees is the identity."""
    depth = torch.arange(12.0).view(3, 4)
    image = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(0))
    turned, metres = frames.rotate(image, depth, 0.0)
    torch.testing.assert_close(turned, image)
    assert torch.equal(metres, depth)


class Fixed(np.random.Generator):
    """A generator that answers its `uniform` draws from a list."""

    def __init__(self, *draws: object) -> None:
        super().__init__(np.random.PCG64(0))
        self.draws = list(draws)

    def uniform(self, *args: Any, **kwargs: Any) -> Any:
        """The next draw."""
        return self.draws.pop(0)


def test_gamma_acts_on_the_byte_scale() -> None:
    """100 ^ 1.1 = 158.489 of 255, not (100 / 255) ^ 1.1."""
    image = torch.full((3, 1, 1), 100 / 255)
    out = frames.recolour(image, Fixed(1.1, 1.0, np.ones(3)))
    assert out.flatten().tolist() == pytest.approx([100**1.1 / 255] * 3, rel=1e-5)


def test_brightness_and_tint_multiply_and_cut() -> None:
    """100 x 1.2 x (0.9, 1.0, 1.1) and 250 x 1.25 -> 255."""
    out = frames.recolour(torch.full((3, 1, 1), 100 / 255), Fixed(1.0, 1.2, np.array([0.9, 1.0, 1.1])))
    assert (out.flatten() * 255).tolist() == pytest.approx([108, 120, 132], rel=1e-5)
    assert frames.recolour(torch.full((3, 1, 1), 250 / 255), Fixed(1.0, 1.25, np.ones(3))).tolist() == [[[1.0]]] * 3
    assert out.dtype == torch.float32


def test_colour_factors_have_their_ranges() -> None:
    """On a value of 1 gamma is invisible: 0.75 .. 1.25 times 0.9 .. 1.1, centred at 1."""
    rng = np.random.default_rng(0)
    values = torch.stack([frames.recolour(torch.full((3, 1, 1), 1 / 255), rng).flatten() * 255 for _ in range(3000)])
    assert 0.675 <= values.min() < 0.72 and 1.32 < values.max() <= 1.375
    assert values.mean().item() == pytest.approx(1, abs=0.01)
    tint = values / values.mean(1, keepdim=True)
    assert tint.std(1).min() >= 0 and len(torch.unique(values[0])) == 3
    # Of the log-variance, brightness gives (0.5 / sqrt 12) ^ 2 and each tint (0.2 / sqrt 12) ^ 2, about.
    assert values.std().item() == pytest.approx(((0.5**2 + 0.2**2) / 12) ** 0.5, rel=0.05)


def test_depth_beyond_ten_metres_is_kept(tmp_path: Path) -> None:
    """The training truth is not clipped; 0 stays missing."""
    Image.fromarray(np.zeros((120, 160, 3), np.uint8)).save(tmp_path / "rgb.png")
    metres = np.full((120, 160), 20_000, np.uint16)
    metres[:60] = 0
    Image.fromarray(metres).save(tmp_path / "depth.png")
    _, depth = TrainingFrames([tmp_path / "rgb.png"], [tmp_path / "depth.png"], (96, 128))(0, np.random.default_rng(5))
    assert sorted(torch.unique(depth).tolist()) == [0, 20]


def test_validation_shows_the_whole_frame(tmp_path: Path) -> None:
    """No crop and no border."""
    image, depth = write(tmp_path, 120, 160)
    colours, metres = ValidationFrames([image], [depth])(0)
    assert colours.shape == (3, 120, 160) and metres.shape == (120, 160)
    assert float(colours[0, 0, 5]) == pytest.approx(5 / 255) and float(metres[0, 5]) == pytest.approx(1.005)


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    """A frame that is too small names itself; a depth map of another size names both."""
    image, depth = write(tmp_path, 60, 80)
    with pytest.raises(DataError, match=r"rgb\.png has 53 x 71 pixels within its border, fewer than the crop of 96"):
        TrainingFrames([image], [depth], (96, 128))(0, np.random.default_rng(0))
    Image.fromarray(np.zeros((10, 10), np.uint16)).save(tmp_path / "other.png")
    with pytest.raises(DataError, match=r"other\.png is 10 x 10 and its image .*rgb\.png is 80 x 60"):
        frames.read_frame(image, tmp_path / "other.png")
