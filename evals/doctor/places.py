"""Trials about places: that a feature belongs to its patch, its layer, and is no prefix token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evals.doctor.check import Finding, Trial, judged
from evals.doctor.subject import Grid, Subject
from evals.doctor.trace import Trace, as_map, sequence, trace
from evals.types import ConvEncoder

_HITS = 0.8
"""Least share of bright patches that are found where they are, in a map of tokens."""
_FOLLOWS = 0.7
"""Least correlation of the centre of change with the place of a bright patch, in a map of convolutions."""
_CORNERS = 3
_CELLS = 15
"""Places tried on a large grid."""


def _patch_order(subject: Subject) -> Finding:
    rows, columns = subject.grid
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    tried = cells[:: -(-len(cells) // _CELLS)]
    change_NHW, places_N2 = _changes(subject, tried), torch.tensor(tried)
    if isinstance(subject.encoder, ConvEncoder):
        centres_N2 = _centres(change_NHW)
        follows = [_correlation(centres_N2[:, axis], places_N2[:, axis]) for axis in (0, 1)]
        told = f"changes follow a bright patch by rows {follows[0]:.2f}, by columns {follows[1]:.2f}"
        return judged(all(follow >= _FOLLOWS for follow in follows), told)
    hits = _hits(change_NHW, tried)
    told = f"{hits} of {len(tried)} bright patches are seen in their place"
    if hits >= _HITS * len(tried) or not _in_sequence(subject):
        return judged(hits >= _HITS * len(tried), told)
    # The map is the sequence of the last block, row by row. Where a patch is still in its place in block 0, it is the
    # model that mixes places, and not the adapter.
    first = _hits(_changes(subject, tried, layer=0), tried)
    told += f", in block 0 {first}"
    return Finding("note", f"{told}: features are not local") if first >= _HITS * len(tried) else judged(False, told)


def _prefix(subject: Subject) -> Finding:
    if isinstance(subject.encoder, ConvEncoder):
        return Finding("skip", "convolutional maps have no tokens before the patches")
    rows, columns = subject.grid
    corners = [(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)]
    hits = _hits(_changes(subject, corners), corners)
    told = f"{hits} of 4 corners are in their place"
    count, traced = len(subject.encoder.structure.prefix), trace(subject.encoder, subject.noise(), norm=False)
    tokens = sequence(traced)
    if tokens is None:
        return judged(hits >= _CORNERS, told)
    if wrong := _against_sequence(tokens, traced.features.patches_BHWD, count):
        return Finding("fail", f"{told}; {wrong}")
    told += f"; {count} of {tokens.shape[1]} tokens come before the patches"
    return Finding("pass" if hits >= _CORNERS else "note", told)


def _layers(subject: Subject) -> Finding:
    encoder, depth, image = subject.encoder, subject.encoder.depth, subject.noise()
    if not depth:
        return Finding("skip", "it has no layers")
    wrong = []
    normed = encoder(image, layers=(depth - 1, 0, -1))
    if not (torch.equal(normed.layers[0], normed.patches_BHWD) and torch.equal(normed.layers[2], normed.patches_BHWD)):
        wrong.append(f"layers -1 and {depth - 1} are not the last map")
    if not torch.equal(normed.layers[1], encoder(image, layers=(0,)).layers[0]):
        wrong.append("layers come in another order than they were asked for")
    traced = trace(encoder, image, layers=range(depth), norm=False)
    if not torch.equal(traced.features.layers[-1], traced.features.patches_BHWD):
        wrong.append("without the norm, the last layer is not the last map")
    wrong += [f"layer {index} is not what block {index} left" for index in _misplaced(subject, traced)]
    if wrong or traced.blocks is not None:
        return judged(not wrong, "; ".join(wrong[:4]) or f"{depth} layers, each what its block left")
    return Finding("note", f"{depth} layers in order; no list of {depth} blocks was found to compare them with")


def _misplaced(subject: Subject, traced: Trace) -> list[int]:
    """Layers that differ from the block of their index; what a last stage still goes through is its own affair."""
    wrong, prefix = [], len(subject.encoder.structure.prefix)
    for index, (layer, left) in enumerate(zip(traced.features.layers, traced.blocks or (), strict=False)):
        seen = as_map(left, layer, prefix)
        last = index == subject.encoder.depth - 1
        if (seen is None and not last) or (seen is not None and not torch.equal(seen.float(), layer)):
            wrong.append(index)
    return wrong


def _changes(subject: Subject, cells: list[Grid], layer: int = -1) -> Float[Tensor, "N H W"]:
    """By how much of its length each patch feature of a blank image changes when one cell alone becomes bright.

    What changes wherever that cell is (tokens that serve as scratch space) is taken out. `layer` -1 is the last map.
    """
    patch, blank, spot = subject.encoder.spec.patch, subject.grey(), subject.noise(grid=(1, 1))
    images = blank.repeat(len(cells), 1, 1, 1)
    for image, (row, column) in zip(images, cells, strict=True):
        image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = spot[0]
    asked = () if layer == -1 else (layer,)
    before, after = (
        (*features.layers, features.patches_BHWD)[0]
        for features in (subject.encoder(pixels, layers=asked) for pixels in (blank, images))
    )
    change_NHW: Tensor = ((after - before).norm(dim=-1) / before.norm(dim=-1).clamp_min(1e-12)).cpu()
    return change_NHW - change_NHW.mean(dim=0)


def _hits(change_NHW: Float[Tensor, "N H W"], cells: list[Grid]) -> int:
    """How many cells are where the map changes most."""
    columns = change_NHW.shape[2]
    wanted = torch.tensor([row * columns + column for row, column in cells])
    return int((change_NHW.flatten(1).argmax(dim=1) == wanted).sum())


def _centres(change_NHW: Float[Tensor, "N H W"]) -> Float[Tensor, "N 2"]:
    """Row and column of the centre of what became more; maps of convolutions are blurred by what they look over."""
    mass_NHW = change_NHW.clamp_min(0)
    mass_NHW = mass_NHW / mass_NHW.sum(dim=(1, 2), keepdim=True)
    across = [mass_NHW.sum(dim=2), mass_NHW.sum(dim=1)]
    return torch.stack([part @ torch.arange(part.shape[1], dtype=part.dtype) for part in across], dim=1)


def _correlation(one: Float[Tensor, " N"], other: Int[Tensor, " N"]) -> float:
    return float(torch.corrcoef(torch.stack([one, other.to(one)]))[0, 1])


def _in_sequence(subject: Subject) -> bool:
    """Whether the map, before the norm, was seen to be the tokens of the last block after the prefix."""
    traced = trace(subject.encoder, subject.noise(), norm=False)
    tokens, count = sequence(traced), len(subject.encoder.structure.prefix)
    return tokens is not None and not _against_sequence(tokens, traced.features.patches_BHWD, count)


def _against_sequence(tokens_BTD: Tensor, patches_BHWD: Tensor, count: int) -> str:
    """What is wrong with a map for a sequence that begins with `count` other tokens; empty if nothing is."""
    rows, columns = patches_BHWD.shape[1:3]
    if tokens_BTD.shape[1] != count + rows * columns:
        return f"{tokens_BTD.shape[1]} tokens are not {count} and {rows} x {columns} patches"
    same = as_map(tokens_BTD, patches_BHWD, count)
    if same is None or not torch.equal(same.float(), patches_BHWD):
        return f"the map is not the tokens from number {count} on, row by row"
    flat_ND = patches_BHWD.flatten(0, 2)
    among = bool((flat_ND[:, None] == tokens_BTD[0, :count].float()).all(dim=-1).any())
    return "a prefix token is among the patches" if among else ""


TRIALS = (
    Trial(
        "patch-order",
        _patch_order,
        limit=f"{_HITS:.0%}; of convolutions, {_FOLLOWS}",
        pitfall="the grid is transposed, mirrored or shifted",
        effect="segmentation, depth and key points are scored on features of other places; k-NN shows nothing",
        mend="reshape tokens row by row to [B, rows, columns, D]; convolutional maps go from [B, D, H, W] by permute",
    ),
    Trial(
        "prefix",
        _prefix,
        limit=f"{_CORNERS} corners, the prefix as named",
        pitfall="class or register tokens are counted as patches, or patches as prefix",
        effect="every feature lies one or more patches aside, and some belong to no place at all",
        mend="name every token before the patches in `prefix`, in order, registers included",
    ),
    Trial(
        "layers",
        _layers,
        limit="the same bits",
        pitfall="indices count the stem, count from the other end, or leave out the last block",
        effect="heads on several layers, and language models on the last but one, get others than they name",
        mend="index blocks from 0 to depth - 1, leaving the stem out, and return them in the order of ask.layers",
    ),
)
"""In the order of the card."""
