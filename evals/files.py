"""Files that are whole or absent, and digests that are remembered."""

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.errors import ResultsError

_CHUNK = 1 << 20
_ADVICE: Mapping[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space, or choose another folder."),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "It is not writable: choose another folder."),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
        "A file stands where a folder is expected, or a folder where the file goes: choose another folder.",
    ),
}
"""What mends a failed write, by the number of the error."""


def cache_home() -> Path:
    """Where things are kept that can be had again: below $XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eupe-eval"


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file of the same folder, flush it to disk, then rename it into place.

    Raises ResultsError naming the path, the cause and what mends it; an earlier file stays whole.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a result is as readable as any file the user writes.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise ResultsError(
            f"cannot write {path}: {error.strerror or error}. {_ADVICE.get(error.errno, 'Choose another folder.')}"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Digest of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class DigestMemo:
    """Digests of files, remembered by path, size and time of change, so that large files are read once.

    The memory is a JSON file in the cache; without it, or with a broken one, digests are computed again.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._fresh = False
        if path is not None and path.is_file():
            with contextlib.suppress(OSError, ValueError, RecursionError):
                loaded = json.loads(path.read_text())
                known = loaded if isinstance(loaded, dict) else {}
                self._known = {name: entry for name, entry in known.items() if _is_memory(entry)}

    def digest(self, path: Path) -> str:
        """The sha256 of a file."""
        stat = path.stat()
        key, stamp = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(key)
        if known is not None and known[:2] == stamp:
            return str(known[2])
        value = sha256_file(path)
        self._known[key] = [*stamp, value]
        self._fresh = True
        return value

    def save(self) -> None:
        """Keep what was learnt; a cache that cannot be written costs time, not results."""
        if self._fresh and self._path is not None:
            with contextlib.suppress(ResultsError):
                write_atomic(self._path, json.dumps(self._known).encode())
                self._fresh = False


def _is_memory(entry: object) -> bool:
    """Size, time of change, sha256."""
    match entry:
        case [int(), int(), str(digest)]:
            return re.fullmatch("[0-9a-f]{64}", digest) is not None
        case _:
            return False
