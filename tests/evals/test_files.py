"""Files are whole or absent, and digests are remembered only while they are true."""

import errno
import json
import os
from pathlib import Path

import pytest

from evals import files
from evals.errors import ResultsError
from evals.files import DigestMemo, sha256_file, write_atomic


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    """The new content stands alone in the folder."""
    path = tmp_path / "deep" / "a.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full while writing leaves the earlier file whole, no litter, and one clear message."""
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ResultsError, match=r"cannot write .*a\.json: No space left on device\. Free some space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_read_only_folder_is_named(tmp_path: Path) -> None:
    """A path that cannot be a folder gives a message with the path and the way out."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    for path in (blocker / "a.json", blocker / "deep" / "a.json"):
        with pytest.raises(ResultsError, match=r"cannot write .*A file stands where a folder is expected"):
            write_atomic(path, b"")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_place_that_may_not_be_written_asks_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Free space does not mend missing rights, and not every path is a result."""

    def refused(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "mkstemp", refused)
    with pytest.raises(ResultsError, match=r"cannot write .*not writable: choose another folder\.") as caught:
        write_atomic(tmp_path / "a.json", b"")
    assert "Free" not in str(caught.value)
    assert "--results" not in str(caught.value)


def test_digest_is_read_again_when_the_file_changes(tmp_path: Path) -> None:
    """The memory holds for the same size and time only, and survives in its file."""
    path, memory = tmp_path / "data", tmp_path / "memo.json"
    path.write_bytes(b"abc")
    memo = DigestMemo(memory)
    first = memo.digest(path)
    assert first == sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    memo.save()
    stat = path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert DigestMemo(memory).digest(path) == first, "same size and time: remembered"
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert DigestMemo(memory).digest(path) == sha256_file(path) != first


def test_broken_memory_is_forgotten(tmp_path: Path) -> None:
    """A damaged memory file costs time, not correctness."""
    memory, path = tmp_path / "memo.json", tmp_path / "data"
    memory.write_text("{ not json")
    path.write_bytes(b"abc")
    assert DigestMemo(memory).digest(path) == sha256_file(path)


@pytest.mark.parametrize("entry", [None, [], [3], [3, 5, "ab"], [3, 5, None], ["3", 5, "0" * 64], {"a": 1}, "x" * 64])
def test_a_broken_entry_of_the_memory_is_forgotten(tmp_path: Path, entry: object) -> None:
    """Nothing but size, time and a digest is believed, even under the right path, size and time."""
    memory, path = tmp_path / "memo.json", tmp_path / "data"
    path.write_bytes(b"abc")
    os.utime(path, ns=(5, 5))
    memory.write_text(json.dumps({str(path.resolve()): entry}))
    assert DigestMemo(memory).digest(path) == sha256_file(path)
