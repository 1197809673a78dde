"""The reading of large JSON lists."""

import json
from pathlib import Path

import pytest

from evals.datasets import jsonlist
from evals.datasets.jsonlist import records
from evals.errors import DataError


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
def test_windows_of_any_size_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Where a window ends, inside of a record, an escape or a number, changes nothing."""
    made = [{"id": at, "text": 'ü "{[\n\\' * at, "deep": [{"x": -1.5e3}, None, True]} for at in range(9)]
    path = tmp_path / "list.json"
    monkeypatch.setattr(jsonlist, "CHUNK", chunk)
    for indent in (None, 2):
        path.write_text(json.dumps(made, indent=indent, ensure_ascii=indent is None) + "\n", encoding="utf-8")
        assert list(records(path)) == made


def test_an_empty_list_has_no_records(tmp_path: Path) -> None:
    """Nothing but brackets and white space is a list."""
    (tmp_path / "list.json").write_text(" [ \n ] ")
    assert list(records(tmp_path / "list.json")) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": 1}', "is no JSON list"),
        ("", "is no JSON list"),
        ("[1, 2]", "record 0 is no JSON object"),
        ('[{"a": 1}, ]', "record 1 is no JSON object"),
        ('[{"a": 1} {"a": 2}]', "the list breaks off or is damaged after record 0"),
        ('[{"a": 1}, {"a": 2}', "the list breaks off or is damaged after record 1"),
        ('[{"a": 1}, {"a": 2', "record 1 is damaged"),
        ('[{"a": 1}, {"a" 2}]', "record 1 is damaged"),
        ('[{"a": 1}] [', "something follows the end of the list"),
        ('[{"a": ' + "[" * 100_000, "record 0 is nested too deeply"),
    ],
)
def test_damaged_lists_are_named(tmp_path: Path, text: str, what: str) -> None:
    """The file and the number of the record stand in the error; records before it were given."""
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        list(records(path))
    assert str(caught.value).startswith(f"{path}: ")


def test_a_damaged_record_does_not_swallow_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that never ends is given up after `LONGEST` characters, not at the end of the file."""
    path = tmp_path / "list.json"
    path.write_text('[{"a": "' + "x" * 10_000)
    monkeypatch.setattr(jsonlist, "CHUNK", 10)
    monkeypatch.setattr(jsonlist, "LONGEST", 100)
    with pytest.raises(DataError, match="record 0 is damaged"):
        list(records(path))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, and a file that is not there."""
    (tmp_path / "list.json").write_bytes(b'[{"a": "\xff"}]')
    for name in ("list.json", "absent.json"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as text"):
            list(records(tmp_path / name))
