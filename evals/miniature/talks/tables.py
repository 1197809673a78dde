"""Parquet files in the row schemas of the six published sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from evals.errors import UnavailableError

__all__ = ["Row", "picture", "write_table"]

Row = dict[str, Any]
_GROUP = 50
"""Rows a row group: a reader that wants one picture decodes no more than these."""


def write_table(path: Path, rows: Sequence[Row], fields: Mapping[str, str]) -> None:
    """Write rows; `fields` gives the type of each column: "text", "number", "flag", "texts", "image" or "types".

    Raises UnavailableError without pyarrow. The bytes are the same for the same rows and version of pyarrow.
    """
    pa, parquet = _arrow()
    named = {
        "text": pa.string(),
        "number": pa.int64(),
        "flag": pa.bool_(),
        "texts": pa.list_(pa.string()),
        "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        "types": pa.struct([("structural", pa.string()), ("semantic", pa.string()), ("detailed", pa.string())]),
    }
    schema = pa.schema([(name, named[kind]) for name, kind in fields.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, row_group_size=_GROUP)


def picture(root: Path, record: Mapping[str, Any]) -> Row:
    """The picture of a description as a cell: the bytes of its file, and a name."""
    path = root / record["image"]
    return {"bytes": path.read_bytes(), "path": f"{record['kind']}_{path.name}"}


def _arrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UnavailableError(
            "package", f"the tables of the vision-language sets need pyarrow ({error}): pip install 'eupe-eval[vlm]'"
        ) from error
    return pa, parquet
