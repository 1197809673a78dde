"""A stage of training, from its configuration to its last checkpoint: the whole flow on one screen."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from eupe import export, measure, origins
from eupe.average import Average
from eupe.checkpoint import Identity, Saver, checkpoints, read_manifest, restore
from eupe.config import Stage
from eupe.data.base import Source, digest_of
from eupe.data.loader import Batch, Crops, batches
from eupe.data.open import open_sources
from eupe.log import Log
from eupe.meter import Meter, peak
from eupe.optim import Guard
from eupe.parallel import compile_blocks, halve, recompute, spread
from eupe.plan import Costs, costs
from eupe.processes import Stop, World
from eupe.sampling import Mixture, StepSampler
from eupe.start import begin
from eupe.step import Pupil, Standard, sides_of, train_step, warm_up
from eupe.students import Architecture, Learner, learner
from eupe.teachers import Teacher
from evals.context import BarFactory
from evals.encoders.load import digest, load
from evals.encoders.registry import resolve
from evals.errors import DataError, ResultsError
from evals.files import DigestMemo, write_atomic

_MEASURING = 1_000_003
"""Added to the seed of the images on which statistics are measured, so that training does not repeat them."""
STATISTICS = "statistics.safetensors"
STAGE = "stage.json"
"""The configuration of the run, every default written out."""


@dataclass(slots=True)
class Run:
    """A stage that has been set up."""

    stage: Stage
    folder: Path
    world: World
    teachers: Mapping[str, Teacher]
    standards: Mapping[str, Standard]
    pupils: Mapping[str, Pupil]
    sources: list[Source]
    identity: Identity
    costs: Costs | None
    """What its steps cost, where the log is to tell MFU."""
    done: int = 0
    """Steps that lie behind."""
    broken: int = 0
    """Images that could not be read."""
    notes: list[str] = field(default_factory=list)
    """What there is to tell of how it was set up."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; never a teacher."""
        found = {}
        for name, pupil in self.pupils.items():
            weights, optimiser = get_state_dict(pupil.wrapped, pupil.optimiser, options=_OPTIONS)
            found[name] = {"learner": weights, "optimiser": optimiser, "skipped": pupil.guard.skipped}
            if pupil.average is not None:
                found[name]["average"] = pupil.average.weights
        return found


_OPTIONS = StateDictOptions(flatten_optimizer_state_dict=True)


def set_up(stage: Stage, folder: Path, world: World, bar: BarFactory) -> Run:
    """Load teachers, measure or read their statistics, build students, and go to the last checkpoint of the folder.

    Raises ResultsError where the folder belongs to another run, UsageError for a batch that does not divide.
    """
    stage.share(world.ranks)
    sources = open_sources(stage.sources)
    teachers = {name: _teacher(stage, name, world) for name in stage.teachers}
    weights = {name: digest(teacher.encoder) for name, teacher in teachers.items()}
    for teacher in teachers.values():
        halve(teacher.encoder, stage.dtype)
    learners = {name: _learner(stage, name, teachers) for name in stage.students}
    lineage = {name: origins.origin(stage, name, teacher) for name, teacher in teachers.items()}
    export.check(stage, learners, lineage)
    notes = [] if checkpoints(folder) else _begin(stage, learners)
    standards = _standards(stage, folder, world, teachers, weights, sources, bar)
    for made in learners.values():
        made.to(world.device).train()
    networks = {name: teacher.encoder for name, teacher in teachers.items()}
    counted = None if stage.peak is None else costs(stage, networks, learners)
    pupils = {name: _pupil(stage, name, made, world) for name, made in learners.items()}
    identity = Identity(
        config=stage.fingerprint(),
        teachers=weights,
        statistics=hashlib.sha256((folder / STATISTICS).read_bytes()).hexdigest(),
        data=digest_of(source.digest for source in sources),
    )
    run = Run(stage, folder, world, teachers, standards, pupils, sources, identity, counted, notes=notes)
    _resume(run)
    if world.first:
        # Not before: a folder of another run keeps what it says.
        origins.write(folder, lineage)
        write_atomic(folder / STAGE, json.dumps(asdict(stage), indent=1).encode())
    return run


