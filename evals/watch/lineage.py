"""How far in its training a candidate was saved, and which others it belongs with: from its manifest and its names."""

import re
from pathlib import Path
from typing import NamedTuple

from evals.encoders.exports.manifest import read_manifest
from evals.errors import EvalError
from evals.watch.candidates import Candidate

_STEP = re.compile(r"(?<![a-z])(?:global[-_]?)?steps?[-_=.]*(\d+)(?![a-z0-9])", re.IGNORECASE)
_MARKED = re.compile(
    r"(?<![a-z])(?:(?:global[-_]?)?steps?|iter(?:ation)?s?|epochs?|ckpt|checkpoint)[-_=.]*(\d+)(?![a-z0-9])",
    re.IGNORECASE,
)
_ALONE = re.compile(r"(?<![a-z0-9.])(\d+)$", re.IGNORECASE)
_EDGES = "-_=. "


class Descent(NamedTuple):
    """Where a candidate comes from."""

    encoder: str
    """The name that its records carry."""
    lineage: str
    """What all candidates of one training of one encoder share: its folder and name without what tells the step."""
    step: int | None


def descent(candidate: Candidate, root: Path, architecture: str | None) -> Descent:
    """The descent of a candidate below `root`; `architecture` is the encoder that weight files are of.

    The step is that of the manifest's training notes, else the number after a word such as `step` or `ckpt` in its
    name or a folder's, else a number at the end of its name.
    """
    parts = list(candidate.path.relative_to(root).parts) or [root.name]
    last = parts[-1] if candidate.export else Path(parts[-1]).stem
    encoder, noted = _manifest(candidate) if candidate.export else (architecture or "", None)
    own = encoder if candidate.export else last
    step = noted if noted is not None else _step([last, *reversed(parts[:-1])], own)
    names = [_without_step(part, step, alone=part.isdigit()) for part in parts[:-1]]
    names += [_without_step(own, step, alone=True)]
    return Descent(encoder, "/".join([root.as_posix(), *filter(None, names)]), step)


def _manifest(candidate: Candidate) -> tuple[str, int | None]:
    """Name and step by the manifest; one that cannot be read leaves the folder's name."""
    try:
        manifest = read_manifest(candidate.path)
    except EvalError:
        return candidate.path.name, None
    step = manifest.training.get("step")
    return manifest.name, step if isinstance(step, int) and not isinstance(step, bool) else None


def _step(names: list[str], own: str) -> int | None:
    """The first number that a word calls a step, innermost name first; else one at the end of the name."""
    for pattern in (_STEP, _MARKED):
        for name in [*names, own]:
            if match := pattern.search(name):
                return int(match[1])
    folders = [name for name in names[1:] if name.isdigit()]
    for name in [names[0], *folders, own]:
        if match := _ALONE.search(name):
            return int(match[1])
    return None


def _without_step(name: str, step: int | None, *, alone: bool) -> str:
    """The name without what a word marks; `alone`: nor a number at its end that is the step."""
    left = _MARKED.sub("", name)
    match = _ALONE.search(left)
    if alone and match and int(match[1]) == step:
        left = left[: match.start()]
    return re.sub(r"([-_=.])[-_=.]+", r"\1", left).strip(_EDGES) if left != name else name
