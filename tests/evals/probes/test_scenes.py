"""Training samples of ADE20K: rules by hand, draws by their frequencies."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as vision

from evals.errors import DataError
from evals.probes import scenes
from evals.probes.scenes import TrainingScenes, ValidationScenes

MEAN = (0.485, 0.456, 0.406)


class Script(np.random.Generator):
    """A generator whose draws are written down: `integers`, `uniform` and `random` answer from one list."""

    def __init__(self, *draws: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.draws = list(draws)

    def integers(self, *args: Any, **kwargs: Any) -> Any:
        """The next draw."""
        return int(self.draws.pop(0))

    def uniform(self, *args: Any, **kwargs: Any) -> Any:
        """The next draw."""
        return self.draws.pop(0)

    def random(self, *args: Any, **kwargs: Any) -> Any:
        """The next draw."""
        return self.draws.pop(0)


def grey(value: int, rows: int = 2, columns: int = 2) -> np.ndarray:
    """A grey picture."""
    return np.full((rows, columns, 3), value, np.uint8)


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path]:
    """A picture of 60 x 40 with noise, and its labels 0 .. 3 in quarters."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "image.png")
    label = np.zeros((40, 60), np.uint8)
    label[:20, 30:], label[20:, :30], label[20:, 30:] = 1, 2, 3
    Image.fromarray(label).save(tmp_path / "label.png")
    return tmp_path / "image.png", tmp_path / "label.png"


def test_label_reduction() -> None:
    """0 -> 255, k -> k - 1, 255 -> 255."""
    raw = np.array([[0, 1, 2], [150, 255, 0]], np.uint8)
    assert scenes.reduce_label(raw).tolist() == [[255, 0, 1], [149, 255, 255]]


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [((640, 480), 512, (683, 512)), ((480, 640), 512, (512, 683)), ((500, 500), 512, (512, 512)), ((3, 2), 5, (8, 5))],
)
def test_short_side_sizes(size: tuple[int, int], short: int, expected: tuple[int, int]) -> None:
    """The long side is rounded half up: 682.67 -> 683 and 7.5 -> 8."""
    assert scenes.short_side_size(*size, short) == expected


def test_labels_are_resized_by_the_floor_rule() -> None:
    """5 -> 3 takes positions floor(0, 1.67, 3.33); 2 -> 4 repeats each."""
    assert scenes.resize_nearest(np.array([[0, 1, 2, 3, 4]], np.uint8), 1, 3).tolist() == [[0, 1, 3]]
    assert scenes.resize_nearest(np.array([[7, 9]], np.uint8), 2, 4).tolist() == [[7, 7, 9, 9]] * 2


def test_short_sides_are_uniform_from_half_to_twice() -> None:
    """256 .. 1023 for a crop of 512."""
    rng = np.random.default_rng(1)
    draws = np.array([scenes.draw_short_side(rng, 512) for _ in range(4000)])
    assert 256 <= draws.min() < 262 and 1018 < draws.max() <= 1023
    assert draws.mean() == pytest.approx(640, abs=12) and draws.std() == pytest.approx(768 / 12**0.5, rel=0.03)
    assert scenes.draw_short_side(Script(0.0), 512) == 256 and scenes.draw_short_side(Script(0.9999), 512) == 1023


@pytest.mark.parametrize(
    ("counts", "varied"),
    [
        ({0: 74, 1: 26}, True),
        ({0: 75, 1: 25}, False),  # a share of exactly 0.75 is too much
        ({0: 100}, False),
        ({255: 100}, False),
        ({255: 60, 3: 20, 149: 20}, True),  # ignored pixels do not count
        ({255: 96, 3: 3, 4: 1}, False),
    ],
)
def test_the_share_rule(counts: dict[int, int], varied: bool) -> None:
    """More than one class, none with 3/4 of the labelled pixels."""
    values = np.concatenate([np.full(count, label, np.uint8) for label, count in counts.items()])
    assert scenes.is_varied(values.reshape(10, 10)) is varied


def test_crops_are_redrawn_ten_times() -> None:
    """Eleven offsets are drawn when none fits, and the last is taken unchecked."""
    label = np.zeros((30, 40), np.uint8)
    script = Script(*(value for i in range(12) for value in (i, 2 * i)))
    assert scenes.draw_crop(script, label, 10) == (10, 20)
    assert len(script.draws) == 2


