"""Looking into an encoder during a pass: what its first layer takes, and what its blocks leave."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from evals.types import Encoder, Features


@dataclass(frozen=True, slots=True)
class Trace:
    """A pass, with what was seen inside."""

    features: Features
    first: tuple[str, Tensor] | None
    """Name and input of the first layer with a matrix of weights.

    None if there is none, or if it is a part of a block and takes no images (tokens may be as many numbers as pixels).
    """
    blocks: tuple[Tensor, ...] | None
    """What each block (stage) left, in order, as the library has it; None where no list of blocks was found."""


def trace(encoder: Encoder, images_B3YX: Float[Tensor, "B 3 Y X"], **ask: Any) -> Trace:
    """One pass of the encoder with hooks, which are removed again.

    The blocks are the list of `depth` modules that ran one after the other (of several the largest); of an encoder that
    runs its model twice, what they left the last time.
    """
    lists = {name: module for name, module in encoder.named_modules() if _may_be_blocks(module, encoder.depth)}
    left: dict[str, list[tuple[int, Tensor]]] = {name: [] for name in lists}
    taken: list[tuple[str, Tensor]] = []
    with contextlib.ExitStack() as hooks:
        for name, blocks in lists.items():
            for index, block in enumerate(blocks.children()):
                hooks.callback(block.register_forward_hook(_keep_output(left[name], index)).remove)
        for name, module in encoder.named_modules():
            if _has_matrix(module):
                hooks.callback(module.register_forward_pre_hook(_keep_input(taken, name)).remove)
        features = encoder(images_B3YX, **ask)
    ran = [name for name, outputs in left.items() if _in_order(outputs, encoder.depth)]
    chosen = max(ran, key=lambda name: _numbers(lists[name]), default=None)
    if taken and chosen is not None and taken[0][0].startswith(f"{chosen}.") and taken[0][1].shape != images_B3YX.shape:
        taken.clear()
    blocks_left = None if chosen is None else tuple(x for _, x in left[chosen][-encoder.depth :])
    return Trace(features, taken[0] if taken else None, blocks_left)


def as_map(left: Tensor, like: Float[Tensor, "B H W D"], prefix: int) -> Tensor | None:
    """What a block left, in the form of a map; None where it does not fit one. `prefix` tokens come first."""
    batch, rows, columns, channels = like.shape
    if left.ndim == 3 and left.shape == (batch, prefix + rows * columns, channels):
        return left[:, prefix:].reshape(like.shape)
    if left.ndim == 4 and left.shape == (batch, channels, rows, columns):
        return left.permute(0, 2, 3, 1)
    return left if left.shape == like.shape else None


def sequence(traced: Trace) -> Float[Tensor, "B T D"] | None:
    """The tokens that the last block left, before any final norm; None where there are no tokens to see."""
    last = traced.blocks[-1] if traced.blocks else None
    return last if last is not None and last.ndim == 3 else None


def _may_be_blocks(module: nn.Module, depth: int) -> bool:
    return isinstance(module, nn.ModuleList | nn.Sequential) and 0 < len(module) == depth


def _in_order(outputs: Sequence[tuple[int, Tensor]], depth: int) -> bool:
    """Whether all of them ran, from the first to the last, once or several times."""
    return bool(outputs) and [index for index, _ in outputs] == list(range(depth)) * (len(outputs) // depth)


def _has_matrix(module: nn.Module) -> bool:
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return weight is not None and weight.ndim >= 2


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _keep_output(kept: list[tuple[int, Tensor]], index: int) -> Callable[[nn.Module, object, object], None]:
    def hook(block: nn.Module, given: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            kept.append((index, first))

    return hook


def _keep_input(kept: list[tuple[str, Tensor]], name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
    def hook(module: nn.Module, given: tuple[object, ...]) -> None:
        if not kept and given and isinstance(given[0], Tensor):
            kept.append((name, given[0]))

    return hook
