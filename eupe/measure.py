"""Statistics of the teachers' outputs, measured on the training path before training, and their file."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from eupe.augment import shrink
from eupe.config import Stage
from eupe.data.loader import Batch
from eupe.statistics import Measurement, Statistics
from eupe.step import Standard, sides_of
from eupe.teachers import Teacher
from evals.errors import ResultsError
from evals.files import write_atomic

Progress = Callable[[int], object]
_RUN = "run"
"""Key of the digest of the run; names of teachers have a dot behind them."""


def measure(
    stage: Stage, teachers: Mapping[str, Teacher], images: Iterator[Batch], device: torch.device, progress: Progress
) -> dict[str, Standard]:
    """Statistics of every teacher over these batches, merged over all processes.

    Crops, teacher resolutions (a mixture of them where the stage draws scales) and arithmetic are those of training.
    """
    found: dict[str, tuple[Measurement | None, Measurement]] = {}
    for step, batch in enumerate(images):
        shared, clean = batch.on(device)
        crops = shared if clean is None else clean
        _, side = sides_of(stage, step)
        for name, teacher in teachers.items():
            lesson = teacher(shrink(crops, side or teacher.side))
            if name not in found:
                cls = None if lesson.cls_BD is None else Measurement(lesson.cls_BD.shape[-1])
                found[name] = (cls, Measurement(lesson.patches_BHWD.shape[-1]))
            cls_part, patch_part = found[name]
            if cls_part is not None and lesson.cls_BD is not None:
                cls_part.add(lesson.cls_BD)
            patch_part.add(lesson.patches_BHWD)
        progress(1)
    for cls_part, patch_part in found.values():
        if cls_part is not None:
            cls_part.gather()
        patch_part.gather()
    floor = stage.statistics.floor
    return {
        name: Standard(None if cls_part is None else cls_part.result(floor), patch_part.result(floor))
        for name, (cls_part, patch_part) in found.items()
    }


def write(path: Path, standards: Mapping[str, Standard], digests: Mapping[str, str], run: str = "") -> None:
    """One file: `<teacher>.<cls|patch>.<mean|std>`, counts, the digest of each teacher's weights, and that of the run.

    `run` stands for configuration and images: what was measured for another must not serve it.
    """
    tensors: dict[str, Tensor] = {}
    notes = {_RUN: run, **{f"{name}.weights": digest for name, digest in digests.items()}}
    for name, standard in standards.items():
        for kind, one in (("cls", standard.cls), ("patch", standard.patch)):
            if one is not None:
                tensors[f"{name}.{kind}.mean"] = one.mean_D.cpu().contiguous()
                tensors[f"{name}.{kind}.std"] = one.std_D.cpu().contiguous()
                notes[f"{name}.{kind}.count"] = str(one.count)
                notes[f"{name}.{kind}.floored"] = str(one.floored)
    write_atomic(path, save(tensors, notes))


def of_run(path: Path, run: str) -> bool:
    """Whether a file was measured for that run. Raises as `read` does."""
    return _open(path)[1].get(_RUN) == run


def read(path: Path, digests: Mapping[str, str]) -> dict[str, Standard]:
    """The statistics of a file. Raises ResultsError for a broken file or one of other teachers."""
    tensors, notes = _open(path)
    for name, digest in digests.items():
        if notes.get(f"{name}.weights") != digest:
            raise ResultsError(
                f"the statistics {path} were measured on other weights of teacher {name}: "
                f"{notes.get(f'{name}.weights', 'none')[:12]} instead of {digest[:12]}. Train into another folder."
            )
    return {name: Standard(_one(tensors, notes, name, "cls"), _needed(tensors, notes, name, path)) for name in digests}


def _open(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ResultsError(
            f"the statistics {path} cannot be read ({error}); delete the file to measure again."
        ) from error


def _one(tensors: Mapping[str, Tensor], notes: Mapping[str, str], name: str, kind: str) -> Statistics | None:
    key = f"{name}.{kind}"
    if f"{key}.mean" not in tensors:
        return None
    count, floored = int(notes[f"{key}.count"]), int(notes[f"{key}.floored"])
    return Statistics(tensors[f"{key}.mean"], tensors[f"{key}.std"], count, floored)


def _needed(tensors: Mapping[str, Tensor], notes: Mapping[str, str], name: str, path: Path) -> Statistics:
    found = _one(tensors, notes, name, "patch")
    if found is None:
        raise ResultsError(f"the statistics {path} lack those of teacher {name}; delete the file to measure again.")
    return found
