"""Reading checkpoints safely and putting them into a model strictly."""

import contextlib
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from evals.encoders.entry import EncoderEntry
from evals.errors import UsageError, WeightsError
from evals.record import EncoderCard
from evals.types import ImageSpec

_SHOWN = 5
"""Differing keys of each kind that an error lists."""
_BROKEN = (
    SafetensorError, OSError, RuntimeError, ValueError, EOFError, LookupError, AssertionError, AttributeError,
    TypeError, struct.error,
)  # fmt: skip
"""What torch.load and safetensors raise for damaged files, as found by damaging some at random."""
_LAYER_SCALES = re.compile(r"(^|\.)(gamma(_[12])?|ls[12]\.gamma)$")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Modules built inside get the architecture's own initialisation, drawn from `seed` on the CPU.

    The global stream that libraries draw from is put back afterwards. The initialisation is kept as it is: timm starts
    layer scales at 1e-5 or 1e-6, so the deep blocks of such a random model change their input little.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a .safetensors, or of a .pt/.pth/.bin that holds nothing but tensors.

    A state dict under a single wrapping key (`model`, `state_dict`, ...) is taken out. Raises WeightsError for a
    file that is broken, or that would run code when it is read; such code is never run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Remarks on pickle protocols; whether the file is read or refused does not depend on them.
            warnings.simplefilter("ignore")
            raw = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it is damaged or holds more than tensors ({_refused(error)}), and reading it would "
            "run code. If you trust its origin, load it once in a separate environment and save the bare state dict "
            "with safetensors.torch.save_file, then pass that .safetensors file."
        ) from error
    except _BROKEN as error:
        raise WeightsError(
            f"{path} cannot be read as weights: {_unread(error)}. Expected .safetensors, or a .pt/.pth file "
            "written by torch.save of a state dict; fetch the file again if it was cut short."
        ) from error
    return _tensors_of(raw, path)


def load_strict(model: nn.Module, tensors: Mapping[str, Tensor], *, what: str, ignore: Sequence[str] = ()) -> None:
    """Fill every persistent tensor of `model`, cast to its dtype; keys that start with one of `ignore` are left out.

    Raises WeightsError listing the first keys that are missing, unexpected, or of another shape.
    """
    own = model.state_dict()
    given = {key: value for key, value in tensors.items() if not key.startswith(tuple(ignore))}
    missing = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    shapes = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in given.items()
        if key in own and value.shape != own[key].shape
    ]
    if missing or unexpected or shapes:
        raise WeightsError(f"{what} does not fit the architecture: {differences(missing, unexpected, shapes)}")
    model.load_state_dict(given)


def differences(missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str] = ()) -> str:
    """The first keys of each kind, with the number of the rest."""
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(f"{kind}: {_some(keys)}" for kind, keys in kinds if keys) + "."


def looks_fresh(model: nn.Module) -> str | None:
    """Why the weights look as if they had never been trained; None where they do not.

    After a training step no LayerNorm is exactly 1 and 0 everywhere, and no layer scale has one value only.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm) and m.weight is not None]
    if norms and all(_is_identity(norm) for norm in norms):
        return "every LayerNorm has weights of exactly 1 and biases of exactly 0"
    scales = [p for name, p in model.named_parameters() if _LAYER_SCALES.search(name)]
    if scales and all(bool((scale == scale.reshape(-1)[0]).all()) for scale in scales):
        return "every layer scale still has a single value"
    return None


def image_spec(entry: EncoderEntry) -> ImageSpec:
    """What the entry says of images."""
    return ImageSpec(entry.size, entry.patch, entry.interpolation, entry.antialias, entry.resize, entry.mean, entry.std)


def complete(entry: EncoderEntry, card: EncoderCard, vision: nn.Module, *, dim: int, depth: int) -> EncoderCard:
    """The card with what only the built model tells. Raises UsageError where the entry says otherwise."""
    for key, said, built in (("dim", entry.dim, dim), ("depth", entry.depth, depth)):
        if said is not None and said != built:
            raise UsageError(f"the entry of encoder {entry.name!r} says {key} {said}; {entry.model} has {built}.")
    return replace(card, dim=dim, depth=depth, params=sum(p.numel() for p in vision.parameters()))


def _tensors_of(raw: object, path: Path) -> dict[str, Tensor]:
    while isinstance(raw, dict):
        if raw and all(isinstance(value, Tensor) for value in raw.values()):
            return {str(key): value for key, value in raw.items()}
        inner = [raw[key] for key in ("model", "state_dict", "module", "teacher") if isinstance(raw.get(key), dict)]
        if len(inner) != 1:
            break
        raw = inner[0]
    raise WeightsError(f"{path} holds no state dict: expected tensors by name, at the top or under `model`.")


def _is_identity(norm: nn.LayerNorm) -> bool:
    return bool((norm.weight == 1).all()) and (norm.bias is None or bool((norm.bias == 0).all()))


def _some(keys: Sequence[str]) -> str:
    rest = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + rest


def _refused(error: pickle.UnpicklingError) -> str:
    """What torch stumbled over, without its advice to read the file unsafely."""
    told = re.search(r"(GLOBAL \S+)|WeightsUnpickler error: ([^\n]+)", str(error))
    return (told[1] or told[2]) if told else "no pickle of a state dict"


def _unread(error: Exception) -> str:
    """What the file is not; torch's own words for a file of another kind are opcodes and offsets."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, SafetensorError):
        return f"it is no whole safetensors file ({error})"
    return "it is neither a safetensors file nor a state dict that torch can read"
