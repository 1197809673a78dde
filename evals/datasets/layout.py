"""What the loaders share: problems and their words, the listing of folders, the reading of files."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from evals.errors import DataError, UnavailableError

STOPS = "the benchmarks on this set stop with this error; nothing is scored"
ARCHIVE = "Restore the file from the original archive"
_UNREADABLE = (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged, no images, or too large to be any."""


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

    def error(self) -> "ProblemError":
        """The problem as the error that stops a benchmark."""
        return ProblemError(f"{self.where}: {self.what}. {self.mend}.", self)


class ProblemError(DataError):
    """A problem that stops a benchmark; a check takes it apart again."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        # The message alone must do: the processes that read images send errors on as their text.
        super().__init__(message)
        self.problem = problem


class AbsentError(UnavailableError):
    """A data set, or a part of one, that is not there."""

    def __init__(self, title: str, lacking: Path, advice: str) -> None:
        super().__init__("data", f"{title}: {lacking} is not there. {advice}")
        self.lacking = lacking
        self.advice = advice
        """The expected tree and how to obtain it."""


Report = Callable[[Problem], object]
"""Receives each problem as it is found: loaders stop at the first one, a check collects all."""


def stop(problem: Problem) -> NoReturn:
    """The Report of the loaders: raises the problem as a DataError."""
    raise problem.error()


def home(root: Path, inner: str, marker: str) -> Path:
    """Where a data set lies: `root/inner` when that holds `marker` and `root` does not, else `root` itself."""
    within = root / inner
    return within if (within / marker).exists() and not (root / marker).exists() else root


def unavailable(title: str, lacking: Path, tree: str, source: str) -> AbsentError:
    """The error for a data set, or a part of one, that is not there: the expected tree and how to obtain it."""
    shape = "\n".join(f"  {line}" for line in tree.strip().splitlines())
    advice = f"Expected tree:\n{shape}\nHow to obtain it: {source}\nTo try everything without it: --data miniature."
    return AbsentError(title, lacking, advice)


def shown(folder: Path, report: Report) -> list[os.DirEntry[str]]:
    """What a folder holds but for hidden files, in no order. Raises DataError when it cannot be listed.

    Names that are no UTF-8 are a problem: no record, cache or message could hold them.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        what = f"the folder cannot be listed ({error.strerror or error})"
        raise Problem(str(folder), what, "Make it readable").error() from error
    for entry in found:
        if not _is_utf8(entry.name):
            what = f"the name {entry.name!a} is no UTF-8"
            report(Problem(str(folder), what, "Give the file its original name, or remove it"))
    return [entry for entry in found if _is_utf8(entry.name)]


def _is_utf8(name: str) -> bool:
    # Bytes that are no UTF-8 come from the file system as lone surrogates.
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def names(folder: Path, endings: tuple[str, ...], report: Report) -> list[str]:
    """Sorted names of a folder's files with one of the endings, in any case.

    Hidden files are what file browsers leave behind and no part of the set; every other stranger is a problem.
    """
    found = []
    for entry in shown(folder, report):
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
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Problem(str(path), f"cannot be read as text ({reason})", "Restore the file").error() from error


@contextmanager
def opened(path: Path, kind: str) -> Iterator[Image.Image]:
    """An image, label or depth file in Pillow's hands; `kind` names it in errors.

    Raises DataError for a file that is missing, damaged, no image or too large, here or in what is done with it.
    """
    try:
        with warnings.catch_warnings():
            # Some ImageNet files carry broken EXIF blocks, and photographs may be large; their pixels are whole.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except FileNotFoundError as error:
        raise _unread(path, kind, "does not exist") from error
    except _UNREADABLE as error:
        raise _unread(path, kind, f"cannot be decoded: {_reason(error)}") from error


def _unread(path: Path, kind: str, what: str) -> ProblemError:
    return ProblemError(f"{kind} {path} {what}. {ARCHIVE}.", Problem(str(path), f"the {kind} {what}", ARCHIVE))


def _reason(error: Exception) -> str:
    """What Pillow says, without the path that the problem names already."""
    if isinstance(error, UnidentifiedImageError):
        return "it is damaged or no image"
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error).rstrip(".")


def read_map(path: Path, kind: str) -> tuple[str, NDArray[Any]]:
    """Pillow's mode and the raw values of a label or depth image. Raises DataError for a missing or damaged file."""
    with opened(path, kind) as image:
        return image.mode, np.asarray(image)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from the header, without decoding. Raises DataError for a missing or foreign file."""
    with opened(path, "image") as image:
        return image.size
