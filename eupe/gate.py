"""A gate before a stage: what its teachers kept of their own experts is measured, and enough.

What an export kept is in `retention.json` beside it, a JSON object: for each expert (or skill) its score, that of the
export, and the share that is left, `{"reading": {"expert": 0.92, "proxy": 0.71, "kept": 0.77}}`; `by` may name the
expert and `metric` the score. What a proxy has lost no student can learn from it, and no arm of a study be judged.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eupe.config import Stage
from evals.encoders.exports.entry import is_export
from evals.errors import ResultsError, UsageError

RETENTION = "retention.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of one expert."""

    expert: float
    """Score of the expert."""
    proxy: float
    """Score of the export, in the same metric."""
    kept: float
    """Share of it, 1 where nothing is lost."""
    metric: str = ""
    by: str = ""
    """The expert, where the measurement is named after a skill."""


def read_retention(path: Path) -> dict[str, Kept]:
    """The measurements of a file. Raises ResultsError where it is missing or is none."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        found = {name: Kept(**row) for name, row in raw.items()}
        if not all(isinstance(each.kept, int | float) for each in found.values()):
            raise TypeError("kept must be a number")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"what the export kept of its experts cannot be read from {path} ({error}). Measure it, or leave gate out."
        ) from error
    return found


def check_kept(path: Path, least: Mapping[str, float]) -> None:
    """Raises ResultsError naming the experts of which less than the `least` share is left, or that nobody measured."""
    found = read_retention(path)
    if missing := [name for name in least if name not in found]:
        raise ResultsError(f"{path} has no measurement of {', '.join(missing)}; it has {', '.join(found) or 'none'}.")
    lost = [_lost(name, found[name], share) for name, share in least.items() if not found[name].kept >= share]
    if lost:
        raise ResultsError(
            f"too much was lost of {'; '.join(lost)} (see {path}): nothing that learns from it could be judged. Train "
            "that export for longer or with a larger weight of that expert, or lower the share."
        )


def check_teachers(stage: Stage) -> None:
    """Raises ResultsError where a teacher that is an export kept too little for the gate of the stage.

    UsageError for a gate without such a teacher.
    """
    if not stage.gate:
        return
    exports = [teacher.encoder for teacher in stage.teachers.values() if is_export(teacher.encoder)]
    if not exports:
        raise UsageError(f"stage {stage.name!r} has a gate ({', '.join(stage.gate)}) and no teacher that is an export.")
    for export in exports:
        check_kept(Path(export).expanduser().resolve().parent / RETENTION, stage.gate)


def _lost(name: str, found: Kept, share: float) -> str:
    who = f"{name} of the {found.by} expert" if found.by and found.by != name else name
    metric = f" {found.metric}" if found.metric else ""
    return (
        f"{who} ({found.expert:.3g} -> {found.proxy:.3g}{metric}, {found.kept:.1%} kept, at least {share:.1%} wanted)"
    )
