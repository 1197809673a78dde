"""Rows and pictures of tables, and the splits made of them."""

import builtins
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evals.datasets.base import Split
from evals.datasets.vlm import files, realworldqa, textvqa
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo
from tests.evals.datasets.vlm.rows import realworldqa_rows, table, textvqa_rows, write_parquet, write_saved


def _root(tmp_path: Path, changed: pa.Table, name: str = "test.parquet") -> Path:
    (tmp_path / "RealWorldQA").mkdir(exist_ok=True)
    pq.write_table(changed, tmp_path / "RealWorldQA" / name)
    return tmp_path


def test_rows_and_pictures_over_shards(vlm_root: Path, digests: DigestMemo) -> None:
    """Rows keep the order of the shards, every field but the picture is plain, and pictures are theirs."""
    split, rows = textvqa.load(vlm_root, digests), textvqa_rows()
    assert isinstance(split, Split)
    assert (split.dataset, split.split, len(split), split.n_original, split.limited) == (
        "textvqa", "validation", 5, 5, False,
    )  # fmt: skip
    for at, row in enumerate(rows):
        question = split[at]
        assert question.picture == row["image"]["bytes"]
        assert dict(question.row) == {name: value for name, value in row.items() if name != "image"}
        assert question.id == str(row["question_id"])


