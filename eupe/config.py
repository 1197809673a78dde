"""What a training stage is: frozen dataclasses, each default written once, with where it comes from.

"row N" is the numbered list of choices in docs/training.md.
"""

import dataclasses
import hashlib
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from eupe.augment import Augment
from eupe.losses import Loss
from eupe.optim import Optimisation
from eupe.schedules import CosineRate
from eupe.statistics import FLOOR
from evals.encoders.exports.entry import is_export
from evals.errors import UsageError, unknown


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """A frozen encoder that teaches."""

    encoder: str
    """Anything that `eupe-eval run --encoder` takes: an entry, an export folder, `timm:<name>`."""
    side: int
    """Pixels of its input; in stage 3 the drawn scale stands in its place."""
    cls: str = "global"
    """`global`, `none`, `mean`, or a named alternative of the encoder (rows 9 and 10)."""
    cls_weight: float = 1.0
    patch_weight: float = 1.0
    """Gamma of the paper (section 6, row 35)."""
    weights: str | None = None
    """As `--weights`: a file, `hub` or `random`."""


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """A network that learns."""

    model: str
    """timm's name of the architecture."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What differs from timm's configuration of it (rows 23, 26 and 29)."""
    cls: Literal["global", "none"] = "global"
    """`none`: no head and no loss for class tokens (row 33)."""
    start: str | None = None
    """An export folder whose backbone and heads it starts from (row 32), or a file of its backbone's weights under
    timm's names (row 29); None: fresh weights."""
    shard: bool = False
    """Weights, gradients and moments are spread over the processes (FSDP2), for one too large for each to hold."""
    recompute: bool = False
    """Blocks are computed again in the backward pass instead of kept: less memory, a third more arithmetic."""


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Images to train on."""

    kind: Literal["folder", "tars", "parquet", "world"]
    root: str
    share: float = 1.0
    """Chance that a step's batch comes from here, or with `mixing: images` one of its images (row 30)."""


@dataclass(frozen=True, slots=True)
class StatisticsConfig:
    """How target statistics are measured before training (rows 5 to 7)."""

    batches: int = 500
    batch: int = 256
    floor: float = FLOOR
    """Least deviation of a coordinate, as a share of their median (row 6)."""