def train(
    run: Run,
    log: Log | None,
    bar: BarFactory,
    stop: Stop,
    until: int | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Train to the end of the stage (or to step `until`), saving as configured, at the end, and when asked to stop.

    Raises DataError when too many images are broken, NumericsError when a student cannot go on.
    """
    stage, world = run.stage, run.world
    end = min(stage.rate.steps, until or stage.rate.steps)
    steps = [step for step in range(run.done, end) if not any(start <= step < to for start, to in stage.skip)]
    saver = Saver(run.folder, run.identity, keep=stage.saving.keep)
    meter = Meter(stage.batch, None if stage.peak is None else peak(stage.peak, world.device, stage.dtype))
    if stage.compile and steps:
        taught = [pupil.learner for pupil in run.pupils.values()]
        compile_blocks([*(teacher.encoder for teacher in run.teachers.values()), *taught])
        at_once = stage.micro or stage.share(world.ranks)
        warm_up(stage, at_once, world.device, run.teachers, run.standards, run.pupils)
    with bar(stage.name, len(steps)) as progress:
        for step, batch in zip(steps, meter.waiting(_images(stage, run.sources, world, steps)), strict=True):
            _count_broken(run, batch)
            images, clean = batch.on(world.device)
            numbers = train_step(stage, step, images, run.teachers, run.standards, run.pupils, clean)
            meter.add(numbers, run.costs.image(*sides_of(stage, step)) if run.costs else 0.0)
            # What is passed over at the end lies behind as well.
            run.done = end if step == steps[-1] else step + 1
            last = step == steps[-1] or stop.agreed(world)
            if last or run.done % stage.log_every == 0:
                line = meter.line(world, rate=stage.rate.at(step, stage.batch), broken=run.broken)
                if log is not None:
                    log.write(step, line)
                for pupil in run.pupils.values():
                    pupil.guard.check()
            if last or run.done % stage.saving.every == 0:
                saver.save(run.done, run.state())
            after_step()
            progress.update(1)
            if last:
                break
    saver.finish()


def export_student(run: Run, name: str, folder: Path) -> None:
    """Write the export of a student as it is now. Every process must call it; the first one writes.

    The others wait for no more than that. Raises as `export.write` does.
    """
    pupil = run.pupils[name]
    state = export.whole_state(pupil)
    try:
        if run.world.first:
            notes = {"step": run.done, "identity": asdict(run.identity)}
            teachers = origins.read(run.folder)
            export.write(folder, run.stage, name, pupil.learner, state, run.standards, teachers, notes)
    finally:
        run.world.wait()


def _teacher(stage: Stage, name: str, world: World) -> Teacher:
    config = stage.teachers[name]
    encoder = load(resolve(config.encoder, weights=config.weights, seed=stage.seed), DigestMemo(None))
    return Teacher(name, encoder.to(world.device), cls=config.cls, side=config.side, dtype=stage.dtype)


def _standards(
    stage: Stage,
    folder: Path,
    world: World,
    teachers: Mapping[str, Teacher],
    weights: Mapping[str, str],
    sources: list[Source],
    bar: BarFactory,
) -> dict[str, Standard]:
    """Statistics of this run: of its file, or measured now. Never measured again on resuming."""
    path, config = folder / STATISTICS, stage.statistics
    run = digest_of([stage.fingerprint(), *(source.digest for source in sources)])
    # Nothing was learned from what an attempt of another configuration left here.
    stale = path.is_file() and not checkpoints(folder) and not measure.of_run(path, run)
    if stale or not path.is_file():
        aside = replace(stage, seed=stage.seed + _MEASURING, batch=config.batch)
        with bar(f"{stage.name}: statistics of the teachers", config.batches) as progress:
            images = _images(aside, sources, world, range(config.batches))
            measured = measure.measure(aside, teachers, images, world.device, progress.update)
        if world.first:
            folder.mkdir(parents=True, exist_ok=True)
            measure.write(path, measured, weights, run)
        world.wait()
    return {name: standard.to(world.device) for name, standard in measure.read(path, weights).items()}


def _learner(stage: Stage, name: str, teachers: Mapping[str, Teacher]) -> Learner:
    config = stage.students[name]
    targets = {key: teacher.target().asked(config.cls) for key, teacher in teachers.items()}
    return learner(Architecture(config.model, config.options), targets, hidden=stage.hidden, seed=stage.seed)


def _begin(stage: Stage, learners: Mapping[str, Learner]) -> list[str]:
    """Fill students from the exports that they start from; what there is to tell."""
    notes = []
    for name, made in learners.items():
        config = stage.students[name]
        fresh = begin(made, config, name) if config.start is not None else []
        if fresh:
            notes.append(f"{name} starts from {config.start} with fresh heads for {', '.join(fresh)}.")
    return notes


def _pupil(stage: Stage, name: str, made: Learner, world: World) -> Pupil:
    config = stage.students[name]
    if config.recompute:
        recompute(made)
    wrapped = spread(made, world, shard=config.shard, dtype=stage.dtype)
    optimiser = stage.optimisation.build(made)
    guard = Guard(name, made, optimiser, stage.optimisation.clip)
    return Pupil(name, made, wrapped, optimiser, guard, Average(made, stage.average) if stage.average else None)


def _resume(run: Run) -> None:
    """Go on from the last checkpoint of the folder. Raises ResultsError for one of another run."""
    found = checkpoints(run.folder)
    if not found:
        return
    step, identity = read_manifest(found[-1])
    if differing := run.identity.differences(identity):
        raise ResultsError(
            f"{run.folder} holds another run: {', '.join(differing)} changed since step {step}. Train into another "
            "folder, or put back what was changed."
        )
    state = run.state()
    restore(found[-1], state)
    for name, pupil in run.pupils.items():
        saved = state[name]
        set_state_dict(
            pupil.wrapped,
            pupil.optimiser,
            model_state_dict=saved["learner"],
            optim_state_dict=saved["optimiser"],
            options=_OPTIONS,
        )
        pupil.guard.skipped = saved["skipped"]
    run.done = step


def _images(stage: Stage, sources: list[Source], world: World, steps: Sequence[int]) -> Iterator[Batch]:
    shares = tuple(config.share for config in stage.sources.values())
    counts = tuple(len(source) for source in sources)
    mixture = Mixture(counts, shares, stage.seed, whole=stage.mixing == "steps")
    sampler = StepSampler(mixture, steps, batch=stage.batch, rank=world.rank, ranks=world.ranks)
    crops = Crops(sources, stage.augment, stage.canvas, stage.seed)
    return batches(crops, sampler, workers=stage.workers, pin=world.device.type == "cuda")


def _count_broken(run: Run, batch: Batch) -> None:
    """Raises DataError when the share of broken images passes the limit of the stage."""
    run.broken += len(batch.broken)
    seen = (run.done + 1) * run.stage.batch / run.world.ranks
    if run.broken > max(1.0, run.stage.broken * seen):
        raise DataError(
            f"{run.broken} of {seen:.0f} images could not be read, more than a share of {run.stage.broken}; "
            f"the last: {batch.broken[-1]}"
            if batch.broken
            else "too many images could not be read."
        )
