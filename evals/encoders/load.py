"""From an entry to a frozen encoder, to its blueprint, and to the digest that proves it stayed so."""

import hashlib
import warnings
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from evals.encoders.card import card
from evals.encoders.entry import EncoderEntry
from evals.encoders.fitting import advice
from evals.encoders.registry import adapter
from evals.encoders.weights import MisfitError, looks_fresh, sketching
from evals.errors import WeightsError
from evals.files import DigestMemo
from evals.types import Encoder


class FreshWeightsWarning(UserWarning):
    """Weights that were to be loaded look as if they had never been trained."""


def load(entry: EncoderEntry, digests: DigestMemo) -> Encoder:
    """Build the encoder of an entry on the CPU, in fp32, frozen, with its weights.

    Weights that look freshly initialised give a FreshWeightsWarning, and the card says `random`. Raises
    UnavailableError for weights or a library that are not here, WeightsError for a file that does not fit, naming the
    entries that it would, or cannot be read safely.
    """
    try:
        encoder = _build(entry, digests)
    except MisfitError as error:
        raise WeightsError(f"{error}{advice(entry)}") from error
    if entry.weights not in ("random", "none") and (why := looks_fresh(encoder)) is not None:
        warnings.warn(
            f"the weights of {entry.name} look as if they had never been trained: {why}. "
            "The record is stamped random; check that this is the right file.",
            FreshWeightsWarning,
            stacklevel=2,
        )
        encoder.card = replace(encoder.card, random=True)
    return encoder


def blueprint(entry: EncoderEntry) -> Encoder:
    """The encoder of an entry on the meta device: every module and shape, no weights and no memory.

    Raises UnavailableError for a library that is not here, UsageError for an entry that does not fit its model.
    """
    random = entry if entry.weights == "none" else replace(entry, weights="random")
    with sketching():
        return _build(random, DigestMemo(None))


def digest(module: nn.Module) -> str:
    """sha256 of every parameter and buffer, non-persistent ones included: names, dtypes, shapes and bytes."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _build(entry: EncoderEntry, digests: DigestMemo) -> Encoder:
    made = cast("Encoder", adapter(entry.source).build(entry, card(entry, digests)))
    return made.float().requires_grad_(False).eval()
