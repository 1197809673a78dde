"""The state of a training, from which it goes on: weights that learn and moments, whole or absent, never unpickled.

A folder `step-<n>` with one safetensors file (one for each process where the model is sharded) and `state.json`, which
says of which work it is; written aside and renamed. Weights that do not learn are no part of it.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from evals.errors import ResultsError
from evals.files import write_atomic

MANIFEST = "state.json"
Named = Mapping[str, torch.nn.Parameter]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the state of one piece of work is kept, seen from one process."""

    folder: Path
    work: str
    """Everything that the work depends on."""
    rank: int = 0
    shards: int = 1
    """Processes that hold a part each; 1 where each holds the whole."""

    @property
    def file(self) -> str:
        """The file of this process."""
        return f"shard-{self.rank if self.shards > 1 else 0}-of-{self.shards}.safetensors"

    @property
    def writes(self) -> bool:
        """Whether this process has something to write."""
        return self.shards > 1 or self.rank == 0


def latest(place: Place) -> tuple[Path, int] | None:
    """The last whole state and its number of finished steps; None where there is none.

    Raises ResultsError for a state of other work, of another number of shards, or one that cannot be read.
    """
    found = sorted(path for path in place.folder.glob("step-*") if (path / MANIFEST).is_file())
    if not found:
        return None
    try:
        told = json.loads((found[-1] / MANIFEST).read_text())
        step, work, shards = int(told["step"]), str(told["work"]), int(told["shards"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{found[-1]} cannot be read ({error}); delete that folder to train anew.") from error
    if work != place.work:
        raise ResultsError(
            f"{place.folder} holds the training of something else: the recipe, the encoder, the language model, the "
            "data or a library changed. Train into another folder, put back what was changed, or delete it."
        )
    if shards != place.shards:
        raise ResultsError(
            f"{found[-1]} was saved in {shards} shards and this run has {place.shards}: "
            "go on with as many processes as before, or delete it to train anew."
        )
    return found[-1], step


def read(path: Path, place: Place, named: Named, optimiser: torch.optim.Optimizer) -> None:
    """Fill parameters and moments in place. Raises ResultsError where the file has others, or cannot be read."""
    try:
        saved = load_file(path / place.file)
    except (OSError, SafetensorError) as error:
        raise ResultsError(f"{path / place.file} cannot be read ({error}); delete {path} to train anew.") from error
    wanted = _flat(named, _moments(named, optimiser))
    shapes = {key: tuple(_local(value).shape) for key, value in wanted.items()}
    if shapes != {key: tuple(value.shape) for key, value in saved.items()}:
        raise ResultsError(f"{path} does not hold what learns in this run; delete it to train anew.")
    with torch.no_grad():
        for key, value in wanted.items():
            _local(value).copy_(saved[key])


def write(place: Place, step: int, named: Named, optimiser: torch.optim.Optimizer) -> Path:
    """Write this process' part of the state after `step` steps aside; `publish` makes it the last one.

    Raises ResultsError where it cannot be written.
    """
    aside = place.folder / f".step-{step:08d}.partial"
    state = {
        key: _local(value).detach().cpu().contiguous()
        for key, value in _flat(named, _moments(named, optimiser)).items()
    }
    try:
        aside.mkdir(parents=True, exist_ok=True)
        save_file(state, aside / place.file)
        with (aside / place.file).open("rb+") as file:
            os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise ResultsError(
            f"the state of the training cannot be written to {place.folder} ({error}); the last one stays. "
            "Free some space, or choose another folder."
        ) from error
    return aside


def publish(place: Place, step: int, aside: Path) -> None:
    """Make what every process wrote the last state, and remove those before. One process calls it."""
    told = {"step": step, "work": place.work, "shards": place.shards}
    write_atomic(aside / MANIFEST, json.dumps(told, indent=1).encode())
    final = place.folder / f"step-{step:08d}"
    try:
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
    except OSError as error:
        raise ResultsError(f"{aside} cannot be renamed to {final.name}: {error.strerror or error}.") from error
    for old in place.folder.glob("*step-*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def _moments(named: Named, optimiser: torch.optim.Optimizer) -> Mapping[Tensor, dict[str, Tensor]]:
    """The moments of AdamW, made where no step was taken yet (a part of the model that no sample used, say)."""
    for parameter in named.values():
        state = optimiser.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    return optimiser.state


def _flat(named: Named, moments: Mapping[Tensor, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Every tensor of the state by name."""
    flat: dict[str, Tensor] = {}
    for name, parameter in named.items():
        flat[f"weight.{name}"] = parameter
        flat |= {f"{kind}.{name}": value for kind, value in moments[parameter].items()}
    return flat


def _local(tensor: Tensor) -> Tensor:
    """The part that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