def test_pictures_are_read_lazily(vlm_root: Path, digests: DigestMemo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a parquet set reads no picture where its statistics say that all are there."""
    read = []
    inner = files._pictures
    monkeypatch.setattr(files, "_pictures", lambda *place: read.append(place) or inner(*place))
    split = textvqa.load(vlm_root, digests)
    assert read == []
    assert split[3].picture
    assert len(read) == 1


def test_files_without_statistics_are_read(tmp_path: Path, digests: DigestMemo) -> None:
    """Nothing is taken for granted: the null is found either way."""
    rows = realworldqa_rows()
    rows[1]["image"] = None
    (tmp_path / "RealWorldQA").mkdir()
    for statistics in (True, False):
        pq.write_table(table(rows), tmp_path / "RealWorldQA" / "test.parquet", write_statistics=statistics)
        with pytest.raises(DataError, match=r"row 1, field image: the row has no picture"):
            realworldqa.load(tmp_path, digests)


def test_pictures_by_path_alone_are_none(tmp_path: Path, digests: DigestMemo) -> None:
    """A table that names files of another machine has no pictures; the bytes must be inside."""
    rows = realworldqa_rows()
    rows[2]["image"]["bytes"] = None
    with pytest.raises(DataError, match=r"test.parquet, row 2, field image: the row has no picture"):
        realworldqa.load(_root(tmp_path, table(rows)), digests)


def test_empty_pictures_are_named_when_read(tmp_path: Path, digests: DigestMemo) -> None:
    """A picture of no bytes is an error with its file and row."""
    rows = realworldqa_rows()
    rows[2]["image"]["bytes"] = b""
    split = realworldqa.load(_root(tmp_path, table(rows)), digests)
    with pytest.raises(DataError, match=r"test.parquet, row 2 of group 0, field image: the picture is empty"):
        split[2]


@pytest.mark.parametrize("name", ["question", "answer", "image"])
def test_fields_that_are_not_there(tmp_path: Path, digests: DigestMemo, name: str) -> None:
    """One error with the file, the field, and those that are there."""
    root = _root(tmp_path, table(realworldqa_rows()).drop_columns([name]))
    with pytest.raises(DataError, match=rf"test.parquet: there is no field {name}; there are: "):
        realworldqa.load(root, digests)


@pytest.mark.parametrize("value", [None, "", "  ", 7])
def test_fields_of_another_kind(tmp_path: Path, digests: DigestMemo, value: Any) -> None:
    """The row is counted in its own file; what was expected and what was found."""
    rows = realworldqa_rows(4)
    _root(tmp_path, table(rows[:2]), "test-00000-of-00002.parquet")
    broken = [{**row, "question": value if at == 1 else (8 if value == 7 else "a")} for at, row in enumerate(rows[2:])]
    root = _root(tmp_path, table(broken), "test-00001-of-00002.parquet")
    row = 0 if value == 7 else 1
    with pytest.raises(DataError, match=rf"00001-of-00002.parquet, row {row}, field question: expected text"):
        realworldqa.load(root, digests)


@pytest.mark.parametrize("kind", [pa.binary(), pa.struct([("path", pa.string())]), pa.struct([("bytes", pa.string())])])
def test_columns_of_pictures_of_another_type(tmp_path: Path, digests: DigestMemo, kind: pa.DataType) -> None:
    """Bare bytes, paths alone and texts are no pictures as the hub stores them."""
    plain = table(realworldqa_rows()).drop_columns(["image"])
    root = _root(tmp_path, plain.append_column("image", pa.nulls(3, kind)))
    with pytest.raises(DataError, match="field image: expected a struct of bytes and path, got"):
        realworldqa.load(root, digests)


@pytest.mark.parametrize("layout", ["parquet", "arrow"])
def test_files_that_are_no_tables(tmp_path: Path, digests: DigestMemo, layout: str) -> None:
    """Damaged files are named, with what the reader says."""
    folder = tmp_path / "RealWorldQA"
    (write_parquet if layout == "parquet" else write_saved)(folder, "test", realworldqa_rows())
    path = next(folder.glob(f"*.{layout}"))
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match=r"cannot be read as a table \(") as caught:
        realworldqa.load(tmp_path, digests)
    assert str(caught.value).startswith(str(path))


def test_tables_without_rows(tmp_path: Path, digests: DigestMemo) -> None:
    """A set of no questions is none."""
    root = _root(tmp_path, table(realworldqa_rows()).slice(0, 0))
    with pytest.raises(DataError, match="holds no question of realworldqa"):
        realworldqa.load(root, digests)


def test_ids_occur_once(tmp_path: Path, digests: DigestMemo) -> None:
    """Answers are joined with questions by id, so two rows of one id are an error."""
    rows = textvqa_rows()
    rows[3]["question_id"] = rows[1]["question_id"]
    write_parquet(tmp_path / "textvqa", "validation", rows)
    with pytest.raises(DataError, match=r"row 1: 2 rows have the id 34603; expected one"):
        textvqa.load(tmp_path, digests)


@pytest.mark.parametrize(
    ("n", "kept"), [(1, [0]), (2, [0, 2]), (3, [0, 1, 3]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_limits_are_spread_evenly(vlm_root: Path, digests: DigestMemo, n: int, kept: Sequence[int]) -> None:
    """Floor of i·5/n for i below n, counted by hand; a part has a fingerprint of its own, the whole its own."""
    whole = textvqa.load(vlm_root, digests)
    part = whole.limit(n)
    assert [part[at].id for at in range(len(part))] == [whole[at].id for at in kept]
    assert part.limited == (n < 5)
    assert (part.fingerprint == whole.fingerprint) == (n >= 5)
    assert part.images.fingerprint == part.fingerprint
    assert part.n_original == 5


def test_fingerprints_are_of_contents(tmp_path: Path, digests: DigestMemo) -> None:
    """Other names of the same files change nothing; another answer does."""
    rows = realworldqa_rows()
    write_parquet(tmp_path / "a" / "RealWorldQA" / "data", "test", rows, 2)
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "RealWorldQA").rename(tmp_path / "b" / "realworldqa")
    first = realworldqa.load(tmp_path / "b", digests).fingerprint
    write_parquet(tmp_path / "c" / "RealWorldQA", "test", rows, 2)
    rows[1]["answer"] = "B"
    write_parquet(tmp_path / "d" / "RealWorldQA", "test", rows, 2)
    assert realworldqa.load(tmp_path / "c", digests).fingerprint == first
    assert realworldqa.load(tmp_path / "d", digests).fingerprint != first


def test_without_the_reading_library(vlm_root: Path, digests: DigestMemo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is unavailable, with the extra that brings it."""
    real = builtins.__import__

    def blocked(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(UnavailableError, match=r"eupe-eval\[vlm\]") as caught:
        textvqa.load(vlm_root, digests)
    assert caught.value.missing == "package"


def test_modules_load_without_the_reading_library() -> None:
    """A check of other sets must not need pyarrow; it is imported where a table is read."""
    import subprocess

    code = "import sys; import evals.datasets.check; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