def test_the_first_crop_that_fits_is_taken() -> None:
    """The third draw shows two classes in halves."""
    label = np.zeros((30, 40), np.uint8)
    label[:, 20:] = 1
    script = Script(0, 0, 5, 30, 7, 15, 9, 9)
    assert scenes.draw_crop(script, label, 10) == (7, 15)
    assert script.draws == [9, 9]


def test_crop_offsets_cover_the_image() -> None:
    """0 .. 20 and 0 .. 2 for 30 x 12 pixels and a crop of 10; 0 for an axis that is too short."""
    rng = np.random.default_rng(2)
    checker = (np.indices((30, 12)).sum(0) % 2).astype(np.uint8)
    offsets = [scenes.draw_crop(rng, checker, 10) for _ in range(3000)]
    rows, columns = Counter(top for top, _ in offsets), Counter(left for _, left in offsets)
    assert sorted(rows) == list(range(21)) and sorted(columns) == [0, 1, 2]
    assert all(count == pytest.approx(1000, abs=100) for count in columns.values())
    assert scenes.draw_crop(rng, checker[:5, :5], 10) == (0, 0)


def test_nothing_happens_when_every_gate_is_shut() -> None:
    """Brightness, order, saturation, hue and contrast: five tosses and no factor."""
    script = Script(0, 0, 0, 0, 0)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(scenes.distort(pixels, script), pixels) and script.draws == []


def test_brightness_is_cut_and_rounded_down() -> None:
    """100 + 10.7 -> 110, 250 + 10.7 -> 255, 5 - 20.3 -> 0, 100 - 0.1 -> 99."""
    for value, shift, expected in ((100, 10.7, 110), (250, 10.7, 255), (5, -20.3, 0), (100, -0.1, 99)):
        assert scenes.distort(grey(value), Script(1, shift, 0, 0, 0, 0)).flat[0] == expected


def test_contrast_is_cut_and_rounded_down() -> None:
    """101 x 1.5 = 151.5 -> 151 and 200 x 1.5 -> 255, last by the order's toss 0 and first by 1."""
    assert scenes.distort(grey(101), Script(0, 0, 0, 0, 1, 1.5)).flat[0] == 151
    assert scenes.distort(grey(200), Script(0, 1, 1, 1.5, 0, 0)).flat[0] == 255


def test_contrast_before_or_after_saturation() -> None:
    """The order matters where bytes are cut: red 200 x 1.5 -> 255 before the desaturation, or after it."""
    red = np.zeros((1, 1, 3), np.uint8)
    red[0, 0, 0] = 200

    def half_grey(pixel: np.ndarray) -> np.ndarray:
        luma = int(0.2989 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2])
        return np.array([int(0.5 * channel + 0.5 * luma) for channel in pixel.tolist()])

    before = half_grey(np.array([255, 0, 0]))
    after = np.minimum(half_grey(np.array([200, 0, 0])) * 1.5, 255).astype(int)
    assert scenes.distort(red, Script(0, 1, 1, 1.5, 1, 0.5, 0))[0, 0].tolist() == before.tolist()
    assert scenes.distort(red, Script(0, 0, 1, 0.5, 0, 1, 1.5))[0, 0].tolist() == after.tolist()


def test_hue_turns_red_to_cyan_at_half() -> None:
    """Half a turn; and a quarter is torchvision's own on bytes."""
    red = np.zeros((1, 1, 3), np.uint8)
    red[0, 0, 0] = 255
    assert scenes.distort(red, Script(0, 0, 0, 1, 0.5, 0))[0, 0].tolist() == [0, 255, 255]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = vision.adjust_hue(torch.tensor(pixels).permute(2, 0, 1), 0.25).permute(1, 2, 0)
    assert np.array_equal(scenes.distort(pixels, Script(0, 0, 0, 1, 0.25, 0)), expected.numpy())


def test_brightness_and_contrast_by_their_distribution() -> None:
    """Grey 100 follows 100 (+ U(-32, 32) half the time) (x U(0.5, 1.5) half the time), up to the rounding of a byte."""
    rng, other = np.random.default_rng(3), np.random.default_rng(4)
    values = np.array([scenes.distort(grey(100, 1, 1), rng).flat[0] for _ in range(4000)])
    shifted = 100 + other.integers(2, size=40_000) * other.uniform(-32, 32, 40_000)
    expected = shifted * np.where(other.integers(2, size=40_000), other.uniform(0.5, 1.5, 40_000), 1)
    grid = np.arange(20, 200, 5) + 0.5
    ours, theirs = ((sample[:, None] < grid).mean(0) for sample in (values, expected - 0.5))
    # The saturation of a byte's grey may lose one level, which near the atom at 100 moves the shares by little.
    assert np.abs(ours - theirs).max() < 0.04


