"""Weights that follow from the names of the parameters, so that any two builds of one architecture get the same ones.

No file is needed, nothing is drawn from a global stream, and another process or library finds the same values again.
"""

import contextlib
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import torch
from torch import Tensor, nn

from evals.encoders.entry import EncoderEntry
from evals.encoders.load import load
from evals.files import DigestMemo
from evals.types import Encoder

CUT = 2
"""Blocks that are left of a model that is too large to be run in full."""
_FULL = 100_000_000
"""Parameters of the image side up to which a model is run in full."""
_BLOCKS = frozenset({"blocks", "layer", "layers", "resblocks"})
"""What the libraries call the blocks of a transformer, or of a stage."""
_STATISTICS = ("running_mean", "running_var")
_LAYER_SCALE = re.compile(r"(^|\.)(gamma(_[12])?|lambda1)$")
_WRAPPED = re.compile(r"^(model|trunk)\.")
_UNUSED = re.compile(r"(^|\.)(text|token_embedding)\.")
"""Parameters that no image passes through; they stay without memory."""


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform noise of mean 0 and variance 1, the same bits on every machine: no logarithm or cosine takes part."""
    seed = int.from_bytes(hashlib.sha256(f"{name} {tuple(shape)}".encode()).digest()[:4], "big")
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).sub_(0.5).mul_(math.sqrt(12))


def value(name: str, shape: tuple[int, ...]) -> Tensor:
    """The value of a parameter or running statistic of that name, scaled so that deep layers stay of order 1.

    Matrices have a deviation of 1 / sqrt(inputs), and norms are near 1. Layer scales lie in 0.1 to 1 (and not at the
    1e-5 of a fresh model, under which a wrong block goes unseen), those of maps, which no norm rescales, in 0.1 to 0.3.
    Variances lie in 1 to 2, for branches of convolutions add up.
    """
    x, last = noise(name, shape), name.rpartition(".")[2]
    if _LAYER_SCALE.search(name):
        return _between(0.1, 1.0 if len(shape) == 1 else 0.3, x)
    if last == "running_var":
        return _between(1.0, 2.0, x)
    if last == "running_mean" or last.endswith("bias"):
        return x.mul_(0.02)
    if last.endswith("weight"):
        return x.mul_(0.1).add_(1) if len(shape) < 2 else x.div_(math.sqrt(x.numel() / shape[0]))
    return x.mul_(0.3)


def library_name(name: str) -> str:
    """The name within the library's model, so that what an adapter calls that model does not matter."""
    return _WRAPPED.sub("", name)


def fill(module: nn.Module) -> nn.Module:
    """Put the named values into every parameter and running statistic, in place, on the CPU; returns the module.

    A parameter on the meta device gets memory. One that stands under several names keeps its first.
    """
    done: dict[int, nn.Parameter] = {}
    for prefix, part in module.named_modules():
        for key, old in part._parameters.items():
            name = library_name(f"{prefix}.{key}")
            if old is None or _UNUSED.search(name):
                continue
            if id(old) not in done:
                done[id(old)] = nn.Parameter(value(name, tuple(old.shape)), requires_grad=False)
            part._parameters[key] = done[id(old)]
        for key, buffer in part._buffers.items():
            if buffer is not None and key.startswith(_STATISTICS):
                part._buffers[key] = value(library_name(f"{prefix}.{key}"), tuple(buffer.shape))
    return module


def unfilled(entry: EncoderEntry) -> Encoder:
    """The encoder of an entry, with parameters on the meta device and true buffers (rotary tables, mean, deviation)."""
    with weightless():
        return load(entry if entry.weights == "none" else replace(entry, weights="random"), DigestMemo(None))


def prepare(encoder: Encoder, *, cut: bool | None = None) -> Encoder:
    """Give an encoder named weights, after leaving two blocks (of each stage) of it if `cut`; returns the encoder.

    None: cut where it has more than 100 million parameters.
    """
    if (encoder.card.params or 0) > _FULL if cut is None else cut:
        shorten(encoder)
    fill(encoder)
    return encoder


def named(entry: EncoderEntry, *, cut: bool | None = None) -> Encoder:
    """The encoder of an entry with named weights, cut as in `prepare`."""
    return prepare(unfilled(entry), cut=cut)


def shorten(encoder: Encoder) -> None:
    """Leave the first two blocks of every row of blocks, and let the encoder and its model know their depth."""
    depth = encoder.depth
    for name, part in encoder.named_modules():
        if isinstance(part, nn.ModuleList | nn.Sequential) and name.rpartition(".")[2] in _BLOCKS and len(part) > CUT:
            if len(part) == depth:
                encoder.depth, encoder.rope_blocks = CUT, min(encoder.rope_blocks, CUT)
            del part[CUT:]
    for part in encoder.modules():
        # Models of transformers keep their sizes, and some read them while they run.
        if getattr(getattr(part, "config", None), "num_hidden_layers", None) == depth:
            part.config.num_hidden_layers = encoder.depth


def _between(low: float, high: float, x: Tensor) -> Tensor:
    return x.div_(math.sqrt(12)).add_(0.5).mul_(high - low).add_(low)


@contextlib.contextmanager
def weightless() -> Iterator[None]:
    """Parameters, and the statistics of batch norms, go to the meta device as soon as a module takes them.

    Every other buffer is computed as ever: rotary tables and the like are not weights. A module that runs while a model
    is built (a stem that is asked for its size) runs on the meta device too.
    """
    parameter, buffer, call = nn.Module.register_parameter, nn.Module.register_buffer, nn.Module.__call__

    def take_parameter(module: nn.Module, name: str, value: nn.Parameter | None) -> None:
        if value is not None and not value.is_meta:
            value = nn.Parameter(value.to("meta"), requires_grad=value.requires_grad)
        parameter(module, name, value)

    def take_buffer(module: nn.Module, name: str, value: Tensor | None, persistent: bool = True) -> None:
        if value is not None and name.startswith(_STATISTICS):
            value = value.to("meta")
        buffer(module, name, value, persistent)

    def run(module: nn.Module, *inputs: object) -> object:
        return call(module, *(x.to("meta") if isinstance(x, Tensor) else x for x in inputs))

    with (
        mock.patch.object(nn.Module, "register_parameter", take_parameter),
        mock.patch.object(nn.Module, "register_buffer", take_buffer),
        mock.patch.object(nn.Module, "__call__", run),
    ):
        yield
