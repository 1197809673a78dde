"""Source `tars`: WebDataset shards read at random through an index of member offsets.

The same files can be streamed by any WebDataset reader; the index (`index.npy` and `index.json` beside the shards, made
by `eupe-train index`) is what makes them a list. It is mapped into memory, not read: one entry is looked up an image,
and processes share its pages however they were started. Members that are no images are passed over.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eupe.data.base import digest_of
from eupe.data.folder import EXTENSIONS
from evals.context import BarFactory
from evals.errors import DataError
from evals.files import write_atomic

INDEX = "index.npy"
MANIFEST = "index.json"
"""Names and sizes of the shards that were indexed, and the digest of the index; written last."""
ENTRY = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("length", "<u4")])
"""One image: number of its shard, where its content begins, and bytes of it."""


@dataclass(frozen=True, slots=True)
class Tars:
    """Images inside tar files."""

    name: str
    root: Path
    shards: tuple[str, ...]
    count: int
    digest: str

    def __len__(self) -> int:
        return self.count

    def read(self, item: int) -> bytes:
        """The content of the member. Raises OSError where the shard ends before it does."""
        shard, offset, length = self._entry(item)
        with (self.root / self.shards[shard]).open("rb") as file:
            file.seek(offset)
            content = file.read(length)
        if len(content) < length:
            raise OSError(f"the shard ends {length - len(content)} bytes before the image does")
        return content

    def where(self, item: int) -> str:
        """Shard and offset."""
        shard, offset, _ = self._entry(item)
        return f"{self.root / self.shards[shard]} at byte {offset}"

    def _entry(self, item: int) -> tuple[int, int, int]:
        row = _entries(self.root / INDEX)[item]
        return int(row["shard"]), int(row["offset"]), int(row["length"])


def open_source(name: str, root: Path) -> Tars:
    """All shards `*.tar` of a folder in the order of their names.

    Raises DataError where there are none, where they were never indexed, and where shards or index changed since.
    """
    shards = _shards(root, f"source {name}: ")
    remedy = f"Make it: eupe-train index {root}"
    if not (root / MANIFEST).is_file() or not (root / INDEX).is_file():
        raise DataError(f"source {name}: the shards of {root} have no index. {remedy}")
    raw = _manifest(root, f"source {name}: ", remedy)
    known = dict(raw["shards"])
    for path in shards:
        stands = path.stat()
        if known.get(path.name) != stands.st_size or stands.st_mtime_ns > (root / INDEX).stat().st_mtime_ns:
            raise DataError(f"source {name}: {path} changed after it was indexed. {remedy}")
    if missing := sorted(known.keys() - {path.name for path in shards}):
        raise DataError(f"source {name}: {root / missing[0]} was indexed and is gone. Bring it back, or: {remedy}")
    try:
        count = len(_entries(root / INDEX))
    except (OSError, ValueError) as error:
        raise DataError(f"source {name}: the index of {root} cannot be read ({error}). {remedy}") from error
    if count != raw["images"]:
        raise DataError(f"source {name}: the index of {root} is not the one that its {MANIFEST} describes. {remedy}")
    names = [f"{shard} {size}" for shard, size in raw["shards"]]
    return Tars(name, root, tuple(known), count, digest_of([*names, raw["sha256"]]))


def make_index(root: Path, bar: BarFactory) -> int:
    """Index the shards of a folder by one pass over their headers; the number of images.

    Raises DataError for a shard that is no whole, uncompressed tar file, and where none holds an image.
    """
    shards = _shards(root, "")
    parts = []
    with bar(f"index of {root}", len(shards)) as progress:
        for number, shard in enumerate(shards):
            parts.append(np.array([(number, *member) for member in _members(shard)], ENTRY))
            progress.update(1)
    entries = np.concatenate(parts)
    if not len(entries):
        raise DataError(f"the shards of {root} hold no image ({', '.join(EXTENSIONS)}).")
    saved = io.BytesIO()
    np.save(saved, entries)
    about = {
        "images": len(entries),
        "sha256": hashlib.sha256(saved.getbuffer()).hexdigest(),
        "shards": [[shard.name, shard.stat().st_size] for shard in shards],
    }
    write_atomic(root / INDEX, saved.getvalue())
    write_atomic(root / MANIFEST, json.dumps(about, indent=1).encode())
    _entries.cache_clear()
    return len(entries)


def _shards(root: Path, who: str) -> list[Path]:
    shards = sorted(root.glob("*.tar")) if root.is_dir() else []
    if not shards:
        raise DataError(f"{who}{root} must be a folder of WebDataset shards (*.tar).")
    return shards


def _members(shard: Path) -> Iterable[tuple[int, int]]:
    """Offset and length of every image."""
    size = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if member.offset_data + member.size > size:
                    raise DataError(f"{shard} ends inside {member.name}: it was not copied whole.")
                if member.isreg() and Path(member.name).suffix.lower() in EXTENSIONS:
                    yield member.offset_data, member.size
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{shard} is no whole, uncompressed tar file: {error}") from error


def _manifest(root: Path, who: str, remedy: str) -> dict[str, Any]:
    try:
        raw = json.loads((root / MANIFEST).read_text())
        return {
            "images": int(raw["images"]),
            "sha256": str(raw["sha256"]),
            "shards": [(str(name), int(size)) for name, size in raw["shards"]],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{who}{root / MANIFEST} cannot be read ({error!r}). {remedy}") from error


@lru_cache(maxsize=16)
def _entries(index: Path) -> NDArray[np.void]:
    """The index, mapped: nothing of it is read before it is asked for. Raises ValueError for another file."""
    found: NDArray[np.void] = np.load(index, mmap_mode="r", allow_pickle=False)
    if found.dtype != ENTRY or found.ndim != 1:
        raise ValueError(f"it holds {found.dtype} of shape {found.shape}")
    return found
