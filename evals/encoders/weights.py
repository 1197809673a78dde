"""Reading checkpoints safely and putting them into a model strictly."""

import contextlib
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

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
_NORMS = re.compile(r"(Layer|RMS|Rms)Norm")
_TABLES = re.compile(r"(^|[._])(pos_embed|position_embeddings?|positional_embedding|(cls|class)_(token|embedding))$")

_SAFE_WAY = (
    "A release of DUNE, UNIC or RADIO: `eupe-eval convert {path} {to} --layout dune` (or unic, radio) reads it without "
    "running anything; pass what it writes. Any other file: if you trust its origin, load it once in a separate "
    "environment and save the bare state dict with safetensors.torch.save_file, then pass that .safetensors file."
)

_FILLS = frozenset({Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_,
                    Tensor.fill_, Tensor.zero_})  # fmt: skip
"""What initialisations consist of."""

Global = Callable[..., Any] | tuple[Callable[..., Any], str]
"""What a pickle may name, where it is found under another name than its own with that name."""


class MisfitError(WeightsError):
    """Tensors of another size or family than the architecture."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Modules built inside get the architecture's own initialisation, drawn from `seed` on the CPU.

    The global stream that libraries draw from is put back afterwards. The initialisation is kept as it is: timm starts
    layer scales at 1e-5 or 1e-6, so the deep blocks of such a random model change their input little.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextlib.contextmanager
def sketching() -> Iterator[None]:
    """Modules built inside have names and shapes alone: no values, no memory, no time for an initialisation."""
    with torch.device("meta"), _Unfilled():
        yield


def read_tensors(path: Path, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Name -> tensor of a .safetensors, or of a .pt/.pth/.bin that holds nothing but tensors.

    A state dict under a single wrapping key (`model`, `state_dict`, ...) is taken out. Keys that start with one of
    `ignore` are left out. Where the meta device is the default, so are the values: names and shapes alone are read.
    Raises WeightsError for a file that is broken, or that would run code when it is read; such code is never run.
    """
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    else:
        tensors = state_dict(unpickle(path, (), _SAFE_WAY.format(path=path, to=path.with_suffix(".safetensors"))), path)
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(tuple(ignore))}


def unpickle(path: Path, allowed: Sequence[Global], advice: str) -> object:
    """What a file of torch.save holds: tensors, plain values, and what `allowed` names.

    Raises WeightsError for a file that is broken, and, ending in `advice`, for one that names anything else.
    """
    sketch = _shapes_alone()
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            # Remarks on pickle protocols; whether the file is read or refused does not depend on them.
            warnings.simplefilter("ignore")
            return torch.load(
                path,
                weights_only=True,
                map_location="meta" if sketch else "cpu",
                mmap=sketch and zipfile.is_zipfile(path),
            )
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it is damaged or holds more than tensors ({_refused(error)}), and reading it would "
            f"run code. {advice}"
        ) from error
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def state_dict(raw: object, path: Path) -> dict[str, Tensor]:
    """The tensors by name in what a file holds. Raises WeightsError where there are none."""
    while isinstance(raw, dict):
        if raw and all(isinstance(value, Tensor) for value in raw.values()):
            return {str(key): value for key, value in raw.items()}
        inner = [raw[key] for key in ("model", "state_dict", "module", "teacher") if isinstance(raw.get(key), dict)]
        if len(inner) != 1:
            break
        raw = inner[0]
    raise WeightsError(f"{path} holds no state dict: expected tensors by name, at the top or under `model`.")


def load_strict(model: nn.Module, tensors: Mapping[str, Tensor], *, what: str, ignore: Sequence[str] = ()) -> None:
    """Fill every persistent tensor of `model`, cast to its dtype; keys that start with one of `ignore` are left out.

    Raises MisfitError listing the first keys that are missing, unexpected, or of another shape.
    """
    given = {key: value for key, value in tensors.items() if not key.startswith(tuple(ignore))}
    check_fit({key: value.shape for key, value in model.state_dict().items()}, given, what=what)
    model.load_state_dict(given)