@dataclass(frozen=True, slots=True)
class SavingConfig:
    """Checkpoints."""

    every: int = 1000
    keep: int = 2


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Exports while a stage trains, and their scores (`configs/schedule`)."""

    every: int = 0
    """Steps from one export of each student to the next; 0: at the end alone."""
    watch: Mapping[str, Any] | None = None
    """Options of `eupe-eval watch`, which then scores every export once; None: nothing is scored."""
    background: bool = True
    """Scores are made beside the training; otherwise it waits for them, which a single process alone may do."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training."""

    name: str
    teachers: Mapping[str, TeacherConfig]
    students: Mapping[str, StudentConfig]
    sources: Mapping[str, SourceConfig]
    rate: CosineRate
    batch: int
    """Images a step, over all processes and micro-batches."""
    sides: tuple[int, ...] = (256,)
    """Pixels of the student's input; with several, one is drawn a step (row 31)."""
    teacher_sides: tuple[int, ...] = ()
    """Drawn for the teachers independently of the students; empty: each at its own side."""
    mixing: Literal["steps", "images"] = "steps"
    """Whether sources are drawn for whole batches or for each image (row 30)."""
    micro: int = 0
    """Images a process takes at once; 0: its whole share. Accumulation over them is exact."""
    hidden: int = 3072
    """Width of the adapter heads: 1536 in stage 1, 3072 in stages 2 and 3."""
    optimisation: Optimisation = field(default_factory=Optimisation)
    loss: Loss = field(default_factory=Loss)
    augment: Augment = field(default_factory=Augment)
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    saving: SavingConfig = field(default_factory=SavingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    gate: Mapping[str, float] = field(default_factory=dict)
    """Expert or skill -> least share of its score that a teacher that is an export must have kept (see `eupe.gate`)."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Of the arithmetic; weights, loss and statistics stay fp32 (row 25)."""
    rope_rescale: float = 2.0
    """Rotary coordinates of each block are scaled by up to this factor in training (row 23)."""
    heads_only: int = 0
    """Steps at the start in which only the heads learn (rows 28 and 32)."""
    average: float = 0.0
    """Decay of a moving average of the weights that is kept beside them (row 24); 0: none."""
    broken: float = 0.01
    """Largest share of unreadable images before training stops."""
    skip: tuple[tuple[int, int], ...] = ()
    """Ranges of steps [from, to) that are passed over."""
    licence: str = "own training"
    """What the exports say of the licence of their weights."""
    seed: int = 0
    workers: int = 4
    log_every: int = 50
    compile: bool = False
    """Blocks of teachers and students by `torch.compile`, once for every shape, before the first step."""
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Beside the JSON lines, which are always written."""
    peak: float | None = 0.0
    """TFLOP/s of a device at best, for the MFU of the log; 0: of a matrix product at the start; None: no MFU."""

    def __post_init__(self) -> None:
        problems = [
            (not self.teachers, "has no teacher"),
            (not self.students, "has no student"),
            (not self.sources, "has no source of images"),
            (self.batch < 1, "needs a batch of at least 1"),
            (abs(sum(source.share for source in self.sources.values()) - 1) > 1e-9, "has shares that do not sum to 1"),
            (not 0 <= self.average < 1, "has an average outside [0, 1)"),
            (self.schedule.every < 0, "has a schedule.every below 0"),
            (self.rope_rescale < 1, "has a rope_rescale below 1"),
            (self.statistics.floor <= 0, "has a statistics.floor that is not above 0"),
        ]
        wrong = [text for failed, text in problems if failed]
        if wrong:
            raise UsageError(f"stage {self.name!r} {'; '.join(wrong)}.")

    def share(self, ranks: int) -> int:
        """Images of a step on each process. Raises UsageError for a batch that does not divide."""
        share, rest = divmod(self.batch, ranks)
        if rest or (self.micro and share % self.micro):
            raise UsageError(
                f"stage {self.name!r}: a batch of {self.batch} does not divide into {ranks} processes"
                + (f" and micro-batches of {self.micro}." if self.micro else ".")
            )
        if self.statistics.batch % ranks:
            raise UsageError(
                f"stage {self.name!r}: a statistics.batch of {self.statistics.batch} does not divide into {ranks} "
                "processes."
            )
        return share

    def fingerprint(self) -> str:
        """sha256 of every key that decides what is learned: of all but how a run goes about it, and where data lies."""
        raw = dataclasses.asdict(self)
        for key in _CONDUCT:
            del raw[key]
        for config in raw["students"].values():
            del config["shard"], config["recompute"]
        for config in raw["sources"].values():
            del config["root"]
        for config in raw["teachers"].values():
            if is_export(config["encoder"]):
                # Its weights are compared themselves, wherever it lies.
                del config["encoder"]
        return hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def canvas(self) -> int:
        """Side of the shared crop: the largest that any model of the stage needs (row 12)."""
        teachers = self.teacher_sides or tuple(teacher.side for teacher in self.teachers.values())
        return max(*self.sides, *teachers)


_CONDUCT = (
    *("micro", "workers", "saving", "schedule", "gate", "broken", "skip"),
    *("licence", "log_every", "compile", "loggers", "peak"),
)
"""Keys of a stage that a run may change when it goes on."""


def read(kind: Any, raw: Any, where: str) -> Any:
    """A value of that type from plain data. Raises UsageError naming the key and what it takes."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if raw is None else read(next(part for part in inner if part is not type(None)), raw, where)
    if dataclasses.is_dataclass(kind) and isinstance(raw, Mapping):
        return _part(kind, raw, where)
    if origin is tuple and isinstance(raw, list | tuple):
        kinds = inner[:1] * len(raw) if len(inner) == 2 and inner[1] is Ellipsis else inner
        if len(kinds) == len(raw):
            return tuple(read(one, item, f"{where}[{at}]") for at, (one, item) in enumerate(zip(kinds, raw)))  # noqa: B905
    if origin is not None and isinstance(raw, Mapping) and len(inner) == 2:
        return {str(key): read(inner[1], item, f"{where}.{key}") for key, item in raw.items()}
    if kind is Any or (origin is Literal and raw in inner) or _fits(kind, raw):
        return float(raw) if kind is float else raw
    expected = " or ".join(map(str, inner)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise UsageError(f"{where} must be {expected}; got {raw!r}.")


def _part(kind: Any, raw: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    for key in raw:
        if key not in fields:
            raise unknown(f"key of {where}", str(key), list(fields))
    needed = [
        name
        for name, item in fields.items()
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING and name not in raw
    ]
    if needed:
        raise UsageError(f"{where} lacks {', '.join(needed)}.")
    return kind(**{name: read(hints[name], item, f"{where}.{name}") for name, item in raw.items()})


def _fits(kind: Any, raw: Any) -> bool:
    if isinstance(raw, bool):
        return kind is bool
    if kind is float:
        return isinstance(raw, int | float)
    return isinstance(kind, type) and isinstance(raw, kind)
