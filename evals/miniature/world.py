"""Make a world on disk, and recognise one."""

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from evals.errors import ResultsError, UsageError, unknown
from evals.miniature import ade20k, imagenet, notices, nyu, spair
from evals.miniature.sizes import SIZES, Size
from evals.miniature.talks import build as talks

__all__ = [
    "SCENES",
    "SIZES",
    "VERSION",
    "Identity",
    "Progress",
    "Size",
    "images",
    "is_whole",
    "make",
    "read_identity",
    "world_name",
]

VERSION = 4
"""Raised whenever any file of any world changes."""

Progress = Callable[[int, int], None]
"""Told how many images are done, and of how many."""

_CARD = "miniature.json"
SCENES = "scenes.jsonl"
"""Descriptions of pictures, a line each."""
_SETS: Mapping[str, ModuleType] = MappingProxyType(
    {"imagenet": imagenet, "ade20k": ade20k, "nyu": nyu, "spair": spair, "notices": notices, "talks": talks}
)
_COUNTED: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "imagenet": (("imagenet", ".JPEG"),),
        "ade20k": ((f"{ade20k.FOLDER}/images", ".jpg"), (f"{ade20k.FOLDER}/annotations", ".png")),
        "nyu": (("nyu", ".jpg"), ("nyu", ".png")),
        "spair": (
            (f"{spair.FOLDER}/JPEGImages", ".jpg"),
            (f"{spair.FOLDER}/Segmentation", ".png"),
            (f"{spair.FOLDER}/ImageAnnotation", ".json"),
        ),
        "notices": ((notices.FOLDER, ".jpg"),),
    }
)
"""Folders below which a set has one file of this ending for each of its images."""
_LISTS = ("imagenet/labels.txt", f"{ade20k.FOLDER}/objectInfo150.txt", f"{ade20k.FOLDER}/sceneCategories.txt")
_DESCRIBED = ("imagenet", "ade20k", "nyu", "notices", "talks")
_CHUNK = 20


@dataclass(frozen=True, slots=True)
class Identity:
    """What a world is: its files follow from version, seed and size; the fingerprint (sha256) says that they do.
    `counts` are images a set.
    """

    version: int
    seed: int
    size: str
    counts: Mapping[str, int]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Images `first` to `last` (exclusive) of a set, to be rendered by one process."""

    partial: Path
    kind: str
    size: str
    seed: int
    first: int
    last: int

    @property
    def done(self) -> Path:
        """Where the descriptions of the finished chunk are kept."""
        return self.partial / "done" / f"{self.kind}-{self.first:06d}.jsonl"


def world_name(size: str, seed: int) -> str:
    """Folder name of a world, such as "v4-small-s0"."""
    return f"v{VERSION}-{size}-s{seed}"


def images(size: str) -> int:
    """Number of pictures of a world of that size."""
    return sum(module.count(SIZES[size]) for module in _SETS.values())


def make(
    root: Path,
    *,
    size: str = "small",
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Render the world of (VERSION, seed, size) into `root` and return `root`; at once if it is already there.

    The files are made beside `root` and moved there when complete; a later call goes on where a killed one was.
    `workers` processes (default: one per CPU) give the same bytes as one. `progress(done, total)` is called with
    numbers of images. Raises UsageError for an unknown size, a negative seed, or a `root` that holds something else;
    ResultsError when the files cannot be written.
    """
    if size not in SIZES:
        raise unknown("world size", size, list(SIZES))
    if seed < 0:
        raise UsageError(f"seed of the embedded world is {seed}, expected 0 or more.")
    if _holds(root, size, seed):
        return root
    try:
        _make(root, size, seed, workers or os.cpu_count() or 1, progress)
    except OSError as error:
        raise ResultsError(
            f"cannot write the embedded world to {root}: {error}. Free space or give another folder; "
            "a later call goes on."
        ) from error
    return root


def _make(root: Path, size: str, seed: int, workers: int, progress: Progress | None) -> None:
    """Render beside `root`, then move the whole world into place."""
    partial = root.parent / f".{root.name}.{world_name(size, seed)}.partial"
    with _locked(partial / "lock"):
        # Another process may have finished while this one waited.
        if not _holds(root, size, seed):
            world = partial / "world"
            if not world.exists():
                shutil.rmtree(partial / "done", ignore_errors=True)
            (partial / "done").mkdir(parents=True, exist_ok=True)
            _render_all(partial, size, seed, workers, progress)
            _finish(world, partial, size, seed)
            world.rename(root)
        shutil.rmtree(partial, ignore_errors=True)


