"""What the verbs of the command line do: worlds, plans, progress and messages around `evals.run`."""

import contextlib
import json
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evals import compose, show
from evals.compose import Settings
from evals.context import Context, Roots, silent_bar
from evals.encoders.clip.vocabulary import fetch_text
from evals.encoders.entry import EncoderEntry
from evals.encoders.locate import fetch
from evals.errors import DataError, EvalError, UnavailableError, UsageError
from evals.files import DigestMemo, write_atomic
from evals.miniature import world
from evals.plan import Step, plan
from evals.progress import bar, follow
from evals.record import Record
from evals.run import Bench, evaluate

if TYPE_CHECKING:
    from evals.datasets.check import Finding

_TALKS = {"small": "talks", "tiny": "talks-tiny"}
"""Size of an embedded world -> that of its part for vision-language models."""
LONG = 2 * 3600
"""Seconds above which a run wants `--yes`."""


@dataclass(slots=True)
class Session:
    """One call of `eupe-eval run`."""

    settings: Settings
    entries: Sequence[EncoderEntry]
    overwrite: bool = False
    quiet: bool = False
    as_json: bool = False

    def dry_run(self) -> int:
        """Print the plan; render, load and compute nothing. Exit code 1 if something is missing."""
        steps, _ = self._plan(render=False)
        print(show.plan(steps).text())
        for message in _messages(steps):
            print(f"\n{message}")
        return 1 if _messages(steps) else 0

    def run(self, *, yes: bool) -> int:
        """Do what is left to do. Returns the exit code: 1 if anything failed or is missing."""
        warnings.formatwarning = _one_line
        steps, context = self._plan(render=True)
        _must_be_writable(context.results)
        bench = self._ask(steps, context, yes)
        if self.as_json:
            print(json.dumps({"event": "launch", "steps": [show.step(step) for step in steps]}), flush=True)
        started = time.monotonic()
        outcomes = [self._report(step, record) for step, record in evaluate(steps, context, bench)]
        if self.as_json:
            seconds = round(time.monotonic() - started, 3)
            print(json.dumps({"event": "done", "wall_s": seconds, "outcomes": outcomes}), flush=True)
        return self._close(steps, outcomes, context)

    def _plan(self, *, render: bool) -> tuple[list[Step], Context]:
        for entry in self.entries:
            if ":" in entry.name:
                self._say(show.resolved(entry))
        context = make_context(self.settings, quiet=self.quiet, render=render)
        if render:
            self._fetch()
        return plan(self.entries, compose.build(self.settings), context, overwrite=self.overwrite), context

    def _fetch(self) -> None:
        """Get hub weights that are not here; the plan says what could not be had, and why."""
        texts = any(benchmark.reads_text for _, benchmark in compose.build(self.settings))
        for entry in self.entries:
            with contextlib.suppress(EvalError):
                fetch(entry)
                if texts and entry.text:
                    fetch_text(entry)

    def _ask(self, steps: Sequence[Step], context: Context, yes: bool) -> Bench | None:
        """Say how long it will take, and stop there if that is long and nobody agreed. Returns a loaded encoder."""
        todo = [step for step in steps if step.state == "todo"]
        passes, seconds, bench = 0, 0.0, None
        for entry in dict.fromkeys(step.entry for step in todo):
            bench = Bench(entry, context, todo)
            try:
                more, longer = bench.estimate()
            except EvalError:
                continue  # the run itself reports what is wrong, with a record
            passes, seconds = passes + more, seconds + longer
        if todo:
            self._say(f"{len(todo)} benchmark(s) to run, {passes:,} forward passes: {show.duration(seconds)} or more.")
        trained = {step.benchmark.training(step.entry.name, context.cache): step.entry.name for step in todo}
        for what, name in trained.items():
            if what and not yes:
                raise UsageError(
                    f"{what} is trained on {name} first; that can take days. Add --yes to start, give "
                    "--vlm-checkpoint, or leave it out: --suite image --suite dense."
                )
        if seconds > LONG and not yes:
            raise UsageError("that is more than two hours on this machine. Add --yes to start, or --limit for a trial.")
        return bench

    def _report(self, step: Step, record: Record | None) -> dict[str, object]:
        status = record.status if record else step.state
        score = record.primary if record else None
        if status == "success" and score is not None and score.value is not None:
            word = f"{score.name} = {score.value:.4g} {score.unit}" + (" (was there)" if step.state == "done" else "")
        else:
            word = f"{status}: {_why(step, record)}"
        self._say(f"{step.title}: {word}", always=status in ("error", "unavailable"))
        found = {"name": score.name, "value": score.value, "unit": score.unit} if score else None
        return {"step": step.title, "status": status, "score": found, "path": str(step.path) if step.path else None}

    def _close(self, steps: Sequence[Step], outcomes: Sequence[dict[str, object]], context: Context) -> int:
        counts = Counter(str(outcome["status"]) for outcome in outcomes)
        failed = counts["error"] + counts["unavailable"]
        if all(step.state in ("done", "skipped") for step in steps):
            self._say("nothing left to do.")
        summary = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        self._say(f"{summary}. Records: {context.results}")
        if not self.as_json and not failed:
            self._say(f"table: eupe-eval leaderboard --results {context.results}")
        return 1 if failed else 0

    def _say(self, message: str, *, always: bool = False) -> None:
        """Progress goes to stderr; stdout is for data. `always`: also when quiet."""
        if always or not self.quiet:
            print(message, file=sys.stderr, flush=True)


