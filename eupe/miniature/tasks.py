"""What the experts are asked while they learn: one function a task, from pictures and draws to a loss.

Every task sees the two outputs that an expert will teach with: its global feature and its map.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from eupe.miniature.pictures import Cut, Pictures, Points, draw_close, draw_cut, recolour
from eupe.miniature.pictures import letters as spelt
from evals.encoders.exports.text import WordTower, pieces
from evals.miniature.signs import WORDS

Features = tuple[Float[Tensor, "B D"], Float[Tensor, "B H W D"]]
Look = Callable[[Tensor], Features]
"""The expert: from RGB in [0, 1] to global features and maps."""

SIDE = 128
"""Pixels of a crop."""
SHARPNESS = 16.0
"""Factor of cosines before a softmax."""
TEMPLATES = (
    "a photo of a {}.", "a picture of a {}.", "an image of the {}.", "a {}.", "the {}.", "{}", "a photo of one {}.",
    "a bright photo of a {}.", "a dark photo of the {}.", "a close-up photo of a {}.", "a good photo of the {}.",
    "a bad photo of a {}.", "a photo of the large {}.", "a photo of the small {}.", "a blurry photo of a {}.",
    "a rendering of a {}.", "a drawing of a {}.", "there is a {} in the scene.", "a room with a {}.", "itap of a {}.",
)  # fmt: skip
"""Sentences around the names of classes."""
LETTERS = 26
_BESIDE, _CLEAR = 4, 20
"""Places beside the letters that are asked about, at least, and how many pixels they must be from every letter."""
_UNKNOWN = 0.15
"""Chance that a word outside the name is hidden, so that sentences with other words are understood too."""


def vocabulary(names: tuple[str, ...]) -> tuple[str, ...]:
    """All words of the names and the sentences around them, sorted."""
    return tuple(sorted({word for text in (*names, *TEMPLATES) for word in pieces(text.replace("{}", ""))}))


@dataclass(frozen=True, slots=True)
class Crops:
    """How a task takes its crops."""

    images: int
    scales: tuple[float, float]
    sides: tuple[int, int] = (SIDE, SIDE)
    mirror: bool = True
    stray: float = 1.0

    def draw(self, pictures: Pictures, draws: np.random.Generator) -> tuple[Cut, Any, Tensor]:
        """(where, numbers of the pictures, images in [0, 1])."""
        at = draws.choice(len(pictures), min(self.images, len(pictures)), replace=False)
        cut = draw_cut(draws, pictures.sizes_N2[at], self.scales, self.sides, mirror=self.mirror, stray=self.stray)
        return cut, at, recolour(cut.apply(pictures.pixels_N3SS[at]), draws)


def name_objects(
    look: Look, tower: WordTower, names: tuple[str, ...], pictures: Pictures, crops: Crops, draws: np.random.Generator
) -> Tensor:
    """The class whose sentence is nearest, against the other classes."""
    _, at, images = crops.draw(pictures, draws)
    pooled_BD, _ = look(images)
    template = TEMPLATES[int(draws.integers(len(TEMPLATES)))]
    ids_TK = tower.tokens([template.format(name) for name in names])
    text_TD = tower(_with_unknowns(ids_TK, tower.tokens(list(names)), draws))
    return functional.cross_entropy(_cosines(pooled_BD, text_TD), torch.from_numpy(pictures.targets[at]))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reading expert looks at: signs, a share of the crop within `spans` wide, and what has nothing to read.

    On the latter, and between letters, it has to say so: what it puts out tells words apart, and little else.
    """

    signs: Pictures
    others: Pictures
    images: int
    spans: tuple[float, float]
    crops: Crops
    """Of the others."""

    def losses(self, look: Look, words: nn.Linear, letters: nn.Linear, draws: np.random.Generator) -> dict[str, Tensor]:
        """The word on each sign, or none, and each of its letters where it stands, or none beside them."""
        assert self.signs.boxes_N4 is not None, "signs have boxes"
        at = draws.choice(len(self.signs), min(self.images, len(self.signs)), replace=False)
        cut = draw_close(draws, self.signs.boxes_N4[at], SIDE, self.spans)
        signs = recolour(cut.apply(self.signs.pixels_N3SS[at]), draws)
        _, _, others = self.crops.draw(self.others, draws)
        pooled_BD, maps_BHWD = look(torch.cat([signs, others]))
        truth = torch.from_numpy(np.concatenate([self.signs.targets[at], np.full(len(others), len(WORDS))]))
        where_BK2, ids_BK = _asked([self._letters(cut, n, index) for n, index in enumerate(at)], draws)
        sampled_BDK = functional.grid_sample(
            maps_BHWD[: len(at)].permute(0, 3, 1, 2).float(),
            2 * where_BK2[:, None] / SIDE - 1,
            padding_mode="border",
            align_corners=False,
        )[:, :, 0]
        logits = letters(sampled_BDK.transpose(1, 2)).float()
        return {
            "words": functional.cross_entropy(_cosines(pooled_BD, words.weight), truth),
            "letters": functional.cross_entropy(logits.flatten(0, 1), ids_BK.flatten(), ignore_index=-1),
        }

    def _letters(self, cut: Cut, n: int, index: int) -> Points:
        """The letters of a sign, in pixels of its crop."""
        assert self.signs.boxes_N4 is not None, "signs have boxes"
        known = spelt(WORDS[self.signs.targets[index]], self.signs.boxes_N4[index])
        return Points(known.ids_K, cut.place(n, known.places_K2))