def read_identity(root: Path) -> Identity | None:
    """The identity of the world at `root`, or None when there is no complete world."""
    try:
        card = json.loads((Path(root) / _CARD).read_text(encoding="utf-8"))
        return Identity(
            int(card["version"]), int(card["seed"]), str(card["size"]), dict(card["counts"]), str(card["fingerprint"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_whole(root: Path) -> bool:
    """Whether a complete world is at `root` and no file was added to it or lost since.

    Every set has as many images, label and depth maps, masks and annotations as the identity counts, the lists are
    there, and pairs and depth frames are as many as theirs name. Folders are listed and those lists read; a file
    whose content was changed is not noticed.
    """
    identity = read_identity(root)
    if identity is not None and "talks" in identity.counts:
        return (root / SCENES).is_file() and talks.is_whole(root, identity.counts["talks"])
    if identity is None or not all((root / name).is_file() for name in (*_LISTS, SCENES)):
        return False
    for kind, places in _COUNTED.items():
        if any(_files(root / folder, ending) != identity.counts.get(kind, 0) for folder, ending in places):
            return False
    frames = sum(_lines(root / nyu.FOLDER / f"nyu_{split}.txt") for split in ("train", "test"))
    base = root / spair.FOLDER
    return frames == identity.counts["nyu"] and all(
        _files(base / "PairAnnotation" / split, ".json") == _lines(base / "Layout" / "large" / f"{split}.txt")
        for split in spair.SPLITS
    )


def _files(folder: Path, ending: str) -> int:
    """Number of files below a folder, without what file browsers hide there."""
    return sum(name.endswith(ending) and not name.startswith(".") for _, _, files in os.walk(folder) for name in files)


def _lines(path: Path) -> int:
    """Lines of a list; -1 where it cannot be read, which no number of files equals."""
    try:
        return len(path.read_bytes().splitlines())
    except OSError:
        return -1


def _holds(root: Path, size: str, seed: int) -> bool:
    """Whether the wanted world is at `root`; raises UsageError when something else is."""
    found = read_identity(root)
    if found is not None and (found.version, found.seed, found.size) == (VERSION, seed, size):
        return True
    if found is not None:
        raise UsageError(
            f"{root} holds the embedded world v{found.version}-{found.size}-s{found.seed}, wanted "
            f"{world_name(size, seed)}. Give another folder or delete this one."
        )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(
            f"{root} exists and is no embedded world ({_CARD} is missing or unreadable). Give an empty or new folder."
        )
    return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One maker at a time; the lock dies with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _chunks(partial: Path, size: str, seed: int) -> list[_Chunk]:
    return [
        _Chunk(partial, kind, size, seed, first, min(first + _CHUNK, module.count(SIZES[size])))
        for kind, module in _SETS.items()
        for first in range(0, module.count(SIZES[size]), _CHUNK)
    ]


def _render_chunk(chunk: _Chunk) -> int:
    """Render one chunk and return its number of images; the descriptions are written last, so a chunk that has them
    is complete.
    """
    module, world = _SETS[chunk.kind], chunk.partial / "world"
    lines = [
        json.dumps(module.write(world, SIZES[chunk.size], chunk.seed, index)) + "\n"
        for index in range(chunk.first, chunk.last)
    ]
    draft = chunk.done.with_suffix(".draft")
    draft.write_text("".join(lines), encoding="utf-8")
    draft.replace(chunk.done)
    return chunk.last - chunk.first


def _render_all(partial: Path, size: str, seed: int, workers: int, progress: Progress | None) -> None:
    chunks = _chunks(partial, size, seed)
    total = sum(chunk.last - chunk.first for chunk in chunks)
    waiting = [chunk for chunk in chunks if not chunk.done.exists()]
    done = total - sum(chunk.last - chunk.first for chunk in waiting)

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    advance(0)
    workers = min(workers, len(waiting))
    if workers <= 1:
        for chunk in waiting:
            advance(_render_chunk(chunk))
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for images in pool.imap_unordered(_render_chunk, waiting):
            advance(images)


def _finish(world: Path, partial: Path, size: str, seed: int) -> None:
    """Write what needs all images: lists, pairs, descriptions, and last of all the identity."""
    records: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _SETS}
    for chunk in _chunks(partial, size, seed):
        with chunk.done.open(encoding="utf-8") as lines:
            records[chunk.kind] += [json.loads(line) for line in lines]
    for kind, module in _SETS.items():
        if records[kind]:
            module.finish(world, SIZES[size], seed, records[kind])
    with (world / SCENES).open("w", encoding="utf-8") as out:
        for kind in _DESCRIBED:
            out.writelines(json.dumps(record) + "\n" for record in records[kind])
    counts = {kind: len(found) for kind, found in records.items() if found}
    identity = Identity(VERSION, seed, size, counts, _fingerprint(world))
    (world / _CARD).write_text(json.dumps(asdict(identity), indent=2) + "\n", encoding="utf-8")


def _fingerprint(world: Path) -> str:
    """sha256 over the sorted relative paths and the contents of all files but the identity itself."""
    digest = hashlib.sha256()
    files = sorted(path.relative_to(world).as_posix() for path in world.rglob("*") if path.is_file())
    for name in files:
        if name != _CARD:
            content = (world / name).read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()
