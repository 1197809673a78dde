"""Key-point transfer on token maps, and PCK: the exact result of the usual formulation at a fraction of its work.

The usual formulation enlarges both feature maps to the pixels of the square, compares the source vector with every
pixel of the target and takes the best. Bilinear enlargement is linear, so here the source vector is compared with the
*tokens* and the similarities are enlarged; and a bilinear surface is highest at a corner of one of its cells, so they
are evaluated only at the first and last pixel between neighbouring token centres.
Pixel coordinates are integers (x, y) whose centres lie at x + 0.5, as in `interpolate` with align_corners=False.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from evals.context import batches

_SURFACES_AT_ONCE = 1 << 21
"""Numbers of one block of enlarged similarities in fp64: 16 MB."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Pixels along one axis of the square as mixtures of two neighbouring cells of the token grid."""

    low: Int[Tensor, " P"]
    high: Int[Tensor, " P"]
    weight: Float[Tensor, " P"]
    """Share of `high`, fp64; zero beyond the outermost cell centres, where the surface is flat."""

    def mix(self, values: Tensor, dim: int) -> Tensor:
        """Values at the pixels, along `dim`. Equal neighbours give their value exactly, so that ties stay ties."""
        shape = [1] * values.ndim
        shape[dim] = -1
        low, high = values.index_select(dim, self.low), values.index_select(dim, self.high)
        return low + self.weight.to(values.dtype).view(shape) * (high - low)


def axis(pixels: Int[Tensor, " P"], cells: int, side: int) -> Axis:
    """Where integer pixels of a side of `side` pixels lie on a grid of `cells`."""
    position = (2 * pixels + 1) * cells - side
    low = position.div(2 * side, rounding_mode="floor").clamp(0, cells - 1)
    inside = (position > 0) & (low < cells - 1)
    weight = torch.where(inside, (position - low * 2 * side).double() / (2 * side), 0.0)
    return Axis(low, (low + 1).clamp(max=cells - 1), weight)


@functools.lru_cache(maxsize=8)
def corner_pixels(cells: int, side: int) -> Int[Tensor, " P"]:
    """Pixels, ascending, among which every bilinear function on the axis has its first maximum.

    Between two neighbouring cell centres it is linear: the first and the last pixel there. In the flat parts at both
    ends: the first pixel.
    """
    pixels = torch.arange(side)
    position = (2 * pixels + 1) * cells - side
    part = torch.where(position < 0, -1, position.div(2 * side, rounding_mode="floor").clamp(max=cells - 1))
    starts = torch.cat([torch.tensor([True]), part[1:] != part[:-1]])
    ends = torch.cat([part[1:] != part[:-1], torch.tensor([False])]) & (part >= 0)
    return pixels[starts | ends]


def regrid(map_HWD: Float[Tensor, "H W D"], cells: int) -> Float[Tensor, "h w D"]:
    """The map on `cells` x `cells` tokens, bilinear with antialias."""
    if map_HWD.shape[:2] == (cells, cells):
        return map_HWD
    resized: Tensor = functional.interpolate(
        map_HWD.permute(2, 0, 1)[None], size=(cells, cells), mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0)


def at_pixels(map_HWD: Float[Tensor, "H W D"], pixels_K2: Int[Tensor, "K 2"], side: int) -> Float[Tensor, "K D"]:
    """The map enlarged to `side` x `side`, at some pixels."""
    rows, columns = map_HWD.shape[:2]
    x, y = axis(pixels_K2[:, 0], columns, side), axis(pixels_K2[:, 1], rows, side)
    across, down = x.weight.to(map_HWD.dtype)[:, None], y.weight.to(map_HWD.dtype)[:, None]
    top = torch.lerp(map_HWD[y.low, x.low], map_HWD[y.low, x.high], across)
    bottom = torch.lerp(map_HWD[y.high, x.low], map_HWD[y.high, x.high], across)
    return torch.lerp(top, bottom, down)


