"""Fingerprints, even parts, and the reading of images."""

import shutil
from pathlib import Path

import pytest

from evals.datasets import base
from evals.datasets.base import evenly, evenly_by_group, fingerprint, read_rgb
from evals.errors import DataError
from evals.files import DigestMemo


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_fingerprint_follows_one_byte(imagenet_root: Path) -> None:
    """One changed byte of one file gives another fingerprint."""
    files = _files(imagenet_root)
    before = fingerprint(files, imagenet_root, DigestMemo(None))
    content = bytearray(files[3].read_bytes())
    content[-1] ^= 1
    files[3].write_bytes(bytes(content))
    assert fingerprint(files, imagenet_root, DigestMemo(None)) != before


def test_fingerprint_does_not_follow_the_place(imagenet_root: Path, tmp_path: Path) -> None:
    """The same files elsewhere have the same fingerprint; a renamed file has not."""
    before = fingerprint(_files(imagenet_root), imagenet_root, DigestMemo(None))
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(imagenet_root, copy)
    assert fingerprint(_files(copy), copy, DigestMemo(None)) == before
    (copy / "labels.txt").rename(copy / "labels2.txt")
    assert fingerprint(_files(copy), copy, DigestMemo(None)) != before


def test_fingerprint_of_large_sets_reads_one_file_in_64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digests: DigestMemo
) -> None:
    """Above the limit a changed size or a changed 65th file shows, whatever the other contents are."""
    monkeypatch.setattr(base, "FULL_READ_BYTES", 10)
    files = [tmp_path / f"{index:03d}" for index in range(70)]
    for file in files:
        file.write_bytes(b"ab")
    before = fingerprint(files, tmp_path, DigestMemo(None))
    files[1].write_bytes(b"xy")
    assert fingerprint(files, tmp_path, DigestMemo(None)) == before
    files[64].write_bytes(b"xy")
    assert fingerprint(files, tmp_path, DigestMemo(None)) != before
    files[64].write_bytes(b"ab")
    files[1].write_bytes(b"xyz")
    assert fingerprint(files, tmp_path, DigestMemo(None)) != before


def test_evenly() -> None:
    """Even distances, counted by hand; all when there are fewer."""
    assert evenly(10, 4) == [0, 2, 5, 7]
    assert evenly(3, 5) == [0, 1, 2]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (3, [0, 4, 7]),  # one of each
        (2, [0, 4]),  # groups 0 and 1: a turn of two over three groups takes positions 0 and 1
        (5, [0, 2, 4, 5, 7]),  # group 2 has only one to give
        (6, [0, 1, 2, 4, 5, 7]),
        (99, [0, 1, 2, 3, 4, 5, 6, 7]),
        (0, []),
    ],
)
def test_evenly_by_group(keep: int, expected: list[int]) -> None:
    """Groups of 4, 3 and 1 members take turns; members are spread evenly."""
    assert evenly_by_group([0, 0, 0, 0, 1, 1, 1, 2], keep) == expected


def test_a_truncated_image_is_named(imagenet_root: Path) -> None:
    """Half of a JPEG file is an error that names it, not a grey picture."""
    path = next((imagenet_root / "val").rglob("*.JPEG"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=path.name):
        read_rgb(path)
    with pytest.raises(DataError, match="does not exist"):
        read_rgb(path.with_name("absent.jpg"))
