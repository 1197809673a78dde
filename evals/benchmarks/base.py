"""The contract of a benchmark: a frozen dataclass whose fields are the protocol's constants, and one method.

A benchmark is one file of this package. Its module imports no torch at the top, so that listing, status and a run with
nothing to do stay light; what computes is imported inside `run`.
"""

import dataclasses
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from evals.constants import describe, fits
from evals.context import Context, Roots
from evals.datasets.base import Split
from evals.errors import UsageError, unknown
from evals.files import DigestMemo
from evals.miniature.world import world_name
from evals.record import EncoderCard, Score

if TYPE_CHECKING:
    import numpy as np

    from evals.features import FeatureRequest, FeatureStore
    from evals.types import Encoder, ImageSpec

STANDARD_WORLD = world_name("small", 0)
"""The embedded world that the protocol `miniature` means."""

Family = Literal["image", "dense", "vlm", "cost"]


@dataclass(frozen=True, slots=True)
class Work:
    """Forward passes that a benchmark will make, for the estimate before a run."""

    images: int
    rows: int
    columns: int
    prompts: int = 0
    """Texts that a text tower encodes beside the images."""


@dataclass(frozen=True, slots=True)
class Job:
    """One benchmark of one encoder: everything `run` may use."""

    encoder: "Encoder"
    features: "FeatureStore"
    splits: tuple[Split, ...]
    """What `Benchmark.splits` returned."""
    context: Context
    checkpoints: Path
    """A folder of this job alone, for work that can be resumed; emptied when the job has succeeded."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a benchmark found."""

    metrics: tuple[Score, ...]
    samples: "Mapping[str, np.ndarray]" = field(default_factory=dict)
    """Per-sample outputs, enough to recompute every metric: written beside the record as npz."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    """The geometry as it was applied, both sizes where the encoder's patch moved one."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """Fields are protocol constants; their defaults are the default protocol's, each documented under the field."""

    id: ClassVar[str]
    """`dataset-method`, as typed on the command line."""
    title: ClassVar[str]
    """Short column title of the tables."""
    family: ClassVar[Family]
    version: ClassVar[int] = 1
    """Grows when the same constants can give another score."""
    folder: ClassVar[str | None] = None
    """Name of the data folder (imagenet, ade20k, nyu, SPair-71k); None: needs no data."""
    published: ClassVar[Mapping[str, int]] = {}
    """Split -> its published number of items (images; pairs for correspondence)."""
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Protocol -> constants that depart from the field defaults; the first is the default on real data."""

    reads_text: ClassVar[bool] = False
    """It needs prompts in the space of the images."""
    may_be_zero: ClassVar[frozenset[str]] = frozenset()
    """Numbers that may be 0; every other one must be above."""

    dtype: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the encoder; fp32 with TF32 off is the standard."""
    limit: int | None = None
    """At most this many items of each split; a limited result is never standard."""

    @classmethod
    def of(cls, protocol: str | None, *, world: bool = False, **changes: Any) -> "tuple[str, Self]":
        """The benchmark under a protocol (None: the default for real data or for the embedded world), with changes.

        Raises UsageError for a protocol or key that does not exist.
        """
        name = protocol or ("miniature" if world and "miniature" in cls.protocols else cls.default())
        if name not in cls.protocols:
            raise unknown(f"protocol of {cls.id}", name, list(cls.protocols))
        kinds = {f.name: f.type for f in dataclasses.fields(cls)}
        for key, value in changes.items():
            if key not in kinds:
                raise unknown(f"key of {cls.id}", key, list(kinds))
            zero = key in cls.may_be_zero
            if not fits(kinds[key], value, zero=zero):
                raise UsageError(f"{cls.id}.{key} must be {describe(kinds[key], zero=zero)}; got {value!r}.")
        return name, cls(**{**cls.protocols[name], **changes})

    @classmethod
    def default(cls) -> str:
        """The protocol on real data."""
        return next(iter(cls.protocols))

    def changed(self, protocol: str) -> dict[str, Any]:
        """Constants that depart from the named protocol."""
        standard = type(self)(**self.protocols[protocol])
        pairs = ((f.name, getattr(self, f.name), getattr(standard, f.name)) for f in dataclasses.fields(self))
        return {name: mine for name, mine, theirs in pairs if mine != theirs}

    def params(self) -> dict[str, Any]:
        """Every constant, by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def contents(self) -> dict[str, Any]:
        """What is behind constants that name something else, such as a file: a record of other contents is another."""
        return {}

    def training(self, encoder: str, cache: Path) -> str:
        """What is trained before anything is scored and can take days; empty where nothing is."""
        return ""

    def complete(self, protocol: str, splits: Sequence[Split], world: str | None) -> bool:
        """These are the data that the protocol means, all of them.

        `miniature` means the default embedded world; every other protocol means the published data set in full.
        """
        if any(split.limited for split in splits):
            return False
        if protocol == "miniature" or not splits:
            return not splits or world == STANDARD_WORLD
        counts = all(self.published.get(split.split) == len(split) for split in splits)
        return world is None and counts and self.authentic(splits)

    def authentic(self, splits: Sequence[Split]) -> bool:
        """What must hold of the published data beside their counts."""
        return True

    def skip(self, card: EncoderCard) -> str | None:
        """Why this encoder cannot take this benchmark, in the table's words (`no cls`, `no txt`); None if it can."""
        return None

    @abstractmethod
    def splits(self, roots: Roots, digests: DigestMemo) -> tuple[Split, ...]:
        """The checked splits it reads, limited if asked. Raises UnavailableError or DataError."""

    def requests(self, spec: "ImageSpec", splits: Sequence[Split]) -> "tuple[FeatureRequest, ...]":
        """The features it will ask the store for, so that benchmarks can share passes."""
        return ()

    @abstractmethod
    def work(self, spec: "ImageSpec", splits: Sequence[Split]) -> tuple[Work, ...]:
        """The forward passes to come."""

    @abstractmethod
    def run(self, job: Job) -> Outcome:
        """Score the encoder."""


def names() -> list[str]:
    """Ids of every benchmark: one a module of this package."""
    package = importlib.import_module("evals.benchmarks")
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("base"))


def find(name: str) -> type[Benchmark]:
    """The class of a benchmark by its id. Raises UsageError with the nearest names."""
    if name not in names():
        raise unknown("benchmark", name, names())
    module = importlib.import_module(f"evals.benchmarks.{name.replace('-', '_')}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Benchmark) and getattr(value, "id", None) == name:
            return value
    raise UsageError(f"module {module.__name__} defines no benchmark with id {name!r}.")


def take(split: Split, limit: int | None) -> Split:
    """The split, limited if asked."""
    return split if limit is None else split.limit(limit)