def make_context(settings: Settings, *, quiet: bool, render: bool = True) -> Context:
    """The surroundings of a run; renders the embedded world if it was asked for and is not there."""
    return Context(
        roots=Roots(settings.folders) if settings.world is None else _world_roots(settings, quiet, render),
        results=settings.results,
        cache=settings.cache,
        device=_device(settings.device),
        batch=settings.batch,
        workers=settings.workers,
        seed=settings.seed,
        bar=silent_bar if quiet else bar,
        digests=DigestMemo(settings.cache / "digests.json"),
    )


def _world_roots(settings: Settings, quiet: bool, render: bool) -> Roots:
    """The embedded world's folders: of a world that was given, or of the one in the cache, rendered if asked."""
    folder = _world_folder(settings)
    if render and settings.world_folder is None:
        assert settings.world is not None, "the caller asks for a world only where one was named"
        make_world(settings.cache, settings.world, 0, quiet=quiet)
    known = world.read_identity(folder)
    if render and not world.is_whole(folder):
        raise DataError(f"{folder} is a damaged world: delete it and render it again with `eupe-eval data make`.")
    found = compose.roots(folder, show.world_id(known) if known else None)
    if settings.world is None or settings.world_folder is not None:
        return found
    if not any(map(compose.talks, settings.benchmarks)):
        return found
    # What vision-language models need is a world of its own, which others need not wait for.
    size = _TALKS.get(settings.world, settings.world)
    talks = settings.cache / "miniature" / world.world_name(size, 0)
    try:
        if render:
            make_world(settings.cache, size, 0, quiet=quiet)
    except UnavailableError as error:
        # A package is missing; what needs no such world still runs.
        print(f"warning: {error}", file=sys.stderr)
        return found
    return Roots({**found.folders, **compose.roots(talks, None).folders}, found.world)


def _world_folder(settings: Settings) -> Path:
    assert settings.world is not None
    return settings.world_folder or settings.cache / "miniature" / world.world_name(settings.world, 0)


def make_world(
    cache: Path, size: str, seed: int, *, to: Path | None = None, workers: int | None = None, quiet: bool = False
) -> tuple[Path, str]:
    """The embedded world, rendered unless it is there: its folder and its identity."""
    folder = to or cache / "miniature" / world.world_name(size, seed)
    known = world.read_identity(folder)
    if to is None and known is not None and not world.is_whole(folder):
        print(f"{folder} is damaged: it is rendered again", file=sys.stderr)
        shutil.rmtree(folder)
        known = None
    if known is None or (known.version, known.size, known.seed) != (world.VERSION, size, seed):
        with (silent_bar if quiet else bar)(f"rendering the {size} world", 1) as progress:
            world.make(folder, size=size, seed=seed, workers=workers, progress=follow(progress))
        known = world.read_identity(folder)
        assert known is not None, "make leaves a complete world"
    return folder, show.world_id(known)


def contact_sheet(settings: Settings, output: Path) -> None:
    """Write a PNG of images with their labels."""
    import io

    from evals.datasets.sheet import contact_sheet as draw

    context = make_context(settings, quiet=False)
    buffer = io.BytesIO()
    draw(context.roots, digests=context.digests).save(buffer, "PNG")
    context.digests.save()
    write_atomic(output, buffer.getvalue())


def check_data(settings: Settings, *, decode: bool, quiet: bool) -> "tuple[Finding, ...]":
    """Check every data set that is configured."""
    from evals.datasets.check import check

    if settings.world is None:
        context, counts = make_context(settings, quiet=quiet), None
    else:
        # A world is checked as it is, not mended first.
        there = world.read_identity(_world_folder(settings)) is not None
        context = make_context(settings, quiet=quiet, render=not there)
        known = world.read_identity(_world_folder(settings))
        counts = known.counts if known else None
    return check(context.roots, decode=decode, workers=context.workers, bar=context.bar, world_counts=counts)


def _one_line(message: Warning | str, *where: object, **more: object) -> str:
    """A warning for people: what it says, without the line of source that says it."""
    return f"warning: {message}\n"


def _device(name: str) -> str:
    """`auto` and a named CPU need no torch until something is computed."""
    if name == "cpu":
        return name
    if name == "auto" and not _has_gpu():
        return "cpu"
    from evals.device import resolve_device

    return str(resolve_device(name))


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia").exists() or Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists()


def _must_be_writable(results: Path) -> None:
    """Find out before hours of work that their results could not be kept."""
    probe = results / ".writable"
    write_atomic(probe, b"")
    probe.unlink(missing_ok=True)


def _messages(steps: Sequence[Step]) -> list[str]:
    """What is missing, each said once."""
    return list(dict.fromkeys(step.message for step in steps if step.state in ("error", "unavailable")))


def _why(step: Step, record: Record | None) -> str:
    if record is not None and record.error is not None:
        return str(record.error["message"])
    return (record.reason if record is not None else None) or step.message
