"""The augmentation: each change happens as often as its number says, and draws belong to the sample."""

import torch
from torchvision.transforms.v2 import functional as tv

from eupe.augment import Augment, shrink

COUNT = 400
NEVER = {
    "flip": 0.0,
    "jitter": 0.0,
    "gray": 0.0,
    "blur": 0.0,
    "solarize": 0.0,
    "scale": (1.0, 1.0),
    "ratio": (1.0, 1.0),
}


def image() -> torch.Tensor:
    """A colour gradient with a bright left side: no change leaves it as it is."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    return torch.stack([255 - 4 * columns, 6 * rows, 3 * columns + 2 * rows]).to(torch.uint8)


def share(**settings: object) -> float:
    """How often the image comes out changed."""
    augment = Augment(**{**NEVER, **settings})  # type: ignore[arg-type]
    same = augment(image(), 32, torch.Generator().manual_seed(0))[0] if settings == {} else image()
    changed = [
        not torch.equal(augment(image(), 32, torch.Generator().manual_seed(seed))[0], same) for seed in range(COUNT)
    ]
    return sum(changed) / COUNT


def within(found: float, wanted: float) -> bool:
    """Four deviations of a binomial."""
    return abs(found - wanted) <= 4 * (wanted * (1 - wanted) / COUNT) ** 0.5


def test_nothing_happens_when_nothing_is_asked() -> None:
    """The whole image comes back."""
    assert share() == 0


def test_changes_happen_as_often_as_they_say() -> None:
    """In particular blur at 0.1 is one in ten, not nine."""
    assert within(share(blur=0.1, blur_sigma=(1.5, 2.0)), 0.1)
    assert within(share(blur=0.9, blur_sigma=(1.5, 2.0)), 0.9)
    assert within(share(flip=0.5), 0.5)
    assert within(share(solarize=0.2), 0.2)
    assert within(share(gray=0.2), 0.2)
    assert within(share(jitter=0.8), 0.8)


def test_crops_keep_the_share_of_the_area_that_they_say() -> None:
    """Within the range, over all of it, inside the image."""
    augment = Augment()
    shares = []
    for seed in range(300):
        top, left, rows, columns = augment.crop(480, 640, torch.Generator().manual_seed(seed))
        assert 0 <= top <= 480 - rows
        assert 0 <= left <= 640 - columns
        assert 0.74 <= columns / rows <= 1.35
        shares.append(rows * columns / (480 * 640))
    assert 0.3 <= min(shares) < 0.4
    assert 0.8 < max(shares) <= 1.0


def test_the_sample_alone_decides() -> None:
    """The same generator gives the same crop; torch's own stream is neither read nor moved."""
    before = torch.get_rng_state()
    one, again = (Augment()(image(), 16, torch.Generator().manual_seed(5))[0] for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, Augment()(image(), 16, torch.Generator().manual_seed(6))[0])
    assert torch.equal(before, torch.get_rng_state())
    assert one.dtype == torch.uint8


def test_shrinking_stays_in_range_and_leaves_its_own_size_alone() -> None:
    """Bicubic overshoot at edges is cut; no resampling at the same side."""
    images = torch.zeros(1, 3, 32, 32)
    images[..., 16:] = 1
    small = shrink(images, 8)
    assert small.shape == (1, 3, 8, 8)
    assert 0 <= float(small.min()) <= float(small.max()) <= 1
    assert shrink(images, 32) is images


def test_teachers_see_the_same_or_the_crop_without_colours() -> None:
    """Shared by default; clean is the very crop and mirror of the student, which still has its own changes."""
    always = {**NEVER, "solarize": 1.0, "scale": (0.3, 0.5), "flip": 0.5}
    for seed in range(6):
        shared, nothing = Augment(**always)(image(), 16, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
        changed, clean = Augment(**always, teacher="clean")(image(), 16, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
        assert nothing is None
        assert clean is not None
        assert torch.equal(shared, changed)
        assert torch.equal(tv.solarize(clean, 128.0), changed)
        assert not torch.equal(clean, changed)
