"""From a pickled release to safetensors, offline: a list says what may be read, and nothing of the file is run."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from evals.encoders.fitting import fitting
from evals.encoders.weights import Global, state_dict, unpickle
from evals.errors import UsageError, WeightsError, unknown
from evals.files import sha256_file, write_atomic

_WRAPPERS = ("module.", "_orig_mod.")
"""What distributed and compiled training put before keys."""


def _arguments() -> tuple[Global, ...]:
    """What training arguments are made of: a Namespace of plain values, and of numpy's numbers and arrays.

    numpy 2 has renamed a module; files name it either way.
    """
    makers: Mapping[str, Any] = {
        "scalar": np.float64(0).__reduce__()[0],
        "_reconstruct": np.empty(0).__reduce__()[0],
    }
    places = [f"numpy.{module}.multiarray" for module in ("core", "_core")]
    named = [(maker, f"{place}.{word}") for word, maker in makers.items() for place in places]
    kinds = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "b1")]
    return (argparse.Namespace, np.dtype, np.ndarray, *named, *kinds)


@dataclass(frozen=True, slots=True)
class Release:
    """How a family publishes its weights."""

    allowed: tuple[Global, ...] = ()
    """What its files hold beside tensors and plain values."""
    under: tuple[str, ...] = ()
    """Keys under which the state dict lies; the first that is there counts."""
    kept: tuple[str, ...] = ("",)
    """Beginnings of the keys that are wanted; the rest are projectors to the teachers."""


LAYOUTS: Mapping[str, Release] = {
    "dune": Release(_arguments(), ("model",), ("encoder.",)),
    "unic": Release(_arguments(), ("model",), ("encoder.",)),
    "radio": Release(_arguments(), ("state_dict_ema", "state_dict")),
    "plain": Release(),
}
"""Training arguments lie beside the state dict of DUNE, UNIC and RADIO; a plain file holds tensors alone."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a file."""

    target: Path
    kept: Mapping[str, Tensor]
    left_out: Mapping[str, int]
    """Beginnings of keys -> how many tensors; 0: no tensors at all."""
    entries: Sequence[str]
    """Encoders that take what was written, by names and shapes."""

    def lines(self) -> list[str]:
        """For people."""
        values = sum(tensor.numel() for tensor in self.kept.values())
        dtypes = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in self.kept.values()}))
        left = [f"{start} ({count} tensors)" if count else start for start, count in self.left_out.items()]
        use = " or ".join(self.entries) or "NAME"
        return [
            f"kept: {len(self.kept)} tensors, {values / 1e6:.1f} million values, {dtypes}",
            f"left out: {', '.join(left) or 'nothing'}",
            f"wrote {self.target}",
            f"to use it: eupe-eval run --encoder {use} --weights {self.target}"
            + ("" if self.entries else " (by names and shapes it fits no entry of the project)"),
        ]


def convert(source: Path, target: Path, layout: str, *, overwrite: bool = False) -> Conversion:
    """Write the encoder's tensors of a pickled file as safetensors: names without wrappers, values and dtypes as found.

    The header tells the name and sha256 of the source, the layout, and how many tensors were kept and left out. Raises
    UsageError for a layout, source or target that cannot be used; WeightsError, naming it, for a file that holds more
    than the layout allows, or no state dict of that layout; ResultsError where it cannot be written.
    """
    _check(source, target, layout, overwrite=overwrite)
    release = LAYOUTS[layout]
    others = ", ".join(name for name in LAYOUTS if name != layout)
    raw = unpickle(
        source,
        release.allowed,
        f"Layout {layout}: plain is for tensors alone; dune, unic and radio also let training arguments (an "
        "argparse.Namespace of plain values and numpy's numbers) be read. What holds more is not converted.",
    )
    within = raw if isinstance(raw, dict) else {}
    inner = next((within[key] for key in release.under if key in within), raw)
    tensors = {_bare(key): tensor for key, tensor in state_dict(inner, source).items()}
    kept = {key: tensor for key, tensor in tensors.items() if key.startswith(release.kept)}
    if not kept:
        raise WeightsError(
            f"{source} is no release of the layout {layout}: it has no keys {'*, '.join(release.kept)}*; "
            f"it has {', '.join(list(tensors)[:5])}. Other layouts: {others}."
        )
    left = dict(Counter(f"{key.split('.')[0]}.*" for key in tensors if key not in kept))
    if inner is not raw:
        left |= {str(key): 0 for key in within if within[key] is not inner}
    written = _independent(kept, source)
    about = {"source": source.name, "source_sha256": sha256_file(source), "layout": layout, "format": "pt"}
    about |= {"kept": str(len(kept)), "left_out": str(len(tensors) - len(kept))}
    write_atomic(target, _saved(written, about, source))
    return Conversion(target, written, left, fitting(target, source=layout))


def _check(source: Path, target: Path, layout: str, *, overwrite: bool) -> None:
    if layout not in LAYOUTS:
        raise unknown("layout", layout, list(LAYOUTS))
    if not source.is_file():
        raise UsageError(f"there is no file {str(source)!r} to convert.")
    if source.suffix == ".safetensors":
        raise UsageError(f"{source} is a safetensors file: it needs no conversion, pass it to --weights.")
    if target.suffix != ".safetensors":
        raise UsageError(f"the output {str(target)!r} must end in .safetensors, by which it is known.")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists: add --overwrite to replace it, or name another.")


def _bare(key: str) -> str:
    """The key without what wrappers of the model put before it."""
    while key.startswith(_WRAPPERS):
        key = key.partition(".")[2]
    return key


def _independent(tensors: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Dense tensors that share no memory, as the format has it. Raises WeightsError naming any other kind."""
    seen: set[int] = set()
    independent = {}
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise WeightsError(f"{source}: {key} is sparse or quantised; this suite runs dense weights.")
        storage = tensor.untyped_storage()
        alone = storage.data_ptr() not in seen and storage.nbytes() == tensor.nbytes and tensor.is_contiguous()
        seen.add(storage.data_ptr())
        independent[key] = tensor.detach() if alone else tensor.detach().clone(memory_format=torch.contiguous_format)
    return independent


def _saved(tensors: Mapping[str, Tensor], about: Mapping[str, str], source: Path) -> bytes:
    try:
        return save(dict(tensors), dict(about))
    except (SafetensorError, LookupError) as error:
        raise WeightsError(f"{source} holds numbers of a kind that safetensors does not have: {error}.") from error
