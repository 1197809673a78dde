"""What an embedded world must still hold: as many pictures and pairs as were rendered."""

import os
from collections.abc import Mapping
from pathlib import Path

from evals.datasets import ade20k, imagenet, nyuv2, spair
from evals.datasets.layout import Problem, home, read_text

WORLD_MEND = "The world is damaged: delete its folder, it is rendered again"
_EFFECT = "a score would be that of another data set under the name of the world"
_WORLD_NAMES = {"SPair-71k": "spair", "llava": "talks", "vlm": "talks"}
"""How the identity of a world calls a data folder, where it is not by its name."""
_PICTURES: Mapping[str, tuple[str, ...]] = {
    "imagenet": imagenet.PARTS,
    "ade20k": ("images",),
    "nyu": ("",),
    "SPair-71k": ("JPEGImages",),
}
"""Folders in which every JPEG counts."""


def rendered(name: str, world_counts: Mapping[str, int]) -> bool:
    """The world was rendered with the data folder `name`."""
    return world_counts.get(_WORLD_NAMES.get(name, name), 0) > 0


def losses(name: str, root: Path, world_counts: Mapping[str, int]) -> list[Problem]:
    """What the data folder `name` of an embedded world lacks or has too much; files are listed, none is opened but
    lists. Raises DataError for a list that cannot be read.
    """
    key = _WORLD_NAMES.get(name, name)
    # The vision-language sets name each of their pictures, so their examination misses one that is gone.
    if key not in world_counts or name not in _PICTURES:
        return []
    base = _home(name, root)
    counts = [("images", str(root), _jpegs(base, _PICTURES[name]), world_counts[key])]
    if name == "nyu":
        lists = [root / f"nyu_{part}.txt" for part in nyuv2.PARTS]
        lines = sum(_lines(path) for path in lists)
        counts.append(("lines in nyu_train.txt and nyu_test.txt", str(root), lines, world_counts[key]))
    if name == "SPair-71k":
        for part in spair.PARTS:
            folder = base / "PairAnnotation" / part
            counts.append(("pairs", str(folder), _files(folder), _lines(base / "Layout" / "large" / f"{part}.txt")))
    return [
        Problem(where, f"{found:,} {kind}, {made:,} were rendered", WORLD_MEND, _EFFECT)
        for kind, where, found, made in counts
        if found != made
    ]


def _home(name: str, root: Path) -> Path:
    if name == "ade20k":
        return home(root, ade20k.INNER, "images")
    return home(root, spair.INNER, "PairAnnotation") if name == "SPair-71k" else root


def _jpegs(base: Path, folders: tuple[str, ...]) -> int:
    return sum(
        file.lower().endswith((".jpg", ".jpeg")) and not file.startswith(".")
        for folder in folders
        for _, _, files in os.walk(base / folder)
        for file in files
    )


def _files(folder: Path) -> int:
    return (
        sum(path.suffix == ".json" and not path.name.startswith(".") for path in folder.iterdir())
        if folder.is_dir()
        else 0
    )


def _lines(path: Path) -> int:
    return sum(bool(line.strip()) for line in read_text(path).splitlines()) if path.is_file() else 0
