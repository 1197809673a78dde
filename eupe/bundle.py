"""One folder that can be handed on: an export with all that its way to text needs, and nothing else, inside it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evals.encoders.exports.entry import TextRoute, text_route
from evals.encoders.exports.manifest import HEADS, MANIFEST, STATISTICS, TEXT, check_whole, read_manifest
from evals.errors import ResultsError, UsageError
from evals.files import sha256_file, write_atomic

LINEAGE = "lineage"
"""Below the bundle: the exports on the way from its class token to text, without their backbones."""


def bundle(export: Path, to: Path, name: str) -> None:
    """Copy an export as `name`, and the exports of its way to text into it, each pointing to the next.

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
            teacher = _next(_following(route, folder), digest, f"../{_called(way, folder)}")
            digest = _copy(
                folder, aside / LINEAGE / read_manifest(folder).name, None, teacher, (HEADS, STATISTICS, TEXT)
            )
        source = f"{LINEAGE}/{read_manifest(way[1]).name}" if len(way) > 1 else ""
        own = _next(_following(route, export), digest, source)
        _copy(export, aside, name, own, tuple(manifest.files))
        aside.rename(to)
    except OSError as error:
        raise ResultsError(f"cannot write the bundle {to}: {error}. Free some space, or choose another.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _following(route: TextRoute, folder: Path) -> str | None:
    """The teacher by which the way goes on from an export; None at its end."""
    found = [link.teacher.name for link in route.links if link.folder == folder and link.teacher.kind == "export"]
    return found[0] if found else None


def _called(way: list[Path], folder: Path) -> str:
    following = way[way.index(folder) + 1 :]
    return read_manifest(following[0]).name if following else ""


def _next(teacher: str | None, digest: str | None, source: str) -> Mapping[str, str]:
    return {} if teacher is None or digest is None else {"name": teacher, "digest": digest, "source": source}


def _copy(folder: Path, to: Path, name: str | None, teacher: Mapping[str, str], files: Sequence[str]) -> str:
    """Copy those files of an export that it has, with a manifest that points to the next one; its digest."""
    to.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(folder)
    for file in files:
        if file in manifest.files:
            shutil.copyfile(folder / file, to / file)
    teachers = tuple(
        replace(each, digest=teacher["digest"], source=teacher["source"]) if each.name == teacher.get("name") else each
        for each in manifest.teachers
    )
    write_atomic(to / MANIFEST, replace(manifest, teachers=teachers, name=name or manifest.name).to_json().encode())
    return sha256_file(to / MANIFEST)
