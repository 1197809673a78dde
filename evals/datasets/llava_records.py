"""LLaVA's two files as splits: counted and told apart, so that a score knows what its model has learnt from."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from evals.datasets.base import Images, Split
from evals.datasets.llava import PUBLISHED, Stage, file_of
from evals.errors import UnavailableError
from evals.files import DigestMemo

__all__ = ["PUBLISHED", "Records", "records"]

_KEY = b'"conversations"'
"""Every record has it once."""


@dataclass(frozen=True, slots=True)
class Records(Split):
    """The records of a stage; their texts and pictures are read when a model is trained."""

    def __len__(self) -> int:
        return self.n_original

    def limit(self, n: int) -> Self:
        """All of them: fewer would be another training."""
        return self


def records(root: Path, stage: Stage, digests: DigestMemo) -> Records:
    """The records below the folder `llava`. Raises UnavailableError where the file is not there."""
    path = file_of(root, stage)
    if not path.is_file():
        raise UnavailableError(
            "data", f"{path} is not there: a vision-language model is trained on it. See docs/vision-language.md."
        )
    fingerprint = digests.digest(path)
    return Records("llava-1.5", stage, Images(f"llava-{stage}", (), fingerprint), fingerprint, _count(path))


def _count(path: Path) -> int:
    """How often the key stands in the file, without reading it as JSON: the published files have a gigabyte."""
    if not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        count, at = 0, content.find(_KEY)
        while at >= 0:
            count, at = count + 1, content.find(_KEY, at + 1)
        return count
