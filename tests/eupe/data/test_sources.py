"""Sources of images: the same pictures as files, in tar shards and in parquet."""

import gzip
import io
import multiprocessing
import os
import pickle
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from eupe.config import SourceConfig
from eupe.data import folder, parquet, tars
from eupe.data.base import Source, pixels
from eupe.data.open import open_sources
from evals.context import silent_bar
from evals.errors import DataError, UnavailableError

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
    tars.make_index(root, silent_bar)


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


def test_shards_want_an_index_that_is_theirs(tmp_path: Path) -> None:
    """Absent, broken, of another folder, of shards that changed or are gone: each is said, with what makes it anew."""
    root = tmp_path / "x"
    as_tars(root, pictures())
    index, about = (root / "index.npy").read_bytes(), (root / "index.json").read_bytes()

    def refused(words: str) -> None:
        tars._entries.cache_clear()
        with pytest.raises(DataError, match=rf"source web: .*{words}.*eupe-train index .*x"):
            tars.open_source("web", root)
        (root / "index.npy").write_bytes(index)
        (root / "index.json").write_bytes(about)

    (root / "index.npy").unlink()
    refused("have no index")
    (root / "index.npy").write_bytes(index[:100])
    refused("cannot be read")
    np.save(root / "index.npy", np.zeros((3, 2)))
    refused(r"cannot be read \(it holds float64")
    np.save(root / "index.npy", np.zeros(3, tars.ENTRY))
    refused("is not the one that its index.json describes")
    (root / "index.json").write_text("[]")
    refused("index.json cannot be read")
    (root / "1.tar").rename(tmp_path / "1.tar")
    refused("1.tar was indexed and is gone")
    (tmp_path / "1.tar").rename(root / "2.tar")
    refused("2.tar changed after it was indexed")
    (root / "2.tar").rename(root / "1.tar")
    tars._entries.cache_clear()
    assert len(tars.open_source("web", root)) == COUNT
    later = (root / "index.npy").stat().st_mtime_ns + 10**9
    os.utime(root / "0.tar", ns=(later, later))
    refused("0.tar changed after it was indexed")


def test_shards_that_are_not_whole_are_not_indexed(tmp_path: Path) -> None:
    """Cut inside a member, compressed, or without an image."""
    root = tmp_path / "x"
    as_tars(root, pictures())
    whole = (root / "0.tar").read_bytes()
    (root / "0.tar").write_bytes(whole[:700])
    with pytest.raises(DataError, match=r"0\.tar ends inside 0\.png"):
        tars.make_index(root, silent_bar)
    (root / "0.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(DataError, match=r"0\.tar is no whole, uncompressed tar file"):
        tars.make_index(root, silent_bar)
    (tmp_path / "y").mkdir()
    with tarfile.open(tmp_path / "y" / "0.tar", "w"):
        pass
    with pytest.raises(DataError, match="hold no image"):
        tars.make_index(tmp_path / "y", silent_bar)


def test_a_shard_that_was_cut_later_breaks_its_images_alone(tmp_path: Path) -> None:
    """Reading past its end is a broken image, named, not silence."""
    as_tars(tmp_path / "x", pictures())
    source = tars.open_source("x", tmp_path / "x")
    os.truncate(tmp_path / "x" / "1.tar", 600)
    with pytest.raises(DataError, match=r"1\.tar at byte 512 is no image .*the shard ends"):
        pixels(source, 4)
    assert source.read(3) == pictures()[3]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"picture": [b"x"]}, "has no column `image`; it has: picture"),
        ({"image": ["a path"]}, "must hold the bytes of image files, or a struct with them; it holds string"),
        ({"image": [{"path": "a"}]}, "it holds struct<path: string>"),
    ],
)
def test_parquet_without_images_is_refused(columns: dict[str, list[object]], words: str, tmp_path: Path) -> None:
    """Before training, with what the file has instead."""
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "0.parquet")
    with pytest.raises(DataError, match=f"source web: .*0.parquet.*{words}"):
        parquet.open_source("web", tmp_path)
    (tmp_path / "0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is no parquet file"):
        parquet.open_source("web", tmp_path)


def test_a_row_without_bytes_is_a_broken_image(tmp_path: Path) -> None:
    """Named by file, row and group."""
    table = pyarrow.table({"image": [{"bytes": pictures()[0], "path": None}, {"bytes": None, "path": "elsewhere"}]})
    pyarrow.parquet.write_table(table, tmp_path / "0.parquet")
    with pytest.raises(DataError, match=r"0\.parquet, row 1 of group 0 is no image .*holds no bytes"):
        pixels(parquet.open_source("x", tmp_path), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_travels_without_its_content(kind: str, tmp_path: Path) -> None:
    """What a spawned worker is sent is small, whatever was read before, and reads the same images."""
    write, open_source = KINDS[kind]
    write(tmp_path / "x", pictures())
    source = open_source("x", tmp_path / "x")
    source.read(0)
    sent = pickle.dumps(source)
    assert len(sent) < 2000
    arrived: Source = pickle.loads(sent)
    assert [arrived.read(item) for item in range(COUNT)] == pictures()


@pytest.mark.parametrize(
    ("kind", "start"),
    [*((kind, "fork") for kind in KINDS), *(pytest.param(kind, "spawn", marks=pytest.mark.slow) for kind in KINDS)],
)
def test_workers_read_what_the_process_would(kind: str, start: str, tmp_path: Path) -> None:
    """Two workers, forked after the source was read from, or started afresh."""
    write, open_source = KINDS[kind]
    write(tmp_path / "x", pictures())
    source = open_source("x", tmp_path / "x")
    alone = [source.read(item) for item in range(COUNT)]
    with multiprocessing.get_context(start).Pool(2) as pool:
        assert pool.map(source.read, [*range(COUNT)] * 3, chunksize=1) == alone * 3


def test_a_source_of_a_package_that_is_not_there_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of other kinds do not need it."""
    monkeypatch.delitem(sys.modules, "eupe.data.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnavailableError, match="source web of kind parquet needs a package: pip install pyarrow"):
        open_sources({"web": SourceConfig("parquet", "nowhere")})
