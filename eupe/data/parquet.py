"""Source `parquet`: Hugging Face image data sets as parquet files (column `image`, a struct with `bytes`).

A row group is what can be read at once, so an image costs the reading of its group: data sets of images are written
with groups of about a hundred rows.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow
import pyarrow.parquet

from eupe.data.base import digest_of
from evals.errors import DataError

COLUMN = "image"


@dataclass(frozen=True, slots=True)
class Parquet:
    """Images inside row groups."""

    name: str
    groups: tuple[tuple[Path, int], ...]
    """File and row group."""
    ends: tuple[int, ...]
    """Number of images up to and with each group."""
    digest: str

    def __len__(self) -> int:
        return self.ends[-1]

    def read(self, item: int) -> bytes:
        """The bytes of the image. Raises OSError where the row holds none."""
        at = bisect_right(self.ends, item)
        path, group = self.groups[at]
        row = item - (self.ends[at - 1] if at else 0)
        try:
            value = _group(path, group)[row].as_py()
        except pyarrow.ArrowException as error:
            raise OSError(f"row group {group} cannot be read: {error}") from error
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise OSError(f"row {row} of group {group} holds no bytes")
        return content

    def where(self, item: int) -> str:
        """File, group and row."""
        at = bisect_right(self.ends, item)
        path, group = self.groups[at]
        return f"{path}, row {item - (self.ends[at - 1] if at else 0)} of group {group}"


def open_source(name: str, root: Path) -> Parquet:
    """All `*.parquet` of a folder (any depth), in the order of their paths. Raises DataError where there are none."""
    files = sorted(root.rglob("*.parquet")) if root.is_dir() else []
    if not files:
        raise DataError(f"source {name}: {root} must be a folder of parquet files with a column `{COLUMN}`.")
    groups, ends, names = [], [], []
    total = 0
    for path in files:
        try:
            meta = pyarrow.parquet.read_metadata(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"source {name}: {path} is no parquet file: {error}") from error
        _check_column(f"source {name}: {path}", meta.schema.to_arrow_schema())
        for group in range(meta.num_row_groups):
            total += meta.row_group(group).num_rows
            groups.append((path, group))
            ends.append(total)
        names.append(f"{path.relative_to(root).as_posix()} {meta.num_rows} {path.stat().st_size}")
    if not total:
        raise DataError(f"source {name}: the parquet files of {root} have no rows.")
    return Parquet(name, tuple(groups), tuple(ends), digest_of(names))


def _check_column(where: str, schema: pyarrow.Schema) -> None:
    """Raises DataError where there is no column of images."""
    if COLUMN not in schema.names:
        raise DataError(f"{where} has no column `{COLUMN}`; it has: {', '.join(schema.names) or 'none'}.")
    kind = schema.field(COLUMN).type
    inner = kind.field("bytes").type if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pyarrow.types.is_binary(inner) or pyarrow.types.is_large_binary(inner)):
        raise DataError(
            f"{where}: column `{COLUMN}` must hold the bytes of image files, or a struct with them; it holds {kind}."
        )


@lru_cache(maxsize=2)
def _group(path: Path, group: int) -> pyarrow.ChunkedArray:
    """The images of a row group; neighbours in a file are often asked for together."""
    # Without threads of its own: the process may have been forked.
    return pyarrow.parquet.ParquetFile(path).read_row_group(group, columns=[COLUMN], use_threads=False)[COLUMN]
