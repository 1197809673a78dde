"""Trials about images: the sizes an encoder takes, what it refuses, and what its first layer sees."""

import torch
from jaxtyping import Float
from torch import Tensor

from evals.doctor.check import Finding, Trial, judged
from evals.doctor.subject import Grid, Subject, tensors
from evals.doctor.trace import trace
from evals.errors import DataError
from evals.types import nearest_multiple

_PIXELS = 1e-4
"""Greatest difference between what the first layer sees and the image normalised by hand; values are about 1."""


def _shapes(subject: Subject) -> Finding:
    encoder, wrong = subject.encoder, []
    others: tuple[Grid, ...] = ((4, 4), (5, 2), (2, 5)) if subject.flexible else ()
    for grid in (subject.native, *others):
        found = tensors(encoder(subject.noise(grid=grid)))
        if found["patches"].shape != (1, *grid, encoder.dim):
            wrong.append(f"{_said(grid)} cells of {encoder.dim} came as {list(found['patches'].shape)}")
        wrong += [f"{name} is {x.dtype}" for name, x in found.items() if x.dtype != torch.float32]
        wrong += [f"{name} is not finite" for name, x in found.items() if not bool(x.isfinite().all())]
    if wrong:
        return Finding("fail", "; ".join(dict.fromkeys(wrong)))
    grids = ", ".join(dict.fromkeys(_said(grid) for grid in (subject.native, *others)))
    if not subject.flexible:
        return Finding("note", f"{grids} cells of {encoder.dim}; every other size is refused")
    return Finding("pass", f"{grids} cells of {encoder.dim}")


def _odd_sizes(subject: Subject) -> Finding:
    patch = subject.encoder.spec.patch
    if patch == 1:
        return Finding("skip", "every size is a multiple of 1")
    wrong = []
    for rows, columns in ((3 * patch + 1, 5 * patch), (3 * patch, 5 * patch - 1)):
        told = _refusal(subject, torch.full((1, 3, rows, columns), 0.5))
        nearest = f"{nearest_multiple(rows, patch)} x {nearest_multiple(columns, patch)}"
        if told is None or nearest not in told:
            wrong.append(f"{rows} x {columns} px " + ("was taken" if told is None else f"refused without {nearest}"))
    return judged(not wrong, "; ".join(wrong) or f"{rows} x {columns} px: refused, {nearest} named")


def _bad_input(subject: Subject) -> Finding:
    image = subject.noise()
    bad = {
        "uint8": (255 * image).to(torch.uint8),
        "0 to 255": 255 * image,
        "below 0": image - 0.5,
        "no batch": image[0],
        "one channel": image[:, :1],
    }
    taken = [name for name, images in bad.items() if _refusal(subject, images) is None]
    return judged(not taken, f"taken: {', '.join(taken)}" if taken else f"refused: {', '.join(bad)}")


def _normalisation(subject: Subject) -> Finding:
    spec = subject.encoder.spec
    mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(subject.device) for values in (spec.mean, spec.std))
    image = (mean + std * subject.noise()).clamp(0, 1)
    wanted = (image - mean) / std
    first = trace(subject.encoder, image).first
    if first is None or first[1].numel() != wanted.numel():
        return Finding("skip", "no layer with weights takes the pixels as they are, so what it sees cannot be told")
    name, seen = first[0], first[1].to(wanted)
    # Libraries that cut the image into patches themselves order the numbers in another way.
    off = seen - wanted if seen.shape == wanted.shape else _sorted(seen) - _sorted(wanted)
    worst = float(off.abs().max())
    told = f"{name} sees {_statistics(seen)} for {_statistics(wanted)}, {worst:.1e} off at most"
    return judged(worst <= _PIXELS, told)


def _refusal(subject: Subject, images: Tensor) -> str | None:
    """What an image is refused with; None if it is not."""
    try:
        subject.encoder(images.to(subject.device))
    except DataError as error:
        return str(error)
    return None


def _sorted(x: Tensor) -> Float[Tensor, " N"]:
    return x.flatten().sort().values


def _statistics(x: Tensor) -> str:
    return f"{float(x.mean()):.3f} ± {float(x.std()):.3f}"


def _said(grid: Grid) -> str:
    return f"{grid[0]} x {grid[1]}"


TRIALS = (
    Trial(
        "shapes",
        _shapes,
        limit="one fp32 feature a patch",
        pitfall="a grid taken for square, or for the native one, loses or mixes up features at other sizes",
        effect="dense benchmarks use oblong crops and larger sizes: they stop, or score features of other places",
        mend="take the grid from the sides of the image, side // patch, and return [B, rows, columns, dim] in fp32",
    ),
    Trial(
        "odd-sizes",
        _odd_sizes,
        limit="refused, the nearest size named",
        pitfall="libraries cut off or pad what does not fill a patch, without a word",
        effect="pixels are lost, or a border is made up, and the map no longer lies on the image",
        mend="leave the check to the contract (Encoder.forward); set patch in the entry to the stride of the model",
    ),
    Trial(
        "bad-input",
        _bad_input,
        limit="all refused",
        pitfall="images of 0 to 255, or normalised ones, look like images to a network",
        effect="features are of no use, and benchmarks score them all the same, low",
        mend="leave the check to the contract (Encoder.forward)",
    ),
    Trial(
        "normalisation",
        _normalisation,
        limit=f"{_PIXELS:.0e}",
        pitfall="colours are normalised twice, never, or with the constants of another model",
        effect="every score drops, k-NN by tens of points at worst, while nothing fails",
        mend="normalise nowhere in the adapter, switch off what the model does itself, and correct mean and std",
    ),
)
"""In the order of the card."""
