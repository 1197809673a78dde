"""The fast matching against the usual formulation, and PCK counted by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from evals.metrics import keypoints
from evals.metrics.keypoints import (
    at_pixels,
    axis,
    best_pixels,
    best_pixels_cosine,
    corner_pixels,
    draw_pairs,
    longest_side,
    nearest_pixels,
    on_canvas,
    regrid,
    similarities,
    squared_norms,
    tally,
    transfer,
    within,
)

SIZES = [(4, 64), (5, 70), (3, 96), (7, 49), (6, 33), (1, 16), (8, 128)]
"""Cells and pixels of a side: strides 16, 14, 32, an odd one, one that is no whole number, one cell, 16 again."""


def _map(seed: int, cells: int, dim: int = 6) -> Tensor:
    return torch.randn(cells, cells, dim, generator=torch.Generator().manual_seed(seed))


def _enlarged(map_HWD: Tensor, side: int) -> Tensor:
    big: Tensor = functional.interpolate(map_HWD.permute(2, 0, 1)[None], size=(side, side), mode="bilinear")
    return big[0]


def _reference(source: Tensor, target: Tensor, pixels: Tensor, side: int, *, cosine: bool = False) -> Tensor:
    """The usual formulation: both maps at full size, dot products with every pixel, first maximum in raster order."""
    large_source, large_target = _enlarged(source, side), _enlarged(target, side)
    if cosine:
        large_target = functional.normalize(large_target, dim=0)
    vectors = large_source[:, pixels[:, 1], pixels[:, 0]].T
    return vectors @ large_target.flatten(1)


def _fast(source: Tensor, target: Tensor, pixels: Tensor, side: int) -> Tensor:
    return best_pixels(similarities(at_pixels(source, pixels, side), target), side)


def _agree(scores_KP: Tensor, ours_K2: Tensor, side: int) -> None:
    """Same prediction, or a pixel whose score in the reference is within 1e-6 of the best."""
    raster = ours_K2[:, 1] * side + ours_K2[:, 0]
    best = scores_KP.max(1).values
    chosen = scores_KP.gather(1, raster[:, None])[:, 0]
    different = raster != scores_KP.argmax(1)
    assert (best - chosen)[different].abs().le(1e-6).all()


@pytest.mark.parametrize(("cells", "side"), SIZES)
@pytest.mark.parametrize("seed", range(8))
def test_same_predictions_as_the_reference(cells: int, side: int, seed: int) -> None:
    """Random unit maps of several strides, random source pixels with the corners among them."""
    source, target = (functional.normalize(_map(2 * seed + i, cells), dim=-1) for i in (0, 1))
    pixels = torch.randint(side, (12, 2), generator=torch.Generator().manual_seed(seed))
    pixels[:4] = torch.tensor([[0, 0], [side - 1, 0], [0, side - 1], [side - 1, side - 1]])
    scores = _reference(source, target, pixels, side)
    ours = _fast(source, target, pixels, side)
    _agree(scores, ours, side)
    raster = ours[:, 1] * side + ours[:, 0]
    # Away from the flat borders, where rounding orders equal pixels at random in the reference, not one may differ.
    inner = (ours > side // (2 * cells)).all(1) & (ours < side - side // (2 * cells) - 1).all(1)
    assert torch.equal(raster[inner], scores.argmax(1)[inner])


@pytest.mark.parametrize(("cells", "side"), SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_cosine_after_the_enlargement(cells: int, side: int, seed: int) -> None:
    """The option that normalises every pixel: same predictions as with the features written out."""
    source, target = _map(50 + seed, cells), _map(80 + seed, cells)
    pixels = torch.randint(side, (6, 2), generator=torch.Generator().manual_seed(seed))
    scores = similarities(at_pixels(source, pixels, side), target)
    ours = best_pixels_cosine(scores, squared_norms(target, side))
    _agree(_reference(source, target, pixels, side, cosine=True), ours, side)


@pytest.mark.parametrize(("cells", "side"), SIZES)
def test_norms_without_the_features(cells: int, side: int) -> None:
    """Squared norms from neighbouring products equal those of the enlarged map."""
    tokens = _map(3, cells)
    assert torch.allclose(squared_norms(tokens, side), _enlarged(tokens.double(), side).square().sum(0), atol=1e-10)


@pytest.mark.parametrize(("cells", "side"), SIZES)
def test_pixels_of_the_enlarged_map(cells: int, side: int) -> None:
    """Every pixel, borders included, is what `interpolate` gives."""
    tokens = _map(4, cells, 3)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    pixels = torch.stack([x.flatten(), y.flatten()], 1)
    assert torch.allclose(at_pixels(tokens, pixels, side), _enlarged(tokens, side).flatten(1).T, atol=1e-5)


def test_sampling_agrees_with_grid_sample() -> None:
    """The same vectors through torch's sampler: border padding, align_corners off, at (x + 0.5) / side."""
    tokens = _map(5, 5, 4)
    pixels = torch.tensor([[0, 0], [69, 3], [20, 41], [33, 69]])
    places = ((pixels + 0.5) / 70 * 2 - 1).float()[None, None]
    sampled = functional.grid_sample(
        tokens.permute(2, 0, 1)[None], places, mode="bilinear", padding_mode="border", align_corners=False
    )
    assert torch.allclose(at_pixels(tokens, pixels, 70), sampled[0, :, 0].T, atol=1e-5)


