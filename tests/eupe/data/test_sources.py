"""Sources of images: the same pictures as files, in tar shards and in parquet."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from eupe.data import folder, parquet, tars
from eupe.data.base import Source, pixels
from evals.errors import DataError

COUNT = 7


def pictures() -> list[bytes]:
    """Small PNG files that all differ."""
    draws, made = np.random.default_rng(0), []
    for _ in range(COUNT):
        buffer = io.BytesIO()
        Image.fromarray(draws.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(buffer, "PNG")
        made.append(buffer.getvalue())
    return made


def as_folder(root: Path, contents: list[bytes]) -> None:
    """Files of two folders, with one that is no image."""
    for number, content in enumerate(contents):
        path = root / ("a" if number < 3 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "a" / "notes.txt").write_text("no image")


def as_tars(root: Path, contents: list[bytes]) -> None:
    """Two shards with a text beside every image."""
    root.mkdir(parents=True)
    for shard, part in (("0.tar", contents[:4]), ("1.tar", contents[4:])):
        with tarfile.open(root / shard, "w") as archive:
            for number, content in enumerate(part):
                for name, data in ((f"{number}.png", content), (f"{number}.txt", b"a caption")):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


def as_parquet(root: Path, contents: list[bytes]) -> None:
    """Two files of row groups of two."""
    root.mkdir(parents=True)
    for name, part in (("0.parquet", contents[:5]), ("1.parquet", contents[5:])):
        table = pyarrow.table(
            {"image": [{"bytes": content, "path": None} for content in part], "label": [0] * len(part)}
        )
        pyarrow.parquet.write_table(table, root / name, row_group_size=2)


KINDS: dict[str, tuple[Callable[[Path, list[bytes]], None], Callable[[str, Path], Source]]] = {
    "folder": (as_folder, folder.open_source),
    "tars": (as_tars, tars.open_source),
    "parquet": (as_parquet, parquet.open_source),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_at_its_number(kind: str, tmp_path: Path) -> None:
    """In the order of names, whatever it is read from; opened again it is the same list with the same digest."""
    write, open_source = KINDS[kind]
    write(tmp_path / "x", pictures())
    source = open_source("x", tmp_path / "x")
    assert len(source) == COUNT
    assert [source.read(item) for item in range(COUNT)] == pictures()
    assert pixels(source, 6).shape == (3, 9, 11)
    assert pixels(source, 6).dtype == torch.uint8
    assert open_source("x", tmp_path / "x").digest == source.digest
    assert source.read(3) == pictures()[3]


@pytest.mark.parametrize("kind", KINDS)
def test_another_list_has_another_digest(kind: str, tmp_path: Path) -> None:
    """One image less is noticed."""
    write, open_source = KINDS[kind]
    write(tmp_path / "x", pictures())
    write(tmp_path / "y", pictures()[:-1])
    assert open_source("x", tmp_path / "x").digest != open_source("x", tmp_path / "y").digest


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_is_not_there_says_what_was_expected(kind: str, tmp_path: Path) -> None:
    """No folder, and an empty one."""
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        with pytest.raises(DataError, match=rf"source web: .*{name}"):
            KINDS[kind][1]("web", tmp_path / name)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    """By its path, or by shard and offset."""
    broken = [*pictures()[:2], b"no image"]
    as_folder(tmp_path / "x", broken)
    with pytest.raises(DataError, match=r"a/2\.png is no image"):
        pixels(folder.open_source("x", tmp_path / "x"), 2)
    as_tars(tmp_path / "y", broken)
    with pytest.raises(DataError, match=r"0\.tar at byte \d+ is no image"):
        pixels(tars.open_source("y", tmp_path / "y"), 2)


def test_an_index_is_made_once_and_again_for_another_shard(tmp_path: Path) -> None:
    """The index beside a shard serves the next opening; a shard that was written later is indexed anew."""
    as_tars(tmp_path / "x", pictures())
    one = tars.open_source("x", tmp_path / "x")
    index = tmp_path / "x" / "0.index.npy"
    stamp = index.stat().st_mtime_ns
    assert tars.open_source("x", tmp_path / "x").digest == one.digest
    assert index.stat().st_mtime_ns == stamp
    (tmp_path / "x" / "0.tar").unlink()
    as_tars(tmp_path / "y", pictures()[3:])
    (tmp_path / "y" / "0.tar").rename(tmp_path / "x" / "0.tar")
    (tmp_path / "x" / "0.tar").touch()
    assert tars.open_source("x", tmp_path / "x").read(0) == pictures()[3]
