"""The cache can be measured and made smaller; only what can be made again goes."""

import errno
import os
from pathlib import Path

import pytest

from evals import cache as cache_module
from evals.cache import clear, parse_size, parts, prune
from evals.errors import ResultsError, UsageError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Features of two encoders (the first used longer ago), a world, text vectors and unfinished work."""
    sizes = {
        "features/a/w/p/d/shard-00000.safetensors": 1000,
        "features/b/w/p/d/shard-00000.safetensors": 500,
        "miniature/v3-tiny-s0/miniature.json": 50,
        "text/vectors.safetensors": 20,
        "work/job/head.pt": 10,
    }
    for age, (name, size) in enumerate(sizes.items()):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
        os.utime(path, (1000 + age, 1000 + age))
    return tmp_path


def test_parts(cache: Path) -> None:
    """Each piece with its size."""
    assert {part.name: part.bytes for part in parts(cache)} == {
        "features/a/w/p/d": 1000,
        "features/b/w/p/d": 500,
        "miniature/v3-tiny-s0": 50,
        "text/vectors.safetensors": 20,
        "work/job": 10,
    }


def test_clear_keeps_worlds_unless_asked(cache: Path) -> None:
    """All but the world goes, then the world."""
    assert clear(cache) == 1530
    assert [part.name for part in parts(cache)] == ["miniature/v3-tiny-s0"]
    assert clear(cache, worlds=True) == 50
    assert parts(cache) == []


def test_clear_of_one_encoder(cache: Path) -> None:
    """Nothing of another encoder is touched."""
    assert clear(cache, encoder="b") == 500
    assert "features/a/w/p/d" in {part.name for part in parts(cache)}


def test_prune_takes_what_was_used_longest_ago(cache: Path) -> None:
    """1,580 bytes into 600: the older features go, and that is enough."""
    assert prune(cache, 600) == 1000
    assert "features/b/w/p/d" in {part.name for part in parts(cache)}
    assert prune(cache, 600) == 0


def test_prune_to_nothing_leaves_worlds_alone(cache: Path) -> None:
    """Text vectors and leftover work go like features; a world stays."""
    assert prune(cache, 0) == 1530
    assert [part.name for part in parts(cache)] == ["miniature/v3-tiny-s0"]


def test_clear_of_an_unknown_encoder(cache: Path) -> None:
    """A slip of the pen is not 0 bytes freed; an encoder of the suite without features is."""
    with pytest.raises(UsageError, match=r"unknown encoder 'eupe-vit-bb'\. Nearest: eupe-vit-b"):
        clear(cache, encoder="eupe-vit-bb")
    assert clear(cache, encoder="eupe-vit-b") == clear(cache, encoder="timm:vit_x") == 0


def test_a_cache_that_cannot_be_changed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clearing and pruning say what stands in the way."""

    def refused(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(cache_module.shutil, "rmtree", refused)
    for delete in (clear, lambda folder: prune(folder, 0)):
        with pytest.raises(ResultsError, match=r"cannot delete .*features/a/w/p/d: Read-only file system"):
            delete(cache)


@pytest.mark.parametrize(("text", "size"), [("20GB", 20_000_000_000), ("1.5 kb", 1500), ("7", 7), ("2T", 2 * 10**12)])
def test_sizes(text: str, size: int) -> None:
    """Units of people."""
    assert parse_size(text) == size


def test_a_size_without_meaning() -> None:
    """One message with an example."""
    with pytest.raises(UsageError, match="500MB or 20GB; got 'lots'"):
        parse_size("lots")