def similarities(source_KD: Float[Tensor, "K D"], map_HWD: Float[Tensor, "H W D"]) -> Float[Tensor, "K H W"]:
    """Dot products with every token of the target."""
    return (source_KD @ map_HWD.flatten(0, 1).T).reshape(len(source_KD), *map_HWD.shape[:2])


def best_pixels(similarity_KHW: Float[Tensor, "K H W"], side: int) -> Int[Tensor, "K 2"]:
    """(x, y) of the highest value of each surface enlarged to `side` x `side`; the first in raster order of equals."""
    rows, columns = similarity_KHW.shape[1:]
    device = similarity_KHW.device
    at_y, at_x = corner_pixels(rows, side).to(device), corner_pixels(columns, side).to(device)
    surface = axis(at_y, rows, side).mix(similarity_KHW.double(), 1)
    surface = axis(at_x, columns, side).mix(surface, 2)
    best = surface.flatten(1).argmax(1)
    return torch.stack([at_x[best % len(at_x)], at_y[best // len(at_x)]], 1)


def best_pixels_cosine(
    similarity_KHW: Float[Tensor, "K H W"], squared_norms_YX: Float[Tensor, "Y X"]
) -> Int[Tensor, "K 2"]:
    """The same for cosines with the enlarged target features: every pixel is divided by the norm of its feature."""
    side = len(squared_norms_YX)
    rows, columns = similarity_KHW.shape[1:]
    pixels = torch.arange(side, device=similarity_KHW.device)
    y, x = axis(pixels, rows, side), axis(pixels, columns, side)
    surface = x.mix(y.mix(similarity_KHW.double(), 1), 2) / squared_norms_YX.clamp(min=1e-24).sqrt()
    best = surface.flatten(1).argmax(1)
    return torch.stack([best % side, best // side], 1)


def squared_norms(map_HWD: Float[Tensor, "H W D"], side: int) -> Float[Tensor, "Y X"]:
    """Squared norms of the map enlarged to `side` x `side`, fp64, from dot products of neighbouring tokens alone.

    With f = (1-a)(1-b) p + (1-a) b q + a (1-b) r + a b s the square is a sum over the ten products of p, q, r, s.
    """
    tokens = map_HWD.double()
    rows, columns = tokens.shape[:2]
    pixels = torch.arange(side, device=tokens.device)
    y, x = axis(pixels, rows, side), axis(pixels, columns, side)
    right = tokens[:, [*range(1, columns), columns - 1]]
    below, across = tokens[[*range(1, rows), rows - 1]], right[[*range(1, rows), rows - 1]]
    corners = (tokens, right, below, across)
    a, b = y.weight[:, None], x.weight[None, :]
    shares = ((1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b)
    total = torch.zeros(side, side, dtype=torch.float64, device=tokens.device)
    for i in range(4):
        for j in range(i, 4):
            products = (corners[i] * corners[j]).sum(-1)[y.low][:, x.low]
            total += (1 if i == j else 2) * shares[i] * shares[j] * products
    return total


def transfer(
    maps: Mapping[int, Float[Tensor, "H W D"]],
    source_N: NDArray[np.int64],
    target_N: NDArray[np.int64],
    pixels_N2: Int[Tensor, "N 2"],
    side: int,
    *,
    cosine: bool,
) -> Int[Tensor, "N 2"]:
    """For each point, a pixel of its source image, the best pixel of its target image.

    Images are keys of `maps`. Each image is visited once as a source and once as a target, for all its points.
    `cosine` compares with unit features of pixels, else the maps are taken as they are.
    """
    first = next(iter(maps.values()))
    vectors_ND = first.new_empty(len(pixels_N2), first.shape[-1])
    best_N2 = torch.empty_like(pixels_N2)
    for image in np.unique(source_N):
        block = torch.from_numpy(np.flatnonzero(source_N == image)).to(first.device)
        vectors_ND[block] = at_pixels(maps[int(image)], pixels_N2[block], side)
    for image in np.unique(target_N):
        tokens, at = maps[int(image)], np.flatnonzero(target_N == image)
        norms = squared_norms(tokens, side) if cosine else None
        surface = len(corner_pixels(len(tokens), side)) ** 2 if norms is None else side**2
        for rows in batches(len(at), max(1, _SURFACES_AT_ONCE // surface)):
            block = torch.from_numpy(at[rows.start : rows.stop]).to(first.device)
            scores = similarities(vectors_ND[block], tokens)
            best_N2[block] = best_pixels(scores, side) if norms is None else best_pixels_cosine(scores, norms)
    return best_N2


def on_canvas(
    points_K2: NDArray[np.float64], size: tuple[int, int], resized: tuple[int, int], side: int
) -> NDArray[np.float64]:
    """Points (x, y) of an image of `size` (width, height) after the letterbox: one scale, the offset of the paste.

    `resized` is the size of the picture inside the square of `side`.
    """
    offset = np.array([(side - resized[0]) // 2, (side - resized[1]) // 2], dtype=np.float64)
    return points_K2 * (side / max(size)) + offset


def nearest_pixels(points_K2: NDArray[np.float64], side: int) -> Int[Tensor, "K 2"]:
    """Both coordinates rounded (halves to even) and clamped into the square."""
    return torch.from_numpy(np.clip(np.rint(points_K2), 0, side - 1).astype(np.int64))


def longest_side(box: tuple[float, float, float, float], size: tuple[int, int], side: int) -> float:
    """Longer side of the box x0, y0, x1, y1 after the letterbox, in pixels of the square.

    The letterbox has one scale, side / max(size), for both axes: the axis of the longer side makes no difference.
    """
    return max(box[2] - box[0], box[3] - box[1]) * side / max(size)


def within(distances_N: NDArray[np.float64], box_sides_N: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    """Correct key points: nearer than `alpha` times the longer side of the box, strictly."""
    return distances_N < alpha * box_sides_N


@dataclass(frozen=True, slots=True)
class Tally:
    """Correct and all key points, by cluster and category, so that scores and resampled scores are plain sums."""

    right_GC: NDArray[np.float64]
    total_GC: NDArray[np.float64]

    def by_category(self, weights_G: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """PCK of each category in percent, NaN where it has no point; `weights_G` counts clusters several times."""
        weights = np.ones(len(self.total_GC), dtype=np.int64) if weights_G is None else weights_G
        right, total = weights @ self.right_GC, weights @ self.total_GC
        shares: NDArray[np.float64] = np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0)
        return 100 * shares

    def score(self, weights_G: NDArray[np.int64] | None = None) -> float:
        """Plain mean over the categories that have points (Walmer et al. 2023; Suri et al. 2024)."""
        return float(np.nanmean(self.by_category(weights_G)))


def tally(
    correct_N: NDArray[np.bool_],
    category_N: NDArray[np.integer],
    cluster_N: NDArray[np.integer],
    weights_N: NDArray[np.integer],
) -> Tally:
    """Sums over points; a point counts `weights_N` times, clusters that never count are left out."""
    counted = weights_N > 0
    _, cluster = np.unique(cluster_N[counted], return_inverse=True)
    shape = (int(cluster.max()) + 1, int(category_N.max()) + 1)
    right, total = np.zeros(shape), np.zeros(shape)
    place = (cluster, category_N[counted])
    np.add.at(total, place, weights_N[counted])
    np.add.at(right, place, weights_N[counted] * correct_N[counted])
    return Tally(right, total)


def draw_pairs(pairs: Sequence[tuple[str, str]], each: int, seed: int) -> NDArray[np.int64]:
    """How often each pair (category, name) is drawn: `each` times a category, with replacement.

    One stream runs over the categories and, in each, over its pairs, both in alphabetical order. It is numpy's frozen
    RandomState, what the cited evaluation (LiFT, Suri et al. 2024) draws from, so that a seed names the same pairs.
    """
    stream = np.random.RandomState(seed)
    counts = np.zeros(len(pairs), dtype=np.int64)
    order = sorted(range(len(pairs)), key=lambda i: pairs[i])
    for _, group in itertools.groupby(order, key=lambda i: pairs[i][0]):
        members = np.array(list(group))
        np.add.at(counts, members[stream.choice(len(members), each)], 1)
    return counts