def label_scenes(look: Look, labels: nn.Linear, pictures: Pictures, crops: Crops, draws: np.random.Generator) -> Tensor:
    """The class of every pixel; unlabelled ones ask nothing."""
    cut, at, images = crops.draw(pictures, draws)
    _, maps_BHWD = look(images)
    truth = cut.apply(pictures.targets[at], "nearest")[:, 0].long() - 1
    return functional.cross_entropy(_enlarge(labels(maps_BHWD), crops.sides), truth, ignore_index=-1)


def measure_rooms(look: Look, depth: nn.Linear, pictures: Pictures, crops: Crops, draws: np.random.Generator) -> Tensor:
    """The logarithm of depth, where it is known."""
    cut, at, images = crops.draw(pictures, draws)
    _, maps_BHWD = look(images)
    said = _enlarge(depth(maps_BHWD), crops.sides)[:, 0]
    truth = cut.apply(pictures.targets[at], "nearest")[:, 0]
    seen = truth > 0
    return (said[seen] - truth[seen].log()).abs().mean()


def find_points(look: Look, points: nn.Linear, pictures: Pictures, crops: Crops, draws: np.random.Generator) -> Tensor:
    """Each key point is the place in its picture that is most like its vector, which all pictures share."""
    cut, at, images = crops.draw(pictures, draws)
    _, maps_BHWD = look(images)
    cells = maps_BHWD.shape[1]
    step = crops.sides[0] / cells
    losses = []
    for n, index in enumerate(at):
        known = pictures.targets[index]
        places_K2 = cut.place(n, known.places_K2) / step - 0.5
        inside = ((places_K2 > 0) & (places_K2 < cells - 1)).all(1)
        if not inside.any():
            continue
        likeness_NP = _cosines(maps_BHWD[n].flatten(0, 1), points.weight)
        target_KN = _bilinear(places_K2[inside], cells)
        ids_K = torch.from_numpy(known.ids_K[inside])
        losses.append(-(target_KN * likeness_NP[:, ids_K].T.log_softmax(1)).sum(1))
        losses.append(functional.cross_entropy(target_KN @ likeness_NP, ids_K, reduction="none"))
    return torch.cat(losses).mean() if losses else maps_BHWD.sum() * 0


def _asked(known: Sequence[Points], draws: np.random.Generator) -> tuple[Float[Tensor, "B K 2"], Int[Tensor, "B K"]]:
    """Places in pixels and the letters there: those of the words, filled up with others where there is none (LETTERS).

    -1 where neither is clear.
    """
    most = max(len(each.ids_K) for each in known) + _BESIDE
    where = draws.uniform(0, SIDE, (len(known), most, 2))
    ids = np.full((len(known), most), LETTERS)
    for n, each in enumerate(known):
        count = len(each.ids_K)
        gaps = np.abs(where[n, count:, None] - each.places_K2[None])
        ids[n, count:][(gaps.max(-1) < _CLEAR).any(1)] = -1
        where[n, :count], ids[n, :count] = each.places_K2, each.ids_K
    return torch.from_numpy(where).float(), torch.from_numpy(ids)


def _with_unknowns(ids_TK: Int[Tensor, "T K"], kept_TK: Tensor, draws: np.random.Generator) -> Int[Tensor, "T K"]:
    """Sentences of which some words, but none of the names, are unknown ones (id 1)."""
    hide = torch.from_numpy(draws.random(ids_TK.shape) < _UNKNOWN)
    return ids_TK.masked_fill(hide & (ids_TK > 0) & ~torch.isin(ids_TK, kept_TK), 1)


def _bilinear(places_K2: Any, cells: int) -> Float[Tensor, "K N"]:
    """Weights of the cells around each place."""
    grid = np.arange(cells)
    x, y = (np.clip(1 - np.abs(places_K2[:, axis, None] - grid), 0, 1) for axis in (0, 1))
    return torch.from_numpy((y[:, :, None] * x[:, None]).reshape(len(places_K2), -1)).float()


def _cosines(vectors: Tensor, others: Tensor) -> Tensor:
    return SHARPNESS * functional.normalize(vectors.float(), dim=-1) @ functional.normalize(others.float(), dim=1).T


def _enlarge(maps_BHWC: Tensor, sides: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps_BHWC.float().permute(0, 3, 1, 2), size=sides, mode="bilinear")
