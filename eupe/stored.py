"""Exports of a run of which only the folder is left: its configuration and a checkpoint do, no teacher is loaded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from eupe import export, measure, origins
from eupe.checkpoint import Identity, checkpoints, read_manifest, restore
from eupe.config import Stage, read
from eupe.students import Architecture, Learner, Target, learner
from eupe.train import STAGE, STATISTICS
from evals.encoders.exports.manifest import Teacher as Origin
from evals.errors import ResultsError, UsageError, unknown


@dataclass(frozen=True, slots=True)
class Stored:
    """A run as its folder tells it, at one of its checkpoints."""

    folder: Path
    stage: Stage
    checkpoint: Path
    step: int
    identity: Identity


def open_run(folder: Path, step: int | None = None) -> Stored:
    """The run of a folder at a step, or where it got to.

    Raises ResultsError for a folder that is none, or whose checkpoint is not whole; UsageError for another step.
    """
    try:
        raw = json.loads((folder / STAGE).read_text())
    except (OSError, ValueError) as error:
        raise ResultsError(f"{folder / STAGE} cannot be read ({error}); name the folder of a run.") from error
    stage: Stage = read(Stage, raw, str(folder / STAGE))
    found = {int(path.name.rpartition("-")[2]): path for path in checkpoints(folder)}
    if not found:
        raise ResultsError(f"{folder} has no checkpoint yet (saving.every: {stage.saving.every}).")
    chosen = max(found) if step is None else step
    if chosen not in found:
        raise UsageError(f"{folder} has no checkpoint of step {step}; it has {', '.join(map(str, sorted(found)))}.")
    done, identity = read_manifest(found[chosen])
    if identity.config != stage.fingerprint():
        raise ResultsError(
            f"{folder / STAGE} is not the configuration of {found[chosen].name}; put back the one that was."
        )
    return Stored(folder, stage, found[chosen], done, identity)


def export_stored(
    run: Stored, students: Sequence[str] = (), to: Path | None = None, *, average: bool = False
) -> list[Path]:
    """Export students (of none that are named, all) as they were at the checkpoint; the folders that were written.

    `average`: the moving average of their weights instead. Needs a group of processes. Raises UsageError for an unknown
    student, an average that the stage did not keep, or one folder for several students; and as `export.write` does.
    """
    for name in students:
        if name not in run.stage.students:
            raise unknown(f"student of {run.folder}", name, list(run.stage.students))
    chosen = list(students or run.stage.students)
    if to is not None and len(chosen) > 1:
        raise UsageError(f"one folder takes one student; choose one of {', '.join(chosen)}.")
    if average and not run.stage.average:
        raise UsageError(f"{run.folder} keeps no average of its weights (average: 0).")
    teachers = origins.read(run.folder)
    standards = measure.read(run.folder / STATISTICS, run.identity.teachers)
    notes = {"step": run.step, "identity": asdict(run.identity), **({"average": run.stage.average} if average else {})}
    made = []
    for name in chosen:
        folder = to or export.place(run.folder, name + "-average" * average, run.step, run.stage.rate.steps)
        student = _student(run.stage, name, teachers)
        state = _weights(run, name, student, average=average)
        export.write(folder, run.stage, name, student, state, standards, teachers, notes)
        made.append(folder)
    return made


def _student(stage: Stage, name: str, teachers: Mapping[str, Origin]) -> Learner:
    config = stage.students[name]
    targets = {}
    for key, teacher in teachers.items():
        assert teacher.patch is not None, "every teacher of a run has patches"
        targets[key] = Target(teacher.cls, teacher.patch).asked(config.cls)
    return learner(Architecture(config.model, config.options), targets, hidden=stage.hidden, seed=stage.seed)


def _weights(run: Stored, name: str, student: Learner, *, average: bool) -> dict[str, Tensor]:
    """Of the checkpoint, whole, however many processes wrote it."""
    state = {name: {"learner": student.state_dict()}}
    if average:
        state[name]["average"] = {key: value.detach().clone() for key, value in student.named_parameters()}
    restore(run.checkpoint, state)
    return {**state[name]["learner"], **state[name].get("average", {})}