def test_candidates_at_patch_16() -> None:
    """32 tokens on 512 pixels: 0, then the pixels 7 and 8 (mod 16) beside the token centres, 64 in all."""
    expected = [0, *sorted([*range(8, 504, 16), *range(23, 504, 16)]), 504]
    assert corner_pixels(32, 512).tolist() == expected
    assert len(expected) == 64


def test_weights_at_patch_16() -> None:
    """Pixel 8 lies 1/32 beyond the first token centre, pixel 23 lies 31/32; beyond the last centre it is flat."""
    places = axis(torch.tensor([0, 7, 8, 23, 24, 504, 511]), 32, 512)
    assert places.low.tolist() == [0, 0, 0, 0, 1, 31, 31]
    assert places.weight.tolist() == [0, 0, 1 / 32, 31 / 32, 1 / 32, 0, 0]


@pytest.mark.parametrize(("cells", "side"), [(4, 64), (5, 70), (6, 33)])
def test_ties_go_to_the_first_pixel_of_the_whole_raster(cells: int, side: int) -> None:
    """Flat maps, equal tokens in a row, in a column, around a corner, anywhere: the first of all equal pixels."""
    surfaces = torch.zeros(5, cells, cells)
    surfaces[1, 2, 1:3] = 1
    surfaces[2, 1:3, 3] = 1
    surfaces[3, 1, 1] = surfaces[3, 2, 2] = surfaces[3, 1, 2] = 1
    surfaces[4] = torch.randint(2, (cells, cells), generator=torch.Generator().manual_seed(0)).float()
    pixels = torch.arange(side)
    place = axis(pixels, cells, side)
    full = place.mix(place.mix(surfaces.double(), 1), 2)
    first = full.flatten(1).argmax(1)
    ours = best_pixels(surfaces, side)
    assert (ours[:, 1] * side + ours[:, 0]).tolist() == first.tolist()
    assert ours[0].tolist() == [0, 0]


def test_a_peak_is_found_beside_its_token_centre() -> None:
    """One high token at row 1, column 2 of 4 x 4 on 64 pixels: centre at (40, 24), first best pixel (39, 23)."""
    surface = torch.zeros(1, 4, 4)
    surface[0, 1, 2] = 1
    assert best_pixels(surface, 64).tolist() == [[39, 23]]


