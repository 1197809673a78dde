"""Parquet and Arrow files of rows with a picture each, which is read only when it is asked for."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from evals.datasets.layout import Problem
from evals.errors import UnavailableError

IMAGE = "image"
"""The column of pictures in every table: a struct of `bytes`, the encoded file, and `path`."""
_RESTORE = "Obtain the set again, or restore the file"


class Place(NamedTuple):
    """Where a picture lies."""

    path: Path
    group: int
    """Row group of a parquet file, record batch of an Arrow file."""
    row: int
    """In the group."""


class Group(NamedTuple):
    """A part of a file."""

    number: int
    rows: list[dict[str, Any]]
    """Every field but the picture."""
    shown: list[bool]
    """Which rows have a picture; none where pictures are not asked for."""


def picture_at(place: Place) -> bytes:
    """The encoded image file. Raises DataError naming file and row where there is none."""
    value = _pictures(place.path, place.group)[place.row].as_py()
    if not value:
        where = f"{place.path}, row {place.row} of group {place.group}, field {IMAGE}"
        raise Problem(where, "the picture is empty", _RESTORE).error()
    return bytes(value)


def arrow() -> Any:
    """The library that reads both kinds of files. Raises UnavailableError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        advice = "the tables of the vision-language sets need pyarrow: pip install 'eupe-eval[vlm]'."
        raise UnavailableError("package", advice) from error
    return pyarrow


# Four groups of about a hundred pictures each: neighbours are asked for together.
@lru_cache(maxsize=4)
def _pictures(path: Path, group: int) -> Any:
    """The encoded pictures of a group."""
    pyarrow = arrow()
    try:
        if path.suffix == ".arrow":
            return _batches(path)[group].column(IMAGE).flatten()[_bytes_at(_batches(path)[group].schema)]
        # Without threads of its own: the process may have been forked.
        table = pyarrow.parquet.ParquetFile(path).read_row_group(group, columns=[IMAGE], use_threads=False)
        return table[IMAGE].flatten()[_bytes_at(table.schema)]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


@lru_cache(maxsize=4)
def _batches(path: Path) -> list[Any]:
    """The record batches of an Arrow stream, mapped into memory."""
    pyarrow = arrow()
    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
        return list(stream)


def groups(path: Path, fields: Iterable[str], *, pictures: bool) -> Iterator[Group]:
    """The groups of a file, which must have the `fields`, and pictures if asked.

    Raises DataError naming the file, and the field that is missing or of another type.
    """
    pyarrow = arrow()
    wanted = [*fields, *([IMAGE] if pictures else [])]
    try:
        read = _arrow_groups if path.suffix == ".arrow" else _parquet_groups
        yield from read(path, wanted)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _parquet_groups(path: Path, wanted: Sequence[str]) -> Iterator[Group]:
    file = arrow().parquet.ParquetFile(path)
    _check_columns(path, file.schema_arrow, wanted)
    plain = [name for name in file.schema_arrow.names if name != IMAGE]
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=plain, use_threads=False).to_pylist()
        if IMAGE not in wanted or _complete(file.metadata.row_group(group)):
            yield Group(group, rows, [IMAGE in wanted] * len(rows))
        else:
            yield Group(group, rows, _present(_pictures(path, group)))


def _arrow_groups(path: Path, wanted: Sequence[str]) -> Iterator[Group]:
    for group, batch in enumerate(_batches(path)):
        _check_columns(path, batch.schema, wanted)
        rows = batch.select([name for name in batch.schema.names if name != IMAGE]).to_pylist()
        yield Group(group, rows, _present(_pictures(path, group)) if IMAGE in wanted else [False] * len(rows))


def _present(column: Any) -> list[bool]:
    return [bool(value) for value in column.is_valid().to_pylist()]


def _complete(group: Any) -> bool:
    """By its statistics, every row of a parquet group has a picture: spares the reading of all of them."""
    columns = (group.column(at) for at in range(group.num_columns))
    held = next((column for column in columns if column.path_in_schema == f"{IMAGE}.bytes"), None)
    statistics = held.statistics if held is not None else None
    return statistics is not None and statistics.has_null_count and statistics.null_count == 0


def _bytes_at(schema: Any) -> int:
    return int(schema.field(IMAGE).type.get_field_index("bytes"))


def _check_columns(path: Path, schema: Any, wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in schema.names:
            what = f"there is no field {name}; there are: {', '.join(schema.names) or 'none'}"
            raise Problem(str(path), what, _RESTORE).error()
    if IMAGE in wanted:
        types, kind = arrow().types, schema.field(IMAGE).type
        held = kind.field("bytes").type if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
        if held is kind or not (types.is_binary(held) or types.is_large_binary(held)):
            what = f"expected a struct of bytes and path, got {kind}"
            raise Problem(f"{path}, field {IMAGE}", what, _RESTORE).error()


def _unreadable(path: Path, error: Exception) -> Exception:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return Problem(str(path), f"cannot be read as a table ({reason})", _RESTORE).error()
