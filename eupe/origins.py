"""What the teachers of a run are to its exports: kept beside its checkpoints, so that exports need no teacher."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from eupe.config import Stage
from eupe.teachers import Teacher
from evals.encoders.exports.entry import is_export
from evals.encoders.exports.manifest import MANIFEST, Tower
from evals.encoders.exports.manifest import Teacher as Origin
from evals.errors import ResultsError
from evals.files import sha256_file, write_atomic

FILE = "teachers.json"


def origin(stage: Stage, name: str, teacher: Teacher) -> Origin:
    """What an export says of a teacher; the folder of one that is an export is absolute here."""
    config, card, widths = stage.teachers[name], teacher.encoder.card, teacher.target()
    path = Path(config.encoder).expanduser().resolve()
    exported = is_export(config.encoder) and (path / MANIFEST).is_file()
    return Origin(
        name=name,
        kind="export" if exported else "encoder",
        source=str(path) if exported else config.encoder,
        digest=sha256_file(path / MANIFEST) if exported else card.weights_sha256,
        hidden=stage.hidden,
        cls=widths.cls_dim,
        patch=widths.patch_dim,
        target=teacher.cls if widths.cls_dim is not None else "global",
        # A lineage goes on to the tower of an export by itself.
        tower=None if exported else _tower(teacher),
    )


def _tower(teacher: Teacher) -> Tower | None:
    """The text tower in whose space the class target lies: that of the encoder, or the one that it says is its own."""
    card = teacher.encoder.card
    encoder, digest = card.text_side.get("tower"), card.text_side.get("weights_sha256")
    if not card.text or encoder is None or digest is None or not teacher.meets_text():
        return None
    return Tower(encoder, digest)


def write(folder: Path, origins: Mapping[str, Origin]) -> None:
    """Beside the checkpoints of a run."""
    write_atomic(folder / FILE, json.dumps([asdict(each) for each in origins.values()], indent=1).encode())


def read(folder: Path) -> dict[str, Origin]:
    """By name. Raises ResultsError where the run did not get so far as to write them."""
    try:
        raw = json.loads((folder / FILE).read_text())
        made = [Origin(**{**each, "tower": each["tower"] and Tower(**each["tower"])}) for each in raw]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{folder / FILE} is not what a run writes ({error}); is this the folder of one?") from error
    return {each.name: each for each in made}


def seen_from(origin: Origin, export: Path) -> Origin:
    """The same with the folder of an export relative to the one that will name it."""
    if origin.kind != "export":
        return origin
    return replace(origin, source=os.path.relpath(origin.source, export.resolve()))
