"""What every split of every data set offers, and the reading of images. Neither torch nor pandas is imported here."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from evals.datasets.layout import opened
from evals.files import DigestMemo

FULL_READ_BYTES = 8 << 30
"""Sets up to this size are fingerprinted by the content of every file; larger ones by every name and size and the
content of one file in 64."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a split, in its order: all that feature extraction needs to know."""

    name: str
    paths: tuple[Path, ...]
    fingerprint: str

    def part(self, kept: Sequence[int]) -> "Images":
        """Some of the images, with a fingerprint of their own."""
        paths = tuple(self.paths[index] for index in kept)
        return replace(self, paths=paths, fingerprint=sub_fingerprint(self.fingerprint, kept))


@dataclass(frozen=True, slots=True)
class Split(ABC):
    """A loaded, checked split. Subclasses add labels; every sequence in them has the order of `images`."""

    dataset: str
    """Name of the data set in records: imagenet-1k, ade20k, nyuv2, spair-71k."""
    split: str
    images: Images
    fingerprint: str
    """Digest of images, labels and lists."""
    n_original: int

    def __len__(self) -> int:
        return len(self.images.paths)

    @property
    def limited(self) -> bool:
        """A part of the split only, so never a standard result."""
        return len(self) < self.n_original

    @abstractmethod
    def limit(self, n: int) -> Self:
        """At most `n` items, spread evenly (by class where there are classes), with a fingerprint of its own."""


def fingerprint(files: Sequence[Path], root: Path, digests: DigestMemo, *, extra: str = "") -> str:
    """Digest of relative names, sizes and contents (all of them, or one in 64 above `FULL_READ_BYTES`)."""
    total = hashlib.sha256(extra.encode())
    sizes = [path.stat().st_size for path in files]
    prefix = f"{root}{os.sep}"
    step = 1 if sum(sizes) <= FULL_READ_BYTES else 64
    for index, (path, size) in enumerate(zip(files, sizes, strict=True)):
        content = digests.digest(path) if index % step == 0 else ""
        # Path.relative_to is slow, and ImageNet would ask a million times.
        name = str(path).removeprefix(prefix).replace(os.sep, "/")
        total.update(f"{name}\0{size}\0{content}\n".encode())
    return total.hexdigest()


def sub_fingerprint(whole: str, kept: Sequence[int]) -> str:
    """Fingerprint of a part of a split."""
    return hashlib.sha256(f"{whole}:{','.join(map(str, kept))}".encode()).hexdigest()


def read_rgb(path: Path) -> Image.Image:
    """Decode an image completely, as RGB. Raises DataError naming a missing, truncated, oversized or foreign file."""
    with opened(path, "image") as image:
        return image.convert("RGB")


def evenly(n: int, keep: int) -> list[int]:
    """`keep` indices of 0 .. n-1 at even distances (all when there are fewer)."""
    return list(range(n)) if keep >= n else [int(i) for i in np.floor(np.arange(keep) * n / keep)]


def evenly_by_group(groups: Sequence[int], keep: int) -> list[int]:
    """`keep` indices, ascending: groups take turns until all have given what they have, each spread evenly inside.

    Of a last turn that does not reach every group, the groups are spread evenly too.
    """
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    quota = dict.fromkeys(sorted(members), 0)
    left = min(keep, len(groups))
    while left:
        waiting = [group for group in quota if quota[group] < len(members[group])]
        for position in evenly(len(waiting), left):
            quota[waiting[position]] += 1
        left -= min(left, len(waiting))
    return sorted(members[group][i] for group, n in quota.items() for i in evenly(len(members[group]), n))
