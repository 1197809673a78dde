"""What lies below a watched folder: exports and weight files, and the proof that they are whole. Unpickles nothing."""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from evals.encoders.exports.manifest import BACKBONE, MANIFEST, check_whole
from evals.errors import EvalError, UsageError
from evals.files import sha256_file

_SUFFIXES = (".safetensors", ".pt", ".pth")
_SHARD = re.compile(r"-\d+-of-\d+\.safetensors$")
_TEMPORARY = re.compile(r"^\.|~$|(^|[._-])(tmp|temp|part|partial|incomplete)([._-]|$)", re.IGNORECASE)
_HEADER_LIMIT = 100_000_000
"""Bytes of a safetensors header; the library's own bound."""


class NotReadyError(EvalError):
    """Something that is not whole, or not yet; it may become so."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An export or a weight file, as it was at one look."""

    path: Path
    """Absolute."""
    name: str
    """Its path below the watched folder."""
    export: bool
    look: str
    """Names, sizes and times of change of its files, digested: two equal looks mean that nobody wrote in between."""
    modified: float
    """When its manifest, or the file itself, was last changed; seconds since 1970."""


@dataclass(slots=True)
class Found:
    """What one look at the watched folder gave."""

    candidates: list[Candidate] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)
    """Name -> why it is no candidate; hidden and temporary names are not even listed."""


def find(root: Path, *, files: bool) -> Found:
    """Exports below `root`, and weight files if `files`, in the order of their names; links after what is really there.

    Each folder is entered once, also where links lead in circles; none below an export is. Raises UsageError where
    `root` is no folder.
    """
    if not root.is_dir():
        raise UsageError(f"no folder {str(root)!r}: give the one that exports or checkpoints are written to.")
    found = Found()
    for folder, entries in _folders(root, found):
        names = {entry.name for entry in entries}
        if MANIFEST in names:
            inside = [Path(entry.path) for entry in entries if not _TEMPORARY.search(entry.name)]
            _take(found, root, folder, inside, folder / MANIFEST)
        elif BACKBONE in names:
            found.passed_over[_name(root, folder)] = f"not a whole export: it has no {MANIFEST}, which is written last"
        else:
            weights = [Path(entry.path) for entry in entries if entry.name.endswith(_SUFFIXES)]
            for path in weights:
                _weigh(found, root, path, files=files)
    return found


def look_again(candidate: Candidate) -> str | None:
    """The look of a candidate now; None where it is gone."""
    try:
        if not candidate.export:
            return _look([candidate.path])
        inside = [Path(entry.path) for entry in os.scandir(candidate.path) if not _TEMPORARY.search(entry.name)]
        return _look(inside)
    except OSError:
        return None


def identity(candidate: Candidate) -> str:
    """The sha256 that its records will carry: of the manifest, which covers every file, or of the whole file."""
    return sha256_file(candidate.path / MANIFEST if candidate.export else candidate.path)


def prove(candidate: Candidate) -> None:
    """Raises NotReadyError unless every byte of an export is as its manifest says, or a file has its end.

    A manifest that says what no export may say is whole: that is for the evaluation to refuse.
    """
    path = candidate.path
    if candidate.export:
        try:
            check_whole(path)
        except UsageError:
            return
        except EvalError as error:
            raise NotReadyError(str(error)) from error
    elif path.suffix == ".safetensors":
        _prove_safetensors(path)
    else:
        _prove_zip(path)


def _prove_safetensors(path: Path) -> None:
    """The header says where the last tensor ends; the file must end there too."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, _HEADER_LIMIT):
            raise NotReadyError(f"its header is not whole ({size:,} bytes so far)")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        ends = [int(item["data_offsets"][1]) for key, item in header.items() if key != "__metadata__"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise NotReadyError("it has no header of a safetensors file") from error
    if (whole := 8 + length + max(ends, default=0)) != size:
        raise NotReadyError(f"its header announces {whole:,} bytes, and it has {size:,}")


def _prove_zip(path: Path) -> None:
    """torch.save writes an archive whose table of contents comes last."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise NotReadyError(
            "it has no end of an archive of torch.save: it is still being written, was cut short, or is of a format "
            "without one (torch before 1.6), which cannot be proved whole"
        ) from error
    if not any(name.endswith("data.pkl") for name in names):
        raise NotReadyError("it is an archive, but none of torch.save")


def _folders(root: Path, found: Found) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """Every folder to look at, each once, with what it holds but for temporary names."""
    stack, seen = [root], set[tuple[int, int]]()
    while stack:
        folder = stack.pop()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            found.passed_over[_name(root, folder)] = f"cannot be read: {error.strerror or error}"
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        shown = [entry for entry in entries if not _TEMPORARY.search(entry.name)]
        yield folder, [entry for entry in shown if _is(entry, S_ISREG)]
        if not {MANIFEST, BACKBONE} & {entry.name for entry in shown}:
            # Links wait at the bottom of the stack: what they lead to is known by its own name, if it has one here.
            folders = [entry for entry in shown if _is(entry, S_ISDIR)]
            stack = [Path(entry.path) for entry in reversed(folders) if entry.is_symlink()] + stack
            stack += [Path(entry.path) for entry in reversed(folders) if not entry.is_symlink()]


def _is(entry: os.DirEntry[str], kind: Callable[[int], bool]) -> bool:
    """What it is behind all links; a link that leads nowhere, or to itself, is nothing."""
    try:
        return kind(entry.stat().st_mode)
    except OSError:
        return False


def _weigh(found: Found, root: Path, path: Path, *, files: bool) -> None:
    """A weight file: a candidate, or why not."""
    if _SHARD.search(path.name):
        found.passed_over[_name(root, path)] = "one part of several: save the weights as one file"
    elif not files:
        found.passed_over[_name(root, path)] = "a weight file alone: --encoder would name its architecture"
    else:
        _take(found, root, path, [path], path)


def _take(found: Found, root: Path, path: Path, inside: Iterable[Path], dated: Path) -> None:
    try:
        made = Candidate(path, _name(root, path), dated != path, _look(inside), dated.stat().st_mtime)
    except OSError:
        return  # gone since the folder was read
    found.candidates.append(made)


def _look(paths: Iterable[Path]) -> str:
    stats = [(path.name, path.stat()) for path in sorted(paths)]
    seen = [(name, status.st_size, status.st_mtime_ns) for name, status in stats]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else root.name
