"""What an encoder of the embedded family can do: closed-form probes on frozen features, one a skill of the experts.

They are measured on pictures of the lessons that nothing learnt from, so a stage can be judged before the benchmarks
see it. All scores are shares of what could be gained over a guess: 0 is chance, 1 is perfect.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eupe.miniature import pictures
from eupe.miniature.pictures import Cut, Pictures
from evals.types import Encoder

_SIDE = 128
_AT_ONCE = 128
_RIDGE = 1e-2
"""Weight of the penalty, as a share of the number of samples; features have unit variance."""

Look = Callable[[Float[Tensor, "B 3 Y X"]], tuple[Tensor, Tensor]]
"""From RGB in [0, 1] to global features [B, D] and maps [B, H, W, D]."""


def look_of(encoder: Encoder) -> Look:
    """The two features of an encoder."""

    @torch.no_grad()
    def look(images: Tensor) -> tuple[Tensor, Tensor]:
        found = encoder(images)
        assert found.pooled_BD is not None, "encoders of the family have a global feature"
        return found.pooled_BD.float(), found.patches_BHWD.float()

    return look


def measure(look: Look, world: Path) -> dict[str, float]:
    """Skill -> score: `semantic` and `reading` from global features with the mean of the map, `labels` and `depth`
    from single patches.
    """
    named, names = pictures.objects(world)
    notices, words = pictures.notices(world)
    scenes, classes = pictures.scenes(world)
    return {
        "semantic": _classify(look, named, len(names)),
        "reading": _classify(look, notices, len(words)),
        "labels": _label(look, scenes, classes),
        "depth": _depth(look, pictures.rooms(world)),
    }


def ridge(
    inputs_ND: Float[Tensor, "N D"], targets_NC: Float[Tensor, "N C"], asked_MD: Float[Tensor, "M D"]
) -> Float[Tensor, "M C"]:
    """Predictions of a ridge regression with an intercept, in fp64, on standardised inputs."""
    inputs_ND, targets_NC, asked_MD = inputs_ND.double(), targets_NC.double(), asked_MD.double()
    mean_D, std_D = inputs_ND.mean(0), inputs_ND.std(0).clamp_min(1e-6)
    inputs_ND, asked_MD = (inputs_ND - mean_D) / std_D, (asked_MD - mean_D) / std_D
    middle_C = targets_NC.mean(0)
    gram_DD = inputs_ND.T @ inputs_ND + _RIDGE * len(inputs_ND) * torch.eye(inputs_ND.shape[1], dtype=torch.float64)
    weights_DC = torch.linalg.solve(gram_DD, inputs_ND.T @ (targets_NC - middle_C))
    said_MC: Tensor = asked_MD @ weights_DC + middle_C
    return said_MC


def _classify(look: Look, found: Pictures, classes: int) -> float:
    """Accuracy over chance, as a share of perfection."""
    parts = [_whole(look, found.part(held_out)) for held_out in (False, True)]
    truths = [torch.from_numpy(found.part(held_out).targets) for held_out in (False, True)]
    wanted_NC = torch.nn.functional.one_hot(truths[0], classes).double()
    right = (ridge(parts[0], wanted_NC, parts[1]).argmax(1) == truths[1]).double().mean()
    return float((right - 1 / classes) / (1 - 1 / classes))


def _label(look: Look, found: Pictures, classes: int) -> float:
    """Accuracy of the commonest class of every patch over that of the commonest of all."""
    samples = []
    for held_out in (False, True):
        maps, truths = _patches(look, found.part(held_out))
        counts = torch.nn.functional.one_hot(truths.long(), classes + 1)[..., 1:].sum(1)
        shown = counts.sum(1) > 0
        samples.append((maps[shown], counts[shown].argmax(1)))
    (inputs, truth), (asked, answer) = samples
    said = ridge(inputs, torch.nn.functional.one_hot(truth, classes).double(), asked).argmax(1)
    guess = (answer == truth.bincount(minlength=classes).argmax()).double().mean()
    return float(((said == answer).double().mean() - guess) / (1 - guess))


def _depth(look: Look, found: Pictures) -> float:
    """Explained share of the variance of the logarithm of the median depth of every patch."""
    samples = []
    for held_out in (False, True):
        maps, truths = _patches(look, found.part(held_out))
        known = truths.float().masked_fill(truths <= 0, float("nan")).nanmedian(1).values
        shown = known.isfinite()
        samples.append((maps[shown], known[shown].log().double()[:, None]))
    (inputs, truth), (asked, answer) = samples
    rest = (ridge(inputs, truth, asked) - answer).pow(2).mean()
    return float(1 - rest / (answer - truth.mean()).pow(2).mean())


def _whole(look: Look, found: Pictures) -> Float[Tensor, "N D"]:
    rows = [torch.cat([pooled, maps.mean((1, 2))], 1) for pooled, maps, _ in _seen(look, found)]
    return torch.cat(rows)


def _patches(look: Look, found: Pictures) -> tuple[Float[Tensor, "N D"], Tensor]:
    """Every patch and the values of its pixels [N, pixels]."""
    maps, truths = [], []
    for at, (_, maps_BHWD, cut) in enumerate(_seen(look, found)):
        step = _SIDE // maps_BHWD.shape[1]
        values = cut.apply(found.targets[at * _AT_ONCE : (at + 1) * _AT_ONCE], "nearest")[:, 0]
        cells = values.unfold(1, step, step).unfold(2, step, step)
        maps.append(maps_BHWD.flatten(0, 2))
        truths.append(cells.flatten(3).flatten(0, 2))
    return torch.cat(maps), torch.cat(truths)


def _seen(look: Look, found: Pictures) -> Iterator[tuple[Tensor, Tensor, Cut]]:
    """The features of the middle of every picture, some at a time."""
    for start in range(0, len(found), _AT_ONCE):
        sizes = found.sizes_N2[start : start + _AT_ONCE]
        cut = Cut(sizes / 2, _SIDE / sizes.min(1), np.ones(len(sizes)), _SIDE, _SIDE)
        images = cut.apply(found.pixels_N3SS[start : start + _AT_ONCE]) / 255
        yield *look(images), cut
