"""Starting a student from an export: its backbone and those of its heads that fit (stage 3 from stage 2)."""

from pathlib import Path
from typing import Any, cast

from eupe.config import StudentConfig
from eupe.students import Architecture, Learner
from evals.encoders.exports.entry import entry_of
from evals.encoders.exports.files import read_heads
from evals.encoders.exports.manifest import BACKBONE, check_whole
from evals.encoders.layouts import restore_periods
from evals.encoders.sources.eupe import convert
from evals.encoders.weights import load_strict, read_tensors
from evals.errors import UsageError

_CLASSIFIER = ("head.fc.", "head.weight", "head.bias")
"""What weights of others have beside those of a backbone."""


def begin(learner: Learner, config: StudentConfig, name: str) -> list[str]:
    """Fill a learner from what its configuration names; returns the teachers whose heads are fresh.

    Of an export, heads are taken for teachers of the same name and widths; a file of weights, under timm's names, has
    a backbone alone (row 29 of docs/training.md). Raises UsageError for an export of another architecture,
    WeightsError for one that is not whole.
    """
    assert config.start is not None, "asked for only where there is a start"
    folder = Path(config.start).expanduser().resolve()
    if folder.is_file():
        load_strict(learner.backbone, read_tensors(folder), what=str(folder), ignore=_CLASSIFIER)
        return list(learner.heads)
    manifest = check_whole(folder)
    if (manifest.model, dict(manifest.options)) != (config.model, Architecture(config.model, config.options).lasting):
        raise UsageError(
            f"students.{name}.start: {folder} is {manifest.architecture}; the student is {config.model} with "
            f"{dict(config.options)}. Name an export of the same architecture, or leave start out."
        )
    tensors, backbone = read_tensors(folder / BACKBONE), learner.backbone
    entry = entry_of(str(folder))
    load_strict(backbone, convert(tensors, backbone, entry), what=str(folder / BACKBONE))
    restore_periods(backbone, tensors, entry)
    taken = read_heads(folder)[0]
    fresh = []
    for teacher, heads in cast("Any", learner.heads).items():
        given = taken[teacher].state_dict() if teacher in taken else {}
        wanted = heads.state_dict()
        if given.keys() == wanted.keys() and all(given[key].shape == wanted[key].shape for key in wanted):
            heads.load_state_dict(given)
        else:
            fresh.append(str(teacher))
    return fresh