def check_fit(wanted: Mapping[str, Sequence[int]], given: Mapping[str, Tensor], *, what: str) -> None:
    """Raises MisfitError listing the first keys that are missing, unexpected, or of another shape."""
    missing = [key for key in wanted if key not in given]
    unexpected = [key for key in given if key not in wanted]
    shapes = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(shape)}"
        for key, shape in wanted.items()
        if key in given and tuple(given[key].shape) != tuple(shape)
    ]
    if missing or unexpected or shapes:
        raise MisfitError(f"{what} does not fit the architecture: {differences(missing, unexpected, shapes)}")


def differences(missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str] = ()) -> str:
    """The first keys of each kind, with the number of the rest."""
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(f"{kind}: {_some(keys)}" for kind, keys in kinds if keys) + "."


def looks_fresh(model: nn.Module) -> str | None:
    """Why the weights look as if they had never been trained; None where they do not.

    After a training step no norm over channels is exactly 1 and 0 everywhere, no layer scale has one value only, batch
    norms have seen batches, and a position table or class token that starts at 0 is so no longer.
    """
    norms = [m for m in model.modules() if _NORMS.search(type(m).__name__) and _affine(m)]
    if norms and all(_is_identity(norm) for norm in norms):
        return "every norm of the layers has weights of exactly 1 and biases of exactly 0"
    scales = [p for name, p in model.named_parameters() if _LAYER_SCALES.search(name)]
    if scales and all(bool((scale == scale.reshape(-1)[0]).all()) for scale in scales):
        return "every layer scale still has a single value"
    batch_norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if batch_norms and not any(_has_seen(norm) for norm in batch_norms):
        return "no batch norm has seen a batch"
    tables = [p for name, p in model.named_parameters() if _TABLES.search(name)]
    if tables and not any(bool(table.any()) for table in tables):
        return "every position table and class token is exactly 0"
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


class _Unfilled(TorchFunctionMode):
    """What would fill a tensor that holds no values leaves it: torch would work through every shape in Python."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch for each of its functions."""
        return args[0] if func in _FILLS and args[0].is_meta else func(*args, **(kwargs or {}))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        if not _shapes_alone():
            return load_file(path)
        with safe_open(path, framework="pt") as file:
            return {key: torch.empty(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no dict
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _shapes_alone() -> bool:
    return torch.get_default_device().type == "meta"


def _affine(norm: nn.Module) -> bool:
    return isinstance(getattr(norm, "weight", None), Tensor)


def _is_identity(norm: Any) -> bool:
    bias = getattr(norm, "bias", None)
    return bool((norm.weight == 1).all()) and (bias is None or bool((bias == 0).all()))


def _has_seen(norm: _BatchNorm) -> bool:
    """Whether its statistics are any others than those it starts with."""
    means, variances, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert means is not None and variances is not None, "statistics are kept, or not, together"
    return bool(means.any()) or bool((variances != 1).any()) or (batches is not None and bool(batches))


def _some(keys: Sequence[str]) -> str:
    rest = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + rest


def _refused(error: pickle.UnpicklingError) -> str:
    """What torch stumbled over, without its advice to read the file unsafely."""
    told = re.search(r"GLOBAL \S+", str(error)) or re.search(r"(?<=WeightsUnpickler error: )[^\n]+", str(error))
    return told[0] if told else "no pickle of a state dict"


def _unreadable(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} cannot be read as weights: {_unread(error)}. Expected .safetensors, or a .pt/.pth file "
        "written by torch.save of a state dict; fetch the file again if it was cut short."
    )


def _unread(error: Exception) -> str:
    """What the file is not; torch's own words for a file of another kind are opcodes and offsets."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, SafetensorError):
        return f"it is no whole safetensors file ({error})"
    return "it is neither a safetensors file nor a state dict that torch can read"
