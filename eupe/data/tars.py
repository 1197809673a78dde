"""Source `tars`: WebDataset shards read at random through an index of member offsets.

The same files can be streamed by any WebDataset reader; the index (one .npy beside each shard, made on first use) is
what makes them a list. Members that are no images are passed over.
"""

import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eupe.data.base import digest_of
from eupe.data.folder import EXTENSIONS
from evals.errors import DataError


@dataclass(frozen=True, slots=True)
class Tars:
    """Images inside tar files."""

    name: str
    shards: tuple[Path, ...]
    members_N3: NDArray[np.int64]
    """Shard, offset of the content, length."""
    digest: str

    def __len__(self) -> int:
        return len(self.members_N3)

    def read(self, item: int) -> bytes:
        """The content of the member."""
        shard, offset, length = (int(value) for value in self.members_N3[item])
        with self.shards[shard].open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def where(self, item: int) -> str:
        """Shard and offset."""
        shard, offset, _ = self.members_N3[item]
        return f"{self.shards[int(shard)]} at byte {offset}"


def open_source(name: str, root: Path) -> Tars:
    """All shards `*.tar` of a folder in the order of their names. Raises DataError where there are none."""
    shards = tuple(sorted(root.glob("*.tar"))) if root.is_dir() else ()
    if not shards:
        raise DataError(f"source {name}: {root} must be a folder of WebDataset shards (*.tar).")
    parts, names = [], []
    for number, shard in enumerate(shards):
        members_N2 = _index(shard)
        parts.append(np.column_stack([np.full(len(members_N2), number), members_N2]))
        names.append(f"{shard.name} {shard.stat().st_size} {members_N2.tobytes().hex()}")
    members_N3 = np.concatenate(parts)
    if not len(members_N3):
        raise DataError(f"source {name}: the shards of {root} hold no image ({', '.join(EXTENSIONS)}).")
    return Tars(name, shards, members_N3, digest_of(names))


def _index(shard: Path) -> NDArray[np.int64]:
    """Offset and length of every image of a shard, from its index or by one pass over its headers."""
    saved, size = shard.with_suffix(".index.npy"), shard.stat().st_size
    if saved.is_file() and saved.stat().st_mtime_ns >= shard.stat().st_mtime_ns:
        found: NDArray[np.int64] = np.load(saved, allow_pickle=False)
        if found.ndim == 2 and found.shape[1] == 2 and (found.sum(1) <= size).all():
            return found
    try:
        with tarfile.open(shard) as archive:
            rows = [
                (member.offset_data, member.size)
                for member in archive
                if member.isfile() and Path(member.name).suffix.lower() in EXTENSIONS
            ]
    except tarfile.TarError as error:
        raise DataError(f"{shard} is no whole tar file: {error}") from error
    made = np.array(rows, np.int64).reshape(-1, 2)
    with saved.with_suffix(".tmp.npy").open("wb") as file:
        np.save(file, made)
    saved.with_suffix(".tmp.npy").replace(saved)
    return made
