"""What the loaders share: problems and their words, the listing of folders, the reading of files."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from evals.errors import DataError, UnavailableError

STOPS = "the benchmarks on this set stop with this error; nothing is scored"
UNREADABLE = (OSError, UnidentifiedImageError, SyntaxError, ValueError)
"""What Pillow raises for files that are damaged or no images."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the files of a data set."""

    where: str
    """The file or folder, with the key or line in it."""
    what: str
    """What is wrong and what was expected."""
    mend: str
    effect: str = STOPS
    """What it does to the score."""
    severity: Literal["warning", "error"] = "error"

    def error(self) -> DataError:
        """The problem as the error that stops a benchmark."""
        return DataError(f"{self.where}: {self.what}. {self.mend}.")


Report = Callable[[Problem], object]
"""Receives each problem as it is found: loaders stop at the first one, a check collects all."""


def stop(problem: Problem) -> NoReturn:
    """The Report of the loaders: raises the problem as a DataError."""
    raise problem.error()


def home(root: Path, inner: str, marker: str) -> Path:
    """Where a data set lies: `root/inner` when that holds `marker` and `root` does not, else `root` itself."""
    within = root / inner
    return within if (within / marker).exists() and not (root / marker).exists() else root


def unavailable(title: str, lacking: Path, tree: str, source: str) -> UnavailableError:
    """The error for a data set, or a part of one, that is not there: the expected tree and how to obtain it."""
    shape = "\n".join(f"  {line}" for line in tree.strip().splitlines())
    return UnavailableError(
        "data",
        f"{title}: {lacking} is not there. Expected tree:\n{shape}\n"
        f"How to obtain it: {source}\nTo try everything without it: --data miniature.",
    )


def shown(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds but for hidden files, in no order. Raises DataError when it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        what = f"the folder cannot be listed ({error.strerror or error})"
        raise Problem(str(folder), what, "Make it readable").error() from error


def names(folder: Path, endings: tuple[str, ...], report: Report) -> list[str]:
    """Sorted names of a folder's files with one of the endings, in any case.

    Hidden files are what file browsers leave behind and no part of the set; every other stranger is a problem.
    """
    found = []
    for entry in shown(folder):
        if entry.name.lower().endswith(endings) and entry.is_file():
            found.append(entry.name)
        else:
            wanted = "/".join(endings)
            report(Problem(entry.path, f"only {wanted} files are expected here", "Remove it, or restore the file"))
    return sorted(found)


def read_text(path: Path) -> str:
    """A text file in UTF-8. Raises DataError naming a file that cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(
            str(path), f"cannot be read as text ({error})", "Restore the file, then run again"
        ).error() from error


def read_map(path: Path, kind: str) -> tuple[str, NDArray[Any]]:
    """Pillow's mode and the raw values of a label or depth image. Raises DataError for a missing or damaged file."""
    try:
        with Image.open(path) as image:
            return image.mode, np.asarray(image)
    except FileNotFoundError as error:
        raise Problem(str(path), f"the {kind} does not exist", "Restore the file, then run again").error() from error
    except UNREADABLE as error:
        what = f"the {kind} cannot be decoded ({error})"
        raise Problem(str(path), what, "It is damaged or no image: restore the file, then run again").error() from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from the header, without decoding. Raises DataError for a missing or foreign file."""
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError as error:
        raise Problem(str(path), "the image does not exist", "Restore the file, then run again").error() from error
    except UNREADABLE as error:
        what = f"the image cannot be opened ({error})"
        raise Problem(str(path), what, "It is damaged or no image: restore the file, then run again").error() from error
