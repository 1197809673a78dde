"""Crops take with them what belongs to their pictures."""

import numpy as np
import torch

from eupe.miniature.pictures import Cut, Pictures, draw_close, draw_cut, letters, recolour


def marked(x: int, y: int) -> torch.Tensor:
    """A black canvas with one white pixel."""
    canvas = torch.zeros(1, 3, 160, 160, dtype=torch.uint8)
    canvas[0, :, y, x] = 255
    return canvas


def test_a_point_goes_where_its_pixel_goes() -> None:
    """Magnified twice and mirrored, counted by hand: (50.5, 60.5) about the centre (64, 64) in a crop of 128."""
    cut = Cut(np.array([[64.0, 64.0]]), np.array([2.0]), np.array([-1.0]), 128, 128)
    place = cut.place(0, np.array([[50.5, 60.5]]))
    np.testing.assert_allclose(place, [[64 + 27, 64 - 7]])
    crop = cut.apply(marked(50, 60))[0, 0]
    row, column = divmod(int(crop.argmax()), 128)
    assert abs(column + 0.5 - 91) <= 1
    assert abs(row + 0.5 - 57) <= 1


def test_labels_are_cut_as_images_are() -> None:
    """The nearest label is the one under the pixel, for random crops."""
    draws = np.random.default_rng(0)
    cut = draw_cut(draws, np.array([[150.0, 128.0]] * 20), (0.8, 1.6), (128, 128), mirror=True, stray=1.0)
    label = torch.zeros(20, 1, 160, 160)
    label[:, :, 40:80, 30:90] = 1
    image = label.repeat(1, 3, 1, 1) * 255
    both = cut.apply(image)[:, :1] / 255, cut.apply(label, "nearest")
    clear = (both[0] < 0.01) | (both[0] > 0.99)
    assert torch.equal(both[0][clear].round(), both[1][clear])
    assert bool((both[1].flatten(1).sum(1) > 0).any())


def test_close_crops_hold_the_whole_sign() -> None:
    """Left and right of the box lie inside the crop, and its width is the share that was drawn."""
    boxes = np.tile(np.array([[20.0, 30.0, 119.0, 110.0]]), (50, 1))
    cut = draw_close(np.random.default_rng(1), boxes, 128, (0.5, 0.9))
    for at in range(50):
        (left, _), (right, _) = cut.place(at, np.array([[20.0, 50.0], [120.0, 50.0]]))
        assert -1e-6 <= left < right <= 128 + 1e-6
        assert 0.5 <= (right - left) / 128 <= 0.9


def test_letters_of_a_sign() -> None:
    """In order, inside the box, by number in the alphabet."""
    found = letters("ZOO", np.array([10.0, 20.0, 109.0, 100.0]))
    assert found.ids_K.tolist() == [25, 14, 14]
    assert (np.diff(found.places_K2[:, 0]) > 20).all()
    assert (found.places_K2[:, 0] > 10).all()
    assert (found.places_K2[:, 0] < 110).all()
    assert len(set(found.places_K2[:, 1])) == 1


def test_parts_are_disjoint_and_whole() -> None:
    """One in eight is held out, with its own targets and boxes."""
    everything = Pictures(
        torch.arange(24, dtype=torch.uint8).view(24, 1, 1, 1).expand(24, 3, 2, 2),
        np.ones((24, 2)),
        np.arange(24),
        np.arange(96.0).reshape(24, 4),
    )
    learnt, held = everything.part(held_out=False), everything.part(held_out=True)
    assert held.targets.tolist() == [7, 15, 23]
    assert sorted([*learnt.targets, *held.targets]) == list(range(24))
    for part in (learnt, held):
        assert part.pixels_N3SS[:, 0, 0, 0].tolist() == part.targets.tolist()
        assert part.boxes_N4 is not None
        assert (part.boxes_N4[:, 0] == 4 * part.targets).all()


def test_another_light_stays_in_range() -> None:
    """In [0, 1], other for every image, the same for the same draws."""
    images = torch.full((4, 3, 2, 2), 128.0)
    first = recolour(images, np.random.default_rng(0))
    assert torch.equal(first, recolour(images, np.random.default_rng(0)))
    assert 0 <= float(first.min()) < float(first.max()) <= 1
    assert len({round(float(value), 6) for value in first[:, 0, 0, 0]}) == 4
