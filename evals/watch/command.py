"""`eupe-eval watch`: its options, and what they come to."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from evals import compose, show
from evals.compose import Settings
from evals.encoders.exports.entry import is_export
from evals.encoders.registry import names
from evals.errors import UsageError, unknown
from evals.watch.cascade import Stage, stages
from evals.watch.ledger import Ledger
from evals.watch.order import INTERVAL, SETTLE, STALE, Order
from evals.watch.regression import parse_tolerance
from evals.watch.watch import Item, Watcher

EXAMPLES = (
    "Examples:  eupe-eval watch runs/exports --data /data --once   |   "
    'eupe-eval watch runs --gate "in1k-knn>=30" --then dense --on-regression "notify {name} {score}"   |   '
    "eupe-eval watch runs --encoder eupe-vit-b --status"
)


def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where exports or checkpoints appear, at any depth.")],
    suite: Annotated[str, typer.Option("--suite", "-s", help="What everything is scored on.")] = "quick",
    gate: Annotated[list[str], typer.Option(help='What a --then waits for: "in1k-knn>=30". Repeatable.')] = [],  # noqa: B006
    then: Annotated[list[str], typer.Option(help="The suite behind the gate of the same number. Repeatable.")] = [],  # noqa: B006
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="Weight files count too, as weights of this entry or route.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(envvar="EUPE_EVAL_DATA", help="This and those below: as of `run`.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_PROTOCOL")] = None,
    limit: Annotated[int | None, typer.Option(envvar="EUPE_EVAL_LIMIT", help="Such scores open no gate.")] = None,
    dtype: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_DTYPE", help="bf16 scores open no gate.")] = None,
    seed: Annotated[int | None, typer.Option(envvar="EUPE_EVAL_SEED")] = None,
    config_dir: Annotated[Path | None, typer.Option(envvar="EUPE_EVAL_CONFIG_DIR")] = None,
    override: Annotated[list[str], typer.Option("-o", "--override")] = [],  # noqa: B006
    device: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_DEVICE")] = None,
    batch: Annotated[int | None, typer.Option(envvar="EUPE_EVAL_BATCH")] = None,
    workers: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_WORKERS")] = None,
    cache: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_CACHE")] = None,
    results: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_RESULTS", help="And of the ledger.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One round, for cron and timers.")] = False,
    interval: Annotated[float, typer.Option(min=0, help="Seconds between rounds, and before a second try.")] = INTERVAL,
    settle: Annotated[float, typer.Option(min=0, help="Seconds between two looks that must be equal.")] = SETTLE,
    stale: Annotated[float, typer.Option(min=1, help="Seconds until a silent watcher's claim is void.")] = STALE,
    timeout: Annotated[float | None, typer.Option(min=1, help="Seconds for one evaluation (default: any).")] = None,
    tolerance: Annotated[str, typer.Option(help="No regression yet: 0.5 (the metric's unit), 2% (of the best).")] = "0",
    on_regression: Annotated[
        str,
        typer.Option(metavar="CMD", help="To run for each: {name} {step} {benchmark} {score} {best} are filled in."),
    ] = "",
    status: Annotated[bool, typer.Option("--status", help="Show where everything stands, and stop.")] = False,
    retry: Annotated[list[str], typer.Option(metavar="NAME", help="Free what failed, and stop. Repeatable.")] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be evaluated, and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Failures and regressions only.")] = False,
) -> None:
    """Score what a training writes, each once, as soon as it is whole; keep the scores by step.

    Exit codes with --once: 3 after a regression, else 1 while something that is there has failed, else 0.
    """
    scoring = {"data": data, "protocol": protocol, "limit": limit, "dtype": dtype, "seed": seed}
    conduct = {"device": device, "batch": batch, "workers": workers, "cache": cache}
    check = _checker(stages(suite, gate, then), {**scoring, **conduct, "results": results}, override)
    order = Order(
        folder=folder.expanduser().resolve(),
        results=check().results.resolve(),
        stages=stages(suite, gate, then),
        tolerance=parse_tolerance(tolerance),
        encoder=_architecture(encoder, config_dir),
        scoring=_words({**scoring, "config-dir": config_dir}, override),
        conduct=_words(conduct),
        on_regression=_command(on_regression),
        timeout=timeout,
        settle=settle,
        stale=stale,
        interval=interval,
    )
    raise typer.Exit(_act(order, check, retry, status=status, dry_run=dry_run, once=once, quiet=quiet))


def _act(
    order: Order,
    check: Callable[[], object],
    retry: Sequence[str],
    *,
    status: bool,
    dry_run: bool,
    once: bool,
    quiet: bool,
) -> int:
    """Do what was asked for; the exit code."""

    def tell(message: str, *, always: bool = False) -> None:
        if always or not quiet:
            typer.echo(message, err=True)

    for name in retry:
        for entry in Ledger(order.ledger).free(name, order.stale):
            typer.echo(f"freed {entry.name}")
    if retry:
        return 0
    watcher = Watcher(order, tell, check)
    if status or dry_run:
        # The clock of this machine will do for looking: nothing is written.
        items = watcher.survey(time.time(), wait=dry_run)
        typer.echo(show.Table([_row(item) for item in items], f"nothing to evaluate in {order.folder}.").text())
        return 0
    if once:
        return watcher.round().code
    watcher.watch()
    return 0


def _row(item: Item) -> dict[str, str]:
    entry = item.entry
    step = str(entry.step) if entry and entry.step is not None else ""
    why = next(iter(item.why.splitlines()), "")
    return {"candidate": item.name, "step": step, "state": item.state, "next": item.suite, "why": why}


def _checker(cascade: Sequence[Stage], flags: Mapping[str, object], override: Sequence[str]) -> Callable[[], Settings]:
    """What raises UsageError if the settings, which are those of `run`, do not hold, or no longer."""

    def check() -> Settings:
        settings = compose.compose(
            chosen_suites=[stage.suite for stage in cascade], overrides=override, flags=dict(flags)
        )
        compose.build(settings)
        return settings

    return check


def _architecture(name: str | None, config_dir: Path | None) -> str | None:
    """Raises UsageError for what is no entry or route."""
    if name is not None and is_export(name):
        raise UsageError(f"--encoder names the architecture of weight files; {name!r} is an export.")
    if name is not None and ":" not in name and name not in (known := names(config_dir)):
        raise unknown("encoder", name, known)
    return name


def _command(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--on-regression takes a command as for a shell; got {text!r}: {error}.") from error


def _words(values: Mapping[str, object], override: Sequence[str] = ()) -> tuple[str, ...]:
    """Options of `run`."""
    named = [f"--{key}={value}" for key, value in values.items() if value is not None]
    return (*named, *(f"--override={item}" for item in override))