class Counting(np.random.Generator):
    """A generator that notes the ranges of its `uniform` draws."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.ranges: Counter[tuple[float, ...]] = Counter()

    def uniform(self, *args: Any, **kwargs: Any) -> Any:
        """A draw."""
        self.ranges[args] += 1
        return super().uniform(*args, **kwargs)


def test_gates_open_half_the_time() -> None:
    """Brightness and hue for half of the samples; contrast and saturation, of one range, once a sample on average."""
    rng = Counting(6)
    for _ in range(3000):
        scenes.distort(grey(100, 1, 1), rng)
    shares = {edges: count / 3000 for edges, count in rng.ranges.items()}
    assert shares.keys() == {(-32, 32), (0.5, 1.5), (-0.5, 0.5)}
    assert shares[-32, 32] == pytest.approx(0.5, abs=0.03) and shares[-0.5, 0.5] == pytest.approx(0.5, abs=0.03)
    assert shares[0.5, 1.5] == pytest.approx(1, abs=0.045)


def test_flips_happen_half_the_time(tmp_path: Path) -> None:
    """The left half is class 0 in half of the samples, and image and label flip together."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    label = np.full((16, 16), 1, np.uint8)
    label[:, 8:] = 2
    Image.fromarray(pixels).save(tmp_path / "i.png")
    Image.fromarray(label).save(tmp_path / "l.png")
    make = TrainingScenes([tmp_path / "i.png"], [tmp_path / "l.png"], 2, 16, MEAN)
    flipped = []
    for seed in range(400):
        image, labels = make(0, np.random.default_rng(seed))
        first, second = labels[0] == 0, labels[0] == 1
        if not (first.any() and second.any()):
            continue
        flipped.append(bool(second[0]))
        assert image[:, 0, second].mean() > image[:, 0, first].mean()
    assert len(flipped) > 300 and np.mean(flipped) == pytest.approx(0.5, abs=0.08)


def test_samples_are_padded_with_the_mean_and_the_ignored_label(scene: tuple[Path, Path]) -> None:
    """A scale of one half gives 32 pixels of a crop of 64: the rest is the encoder's mean, labelled 255."""
    make = TrainingScenes([scene[0]], [scene[1]], 3, 64, MEAN)
    # Scale, crop offsets, no flip, five shut gates.
    image, label = make(0, Script(0.0, 0, 0, 0.9, 0, 0, 0, 0, 0))
    assert image.shape == (3, 64, 64) and image.dtype == torch.float32
    assert label.shape == (64, 64) and label.dtype == torch.uint8
    assert torch.equal(image[:, 32:], torch.tensor(MEAN)[:, None, None].expand(3, 32, 64))
    assert (label[32:] == 255).all() and (label[:32, 48:] == 255).all() and (label[16:32, :24] == 1).all()


def test_the_pixels_of_a_sample_are_pillows(scene: tuple[Path, Path]) -> None:
    """With every gate shut: Pillow's bilinear resize, flipped, as bytes over 255."""
    make = TrainingScenes([scene[0]], [scene[1]], 3, 32, MEAN)
    image, _ = make(0, Script(1 / 3, 0, 0, 0.2, 0, 0, 0, 0, 0))  # short side 32 x (0.5 + 0.5) = 32
    small = np.asarray(Image.open(scene[0]).resize((48, 32), Image.Resampling.BILINEAR))[:, :32][:, ::-1]
    assert torch.equal(image, torch.tensor(small.copy()).permute(2, 0, 1).float() / 255)


def test_validation_keeps_the_label(scene: tuple[Path, Path]) -> None:
    """The image goes to the short side, the label stays."""
    image, label = ValidationScenes([scene[0]], [scene[1]], 3, 64)(0)
    assert image.shape == (3, 64, 96) and image.dtype == torch.uint8
    assert label.shape == (40, 60) and label[0, 0] == 255 and label[39, 59] == 2


def test_two_sizes_are_refused(scene: tuple[Path, Path], tmp_path: Path) -> None:
    """An image and a label map of another image name both files."""
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(DataError, match=r"other\.png is 10 x 10 and its image .*image\.png is 60 x 40"):
        scenes.read_scene(scene[0], tmp_path / "other.png", 3)
