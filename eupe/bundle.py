"""One folder that can be handed on: an export with all that its way to text needs, and nothing else, inside it."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from evals.encoders.exports.entry import TextRoute, text_route
from evals.encoders.exports.files import write_tensors
from evals.encoders.exports.manifest import (
    HEADS,
    MANIFEST,
    STATISTICS,
    TEXT,
    Manifest,
    Teacher,
    check_whole,
    read_manifest,
    whole_file,
)
from evals.encoders.weights import read_tensors
from evals.errors import ResultsError, UsageError
from evals.files import sha256_file, write_atomic

LINEAGE = "lineage"
"""Below the bundle: what the way from its class token to text needs of the exports that it leads through."""


def bundle(export: Path, to: Path, name: str, note: str | None = None) -> None:
    """Copy an export as `name`, and of the exports on its way to text what it needs, each pointing to the next.

    The `note` is what `eupe-eval info` says of it.

    Raises UsageError for a folder that exists, UnavailableError and WeightsError where the lineage is not whole,
    ResultsError where the copy cannot be written.
    """
    if to.exists():
        raise UsageError(f"{to} exists already; bundles are never overwritten. Choose another folder.")
    manifest = check_whole(export)
    route = text_route(export, manifest)
    way = [link.folder for link in route.links]
    if route.inside is not None and route.inside != export:
        way.append(route.inside)
    aside = to.with_name(f".{to.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        digest: str | None = None
        # The last first: each names the next one by the digest of its manifest.
        for folder in reversed(way[1:]):
            source = f"../{_called(way, folder)}"
            digest = _reduce(
                folder, aside / LINEAGE / read_manifest(folder).name, _taught(route, folder, digest, source)
            )
        source = f"{LINEAGE}/{read_manifest(way[1]).name}" if len(way) > 1 else ""
        _copy(export, aside, name, note, _taught(route, export, digest, source))
        aside.rename(to)
    except (OSError, SafetensorError) as error:
        raise ResultsError(f"cannot write the bundle {to}: {error}. Free some space, or choose another.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _taught(route: TextRoute, folder: Path, digest: str | None, source: str) -> Teacher | None:
    """The teacher by which the way goes on from an export, where the bundle has it; None at its end."""
    found = [link.teacher for link in route.links if link.folder == folder]
    if not found or found[0].kind != "export" or digest is None:
        return found[0] if found else None
    return replace(found[0], digest=digest, source=source)


def _called(way: list[Path], folder: Path) -> str:
    following = way[way.index(folder) + 1 :]
    return read_manifest(following[0]).name if following else ""


def _copy(export: Path, to: Path, name: str, note: str | None, taught: Teacher | None) -> None:
    """All of an export under another name, with a manifest that points to the next one."""
    manifest = read_manifest(export)
    for file in manifest.files:
        shutil.copyfile(export / file, to / file)
    teachers = tuple(taught if taught and each.name == taught.name else each for each in manifest.teachers)
    entry = manifest.entry if note is None else {**manifest.entry, "note": note}
    _write(to, replace(manifest, teachers=teachers, name=name, entry=entry))


def _reduce(export: Path, to: Path, taught: Teacher | None) -> str:
    """The class head of an export for the next one of the way, or the text tower at its end; digest of its manifest.

    Neither its backbone nor what it has for other teachers and for patches is needed.
    """
    to.mkdir(parents=True)
    manifest = read_manifest(export)
    files = dict(manifest.files)
    if taught is None:
        shutil.copyfile(export / TEXT, to / TEXT)
    else:
        kept = tuple(f"{taught.name}.{part}." for part in ("cls", "projection"))
        for file in (HEADS, STATISTICS):
            tensors = read_tensors(whole_file(export, manifest, file))
            files[file] = write_tensors(
                to / file, {key: value for key, value in tensors.items() if key.startswith(kept)}
            )
    teachers = (replace(taught, patch=None),) if taught else manifest.teachers
    _write(to, replace(manifest, teachers=teachers, files=files))
    return sha256_file(to / MANIFEST)


def _write(to: Path, manifest: Manifest) -> None:
    write_atomic(to / MANIFEST, replace(manifest, training=_told(manifest.training)).to_json().encode())


def _told(notes: Any) -> Any:
    """What is said of the training, with the last names of folders alone: the rest is of the machine that made it."""
    if isinstance(notes, Mapping):
        return {key: _told(value) for key, value in notes.items()}
    if isinstance(notes, list):
        return [_told(value) for value in notes]
    return Path(notes).name if isinstance(notes, str) and Path(notes).is_absolute() else notes
