"""The cache folder: what is in it, and how to make it smaller. Everything in it can be made again."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evals.encoders.registry import names
from evals.errors import ResultsError, UsageError, unknown
from evals.record import safe_name

_WORLDS = "miniature"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the cache that can be deleted on its own."""

    name: str
    path: Path
    files: int
    bytes: int
    used: float
    """When its newest file was written or read last, seconds since the epoch."""


def parts(cache: Path) -> list[Part]:
    """Features by encoder and geometry, worlds, text vectors and unfinished work."""
    features = sorted((cache / "features").glob("*/*/*/*"))
    others = [path for name in (_WORLDS, "text", "work") for path in sorted((cache / name).glob("*"))]
    return [_part(cache, path) for path in (*features, *others)]


def clear(cache: Path, *, encoder: str | None = None, worlds: bool = False) -> int:
    """Delete features (of one encoder if named), text vectors and unfinished work; returns the bytes freed.

    Raises UsageError for an encoder that has neither features nor an entry, ResultsError where nothing can be deleted.
    """
    keep = () if worlds else (_WORLDS,)
    found, freed = parts(cache), 0
    if encoder is not None and ":" not in encoder:
        cached = {part.path.relative_to(cache).parts[1] for part in found if part.name.startswith("features/")}
        if safe_name(encoder) not in cached and encoder not in names():
            raise unknown("encoder", encoder, sorted({*cached, *names()}))
    for part in found:
        kind, *rest = part.path.relative_to(cache).parts
        if kind in keep or (encoder is not None and (kind != "features" or rest[0] != safe_name(encoder))):
            continue
        freed += _delete(part)
    return freed


def prune(cache: Path, budget: int) -> int:
    """Delete what was used longest ago, but no world, until everything fits the budget; returns the bytes freed.

    Raises ResultsError where nothing can be deleted.
    """
    found = parts(cache)
    total, freed = sum(part.bytes for part in found), 0
    for part in sorted(found, key=lambda part: part.used):
        if total - freed <= budget:
            break
        if part.path.relative_to(cache).parts[0] != _WORLDS:
            freed += _delete(part)
    return freed


def parse_size(text: str) -> int:
    """`20GB` -> bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        raise UsageError(f"a size is a number with a unit such as 500MB or 20GB; got {text!r}.")
    return int(float(match[1]) * _UNITS[match[2]])


def _part(cache: Path, path: Path) -> Part:
    stats = [file.stat() for file in _files(path)]
    return Part(
        name=path.relative_to(cache).as_posix(),
        path=path,
        files=len(stats),
        bytes=sum(stat.st_size for stat in stats),
        used=max((max(stat.st_mtime, stat.st_atime) for stat in stats), default=0.0),
    )


def _files(path: Path) -> Iterator[Path]:
    return (file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def _delete(part: Part) -> int:
    try:
        if part.path.is_dir() and not part.path.is_symlink():
            shutil.rmtree(part.path)
        else:
            part.path.unlink()
    except OSError as error:
        raise ResultsError(
            f"cannot delete {error.filename or part.path}: {error.strerror or error}. The cache must be writable."
        ) from error
    return part.bytes
