"""Where and how a run happens. Nothing here but the seed may move a score."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from evals.errors import UnavailableError
from evals.files import DigestMemo


class Bar(Protocol):
    """A progress bar that can be advanced."""

    def update(self, n: int = 1) -> object:
        """Advance by n."""


BarFactory = Callable[[str, int], AbstractContextManager[Bar]]


class _Silent:
    def update(self, n: int = 1) -> None: ...

    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *exc: object) -> None: ...


def silent_bar(title: str, total: int) -> AbstractContextManager[Bar]:
    """No progress bar."""
    return _Silent()


@dataclass(frozen=True, slots=True)
class Roots:
    """Folders of the data sets, by name: imagenet, ade20k, nyu, SPair-71k, llava, vlm."""

    folders: Mapping[str, Path]
    world: str | None = None
    """Identity of the embedded world if the folders are its own, None for real data."""

    def of(self, name: str) -> Path:
        """The folder of a data set. Raises UnavailableError when none is configured."""
        if name not in self.folders:
            raise UnavailableError(
                "data",
                f"no folder is configured for {name!r}: set EUPE_EVAL_DATA (a folder that holds {name}/), pass --data, "
                f"or set paths.{name}. To try everything without data: --data miniature.",
            )
        return self.folders[name]


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of a run."""

    roots: Roots
    results: Path
    cache: Path
    device: str = "cpu"
    batch: int = 32
    """Images a forward pass; results do not depend on it beyond rounding."""
    workers: int = 0
    """Processes that decode images; 0 decodes in the main process."""
    seed: int = 0
    """Seeds everything the protocol draws."""
    bar: BarFactory = silent_bar
    digests: DigestMemo = field(default_factory=lambda: DigestMemo(None))


def batches(n: int, size: int) -> Iterable[range]:
    """0 .. n-1 in consecutive ranges of at most `size`."""
    return (range(start, min(start + size, n)) for start in range(0, n, size))
