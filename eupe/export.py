"""From a run to exports: the trained student as the suite reads it, with its heads, statistics and lineage."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from eupe import origins
from eupe.config import Stage
from eupe.step import Pupil, Standard
from eupe.students import Architecture, Learner
from evals.encoders.entry import NORMALISATIONS
from evals.encoders.exports.files import write_export
from evals.encoders.exports.heads import adapters, target_statistics
from evals.encoders.exports.manifest import BACKBONE, HEADS, STATISTICS, Manifest, Stamp, parse
from evals.encoders.exports.manifest import Teacher as Origin
from evals.encoders.exports.released import released_names
from evals.encoders.weights import load_strict
from evals.environment import packages

FOLDER = "exports"
"""Below the folder of a run."""


def place(run: Path, student: str, step: int, steps: int) -> Path:
    """Where the export of a student after `step` of `steps` steps belongs: the last one needs no number."""
    return run / FOLDER / (student if step == steps else f"{student}-step-{step:08d}")


def whole_state(pupil: Pupil) -> dict[str, Tensor]:
    """All weights of a student on the CPU, by the names of its learner. Every process must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast("dict[str, Tensor]", get_model_state_dict(pupil.wrapped, options=options))


def write(
    folder: Path,
    stage: Stage,
    student: str,
    learner: Learner,
    state: Mapping[str, Tensor],
    standards: Mapping[str, Standard],
    teachers: Mapping[str, Origin],
    notes: Mapping[str, Any],
) -> Manifest:
    """Write the export of a student to `folder`. `learner` gives the architecture, `state` the weights.

    Raises as `write_export` does: UsageError for a folder that exists, ResultsError where it cannot be written.
    """
    manifest = _manifest(folder, stage, student, learner, teachers, notes)
    heads, statistics = adapters(manifest.teachers, learner.width), target_statistics(manifest.teachers)
    parts = {key.removeprefix("heads."): value for key, value in state.items() if key.startswith("heads.")}
    load_strict(heads, parts, what=f"the heads of {student}")
    _fill(statistics, standards)
    backbone = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    return write_export(folder, manifest, released_names(backbone, learner.backbone), heads, statistics)


def check(stage: Stage, learners: Mapping[str, Learner], teachers: Mapping[str, Origin]) -> None:
    """Raises UsageError for a student that could not be exported: told before it is trained, not after."""
    files = dict.fromkeys((BACKBONE, HEADS, STATISTICS), Stamp("0" * 64, 1))
    for name, learner in learners.items():
        made = _manifest(Path(), stage, name, learner, teachers, {})
        parse(json.loads(replace(made, files=files).to_json()), f"the export of student {name}")


def _manifest(
    folder: Path,
    stage: Stage,
    student: str,
    learner: Learner,
    teachers: Mapping[str, Origin],
    notes: Mapping[str, Any],
) -> Manifest:
    config = stage.students[student]
    named = tuple(origins.seen_from(teachers[name], folder) for name in stage.teachers)
    if config.cls == "none":
        named = tuple(replace(teacher, cls=None) for teacher in named)
    return Manifest(
        name=re.sub(r"[^\w.]+", "-", f"{stage.name}-{student}").strip("-."),
        model=config.model,
        options=Architecture(config.model, config.options).lasting,
        entry=_entry(stage, learner),
        teachers=named,
        training=json.loads(json.dumps({**notes, "stage": asdict(stage), "packages": packages()}, default=str)),
    )


def _entry(stage: Stage, learner: Learner) -> dict[str, Any]:
    mean, std = NORMALISATIONS["imagenet"]
    return {
        "size": min(stage.sides),
        "patch": learner.patch,
        "dim": learner.width,
        "global_feature": learner.global_feature,
        "licence": stage.licence,
        "mean": list(mean),
        "std": list(std),
        "interpolation": "bicubic",
        "antialias": True,
        "resize": "crop",
    }


def _fill(statistics: nn.ModuleDict, standards: Mapping[str, Standard]) -> None:
    for name, standard in standards.items():
        for kind, measured in (("cls", standard.cls), ("patch", standard.patch)):
            if measured is not None and kind in cast("Any", statistics[name]):
                target = cast("Any", statistics[name])[kind]
                target.mean.copy_(measured.mean_D)
                target.std.copy_(measured.std_D)