@pytest.mark.parametrize("cosine", [False, True])
def test_transfer_visits_every_point(cosine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points of many pairs at once, in blocks of two, come out as each alone does, in their order."""
    monkeypatch.setattr(keypoints, "_SURFACES_AT_ONCE", 2 * (64**2 if cosine else 49))
    maps = {image: _map(image, 4) for image in (3, 5, 8)}
    generator = np.random.default_rng(0)
    source, target = generator.choice([3, 5, 8], (2, 25))
    pixels = torch.from_numpy(generator.integers(64, size=(25, 2)))
    ours = transfer(maps, source, target, pixels, 64, cosine=cosine)
    for at in range(25):
        here, there = maps[int(source[at])], maps[int(target[at])]
        _agree(_reference(here, there, pixels[at : at + 1], 64, cosine=cosine), ours[at : at + 1], 64)


def test_regrid_keeps_what_fits_and_enlarges_the_rest() -> None:
    """A map on the right grid stays itself; a coarser one is what `interpolate` gives."""
    tokens = _map(6, 4, 2)
    assert regrid(tokens, 4) is tokens
    assert torch.allclose(regrid(tokens, 8), _enlarged(tokens, 8).permute(1, 2, 0), atol=1e-6)


def test_letterbox_coordinates_by_hand() -> None:
    """A 200 x 100 picture on 512 pixels: scale 2.56, pasted 128 pixels from the top; an upright one from the left."""
    points = np.array([[0.0, 0.0], [100.0, 50.0]])
    assert on_canvas(points, (200, 100), (512, 256), 512).tolist() == [[0, 128], [256, 256]]
    assert on_canvas(points, (100, 200), (256, 512), 512).tolist() == [[128, 0], [384, 128]]


def test_source_pixels_round_both_coordinates() -> None:
    """Rounded, not cut, and kept inside the square."""
    points = np.array([[1.6, 2.4], [511.7, -0.6], [2.5, 3.5]])
    assert nearest_pixels(points, 512).tolist() == [[2, 2], [511, 0], [2, 4]]


def test_threshold_scales_by_the_longer_side_of_the_image() -> None:
    """A letterbox has one scale. A wide picture of 200 x 100 with a box of 30 x 50: the threshold is 0.1 x 50 x 2.56.

    Scaling by the height (as after a squash) would be 25.6 pixels and would count the point at 20 pixels.
    """
    box = longest_side((10, 20, 40, 70), (200, 100), 512)
    assert box == pytest.approx(128)
    distances = np.array([12.7, 12.9, 20.0])
    assert within(distances, np.full(3, box), 0.1).tolist() == [True, False, False]
    assert within(distances, np.full(3, 50 * 512 / 100), 0.1).tolist() == [True, True, True]


def test_the_bound_is_strict() -> None:
    """A point exactly at the threshold is wrong."""
    assert within(np.array([8.0, 7.999]), np.array([64.0, 64.0]), 0.125).tolist() == [False, True]


def test_pck_by_hand() -> None:
    """Category 0 has 1 of 4 points right, category 2 has 1 of 1, category 1 none at all: (25 + 100) / 2."""
    correct = np.array([True, False, False, False, True])
    category, pair = np.array([0, 0, 0, 0, 2]), np.array([0, 0, 1, 1, 2])
    sums = tally(correct, category, pair, np.ones(5, dtype=np.int64))
    assert sums.by_category()[[0, 2]].tolist() == [25, 100]
    assert np.isnan(sums.by_category()[1])
    assert sums.score() == 62.5


def test_pairs_drawn_twice_count_twice() -> None:
    """The first pair (1 of 2 right) three times, the second (0 of 2) once: 3 of 8; one never drawn is left out."""
    correct = np.array([True, False, False, False, True])
    category, pair = np.zeros(5, dtype=np.int64), np.array([0, 0, 1, 1, 2])
    sums = tally(correct, category, pair, np.array([3, 3, 1, 1, 0]))
    assert sums.score() == 37.5
    assert sums.total_GC.tolist() == [[6], [2]]


def test_resampled_clusters_are_reweighted_sums() -> None:
    """Cluster weights 2 and 0 leave the first cluster alone."""
    sums = tally(np.array([True, False, True]), np.zeros(3, dtype=np.int64), np.array([4, 4, 9]), np.ones(3, np.int64))
    assert sums.score() == pytest.approx(200 / 3)
    assert sums.score(np.array([2, 0])) == 50
    assert sums.score(np.array([0, 2])) == 100


def test_draw_is_the_cited_one() -> None:
    """numpy.random.seed(0), then choice over the sorted files of each category in alphabetical order, by replay."""
    pairs = [("cow", "000003-a-b:cow"), ("bus", "000002-a-b:bus"), ("cow", "000001-c-d:cow"), ("bus", "000009-e-f:bus")]
    stream = np.random.RandomState(0)
    bus, cow = stream.choice(2, 5), stream.choice(2, 5)
    expected = [(cow == 1).sum(), (bus == 0).sum(), (cow == 0).sum(), (bus == 1).sum()]
    assert draw_pairs(pairs, 5, 0).tolist() == expected
    assert draw_pairs(pairs, 100, 0).sum() == 200


def test_first_draws_of_seed_zero() -> None:
    """The published stream: the first five of RandomState(0).choice(690) are 684, 559, 629, 192 and 359."""
    pairs = [("aeroplane", f"{i:06d}-a-b:aeroplane") for i in range(690)]
    assert np.flatnonzero(draw_pairs(pairs, 5, 0)).tolist() == [192, 359, 559, 629, 684]


def test_equal_neighbours_mix_to_themselves() -> None:
    """No rounding between equal values, on a stride whose weights are no binary fractions."""
    value = torch.full((1, 5), 0.1, dtype=torch.float64)
    assert (keypoints.axis(torch.arange(70), 5, 70).mix(value, 1) == 0.1).all()
