"""The command line, `eupe-eval`: one thin verb a function. What is heavy is imported by the verb that needs it."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from evals import show, verbs
from evals.errors import EvalError, UsageError
from evals.verbs import ConfigDir, Trust

app = typer.Typer(
    help="Score frozen vision encoders on the protocol of EUPE (arXiv 2603.22387).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Make, look at and check data.", no_args_is_help=True, rich_markup_mode=None)
cache_app = typer.Typer(help="Look after the cache.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")

Data = Annotated[
    str | None,
    typer.Option(envvar="EUPE_EVAL_DATA", help="Folder of data sets, or `miniature` for the embedded world."),
]
Results = Annotated[str | None, typer.Option(envvar="EUPE_EVAL_RESULTS", help="Folder of records.")]
Cache = Annotated[str | None, typer.Option(envvar="EUPE_EVAL_CACHE", help="Folder of cached features and worlds.")]
Weights = Annotated[
    str | None,
    typer.Option(envvar="EUPE_EVAL_WEIGHTS", help="`hub`, `random`, or a checkpoint file; for every encoder named."),
]
Override = Annotated[
    list[str], typer.Option("-o", "--override", help="key=value, e.g. batch=64 or in1k-knn.ks=[20]. Repeatable.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from evals import environment

        commit = environment.git()
        typer.echo(environment.version() + (f" ({commit['commit'][:12]})" if commit else ""))
        raise typer.Exit


@app.command(
    epilog="Examples:  eupe-eval run --encoder pixels --data miniature   |   "
    "eupe-eval run -e eupe-vit-b -e dinov3-vit-b --suite dense --data /data --device cuda   |   "
    "eupe-eval run -e eupe-vit-t --weights random -b in1k-knn --data miniature -o in1k-knn.vote=majority"
)
def run(
    encoder: Annotated[
        list[str],
        typer.Option(
            "--encoder",
            "-e",
            help="Entry, route (timm:<name> ...) or export; @random behind it: untrained. Repeatable.",
        ),
    ],
    suite: Annotated[list[str], typer.Option("--suite", "-s", help="Suite (default: all). Repeatable.")] = [],  # noqa: B006
    benchmark: Annotated[list[str], typer.Option("--benchmark", "-b", help="Single benchmark. Repeatable.")] = [],  # noqa: B006
    data: Data = None,
    weights: Weights = None,
    protocol: Annotated[
        str | None, typer.Option(envvar="EUPE_EVAL_PROTOCOL", help="official, paper or miniature.")
    ] = None,
    limit: Annotated[int | None, typer.Option(envvar="EUPE_EVAL_LIMIT", help="Items a split; never standard.")] = None,
    device: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_DEVICE", help="auto, cpu, cuda, cuda:N.")] = None,
    dtype: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_DTYPE", help="fp32, or bf16 (not standard).")] = None,
    batch: Annotated[int | None, typer.Option(envvar="EUPE_EVAL_BATCH", help="Images a forward pass.")] = None,
    workers: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_WORKERS", help="Decoding processes.")] = None,
    seed: Annotated[int | None, typer.Option(envvar="EUPE_EVAL_SEED", help="Seed of every draw (default 0).")] = None,
    results: Results = None,
    cache: Cache = None,
    vlm_checkpoint: Annotated[
        Path | None, typer.Option(help="A vision-language model trained before, in place of training one.")
    ] = None,
    config_dir: ConfigDir = None,
    override: Override = [],  # noqa: B006
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Compute again what is there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start even if it will take more than two hours.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One launch and one done record on stdout.")] = False,
    trust_remote_code: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Score encoders on benchmarks; records are written as each benchmark ends, and what is done is not done again."""
    from evals import compose
    from evals.session import Session

    flags = {
        "data": data, "protocol": protocol, "limit": limit, "device": device, "dtype": dtype, "batch": batch,
        "workers": workers, "seed": seed, "results": results, "cache": cache,
    }  # fmt: skip
    settings = compose.compose(
        chosen_suites=suite, benchmarks=benchmark, overrides=override, flags=flags, vlm_checkpoint=vlm_checkpoint
    )
    entries = compose.entries(encoder, weights, settings.seed, config_dir)
    session = Session(settings, entries, overwrite=overwrite, quiet=quiet, as_json=as_json)
    raise typer.Exit(session.dry_run() if dry_run else session.run(yes=yes))


@app.command()
def status(results: Results = None) -> None:
    """Show what a results folder holds: one line a record. Exit 1 if one could not be read."""
    from evals.record import read_records

    folder = _results(results)
    found = list(read_records(folder))
    typer.echo(show.status(folder, found).text())
    raise typer.Exit(1 if show.unreadable(found) else 0)


@app.command(epilog="Example:  eupe-eval leaderboard --results results --format csv --output board.csv")
def leaderboard(
    results: Results = None,
    form: Annotated[Literal["markdown", "csv"], typer.Option("--format", "-f")] = "markdown",
    output: Annotated[Path | None, typer.Option("--output", "-w", help="Write to a file instead of stdout.")] = None,
) -> None:
    """Make the tables from the records of a results folder. Exit 1 if a record could not be read."""
    from evals.files import write_atomic
    from evals.record import Record, read_records
    from leaderboard import render, table

    found = list(read_records(_results(results)))
    records = [record for _, record in found if isinstance(record, Record)]
    left_out = show.unreadable(found)
    for error in left_out:
        typer.echo(f"left out: {error}", err=True)
    text = render.markdown(table.build(records)) if form == "markdown" else render.csv(records)
    if output:
        write_atomic(output, text.encode())
    else:
        typer.echo(text, nl=False)
    raise typer.Exit(1 if left_out else 0)


@app.command(epilog="Example:  eupe-eval rescore --results results")
def rescore(results: Results = None) -> None:
    """Compute the numbers of vision-language records again from their raw answers: no model, no data, no GPU."""
    from evals.rescore import rescore as again

    changed, kept = again(_results(results))
    for path in changed:
        typer.echo(f"changed: {path}")
    typer.echo(f"{len(changed)} changed, {kept} as they were.")


@data_app.command("make", epilog="Example:  eupe-eval data make --size tiny --to world")
def data_make(
    size: Annotated[str, typer.Option(help="small, tiny, lessons (to train on), or talks (questions).")] = "small",
    seed: Annotated[int, typer.Option(help="Another seed is another world.")] = 0,
    to: Annotated[Path | None, typer.Option(help="Folder of the world (default: in the cache).")] = None,
    cache: Cache = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Rendering processes (default: every core).")] = None,
    quiet: Quiet = False,
) -> None:
    """Render the embedded world in the layouts of the real data sets."""
    from evals import compose
    from evals.session import make_world

    folder, identity = make_world(compose.cache_folder(cache), size, seed, to=to, workers=workers, quiet=quiet)
    typer.echo(f"{folder}\n{identity}")


@data_app.command("show", epilog="Example:  eupe-eval data show --data miniature --output sheet.png")
def data_show(
    data: Data = None,
    output: Annotated[Path, typer.Option("--output", "-w", help="The picture to write.")] = Path("contact-sheet.png"),
    cache: Cache = None,
    override: Override = [],  # noqa: B006
) -> None:
    """Draw a contact sheet (PNG) of images with their labels."""
    from evals.session import contact_sheet

    contact_sheet(_settings(data, cache, override), output)
    typer.echo(str(output))


@data_app.command("check", epilog="Example:  eupe-eval data check --data /data --no-decode")
def data_check(
    data: Data = None,
    cache: Cache = None,
    decode: Annotated[bool, typer.Option(help="Decode every image and label.")] = True,
    override: Override = [],  # noqa: B006
    quiet: Quiet = False,
) -> None:
    """Check any data root: what is off, where, and what that does to the score. Exit 1 if a score would be wrong."""
    from evals.session import check_data

    findings = check_data(_settings(data, cache, override), decode=decode, quiet=quiet)
    typer.echo(show.findings(findings))
    raise typer.Exit(1 if any(finding.severity == "error" for finding in findings) else 0)


@cache_app.command("stats")
def cache_stats(cache: Cache = None) -> None:
    """Show what the cache holds and how large it is."""
    typer.echo(show.cache(_cache(cache)).text())


@cache_app.command("clear")
def cache_clear(
    cache: Cache = None,
    encoder: Annotated[str | None, typer.Option(help="Only the features of this encoder.")] = None,
    worlds: Annotated[bool, typer.Option("--worlds", help="Embedded worlds as well.")] = False,
) -> None:
    """Delete cached features and unfinished work; nothing that a run cannot make again."""
    from evals.cache import clear

    typer.echo(f"freed {show.size(clear(_cache(cache), encoder=encoder, worlds=worlds))}")


@cache_app.command("prune")
def cache_prune(budget: Annotated[str, typer.Argument(help="What may stay, e.g. 20GB.")], cache: Cache = None) -> None:
    """Delete what was used longest ago until the rest fits the budget; embedded worlds stay."""
    from evals.cache import parse_size, prune

    typer.echo(f"freed {show.size(prune(_cache(cache), parse_size(budget)))}")


verbs.add(app, data_app)


def _settings(data: str | None, cache: str | None, override: list[str]) -> Any:
    from evals import compose

    settings = compose.compose(overrides=override, flags={"data": data, "cache": cache})
    if not settings.world and not settings.folders:
        raise UsageError("no data folder is configured: pass --data, set EUPE_EVAL_DATA, or use --data miniature.")
    return settings


def _results(given: str | None) -> Path:
    from evals import compose

    folder = compose.compose(flags={"results": given}).results
    # The default folder appears with the first run; one that somebody named is expected to be there.
    if given is not None and not folder.is_dir():
        raise UsageError(f"no folder {given!r}: give --results (or EUPE_EVAL_RESULTS) the folder that a run wrote to.")
    return folder


def _cache(given: str | None) -> Path:
    from evals import compose

    folder = compose.cache_folder(given)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"the cache {str(folder)!r} is a file: give --cache (or EUPE_EVAL_CACHE) a folder.")
    return folder


def _terminated(signum: int, frame: object) -> None:
    """SIGTERM ends like any exit, so that files in the making are removed; what is written is whole already."""
    raise SystemExit(128 + signum)


def main() -> None:
    """Entry point: user errors are one message and an exit code, never a traceback.

    Typer prints its own usage errors, turns Ctrl-C into exit code 130 and a reader that went away into 1.
    """
    signal.signal(signal.SIGTERM, _terminated)
    # Threads that spin while they wait starve each other as soon as anything else uses the cores: beside one busy
    # process a ViT-T runs 6 times as fast without. Read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        try:
            app()
        finally:
            if sys.stdout:  # None where the caller closed it
                sys.stdout.flush()
    except EvalError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == 130:
            typer.echo("interrupted; the same command goes on from here", err=True)
        raise
    except OSError as error:
        # Errors of files name the file; what has no name here is the output.
        if error.filename is not None:
            raise
        # Keep the interpreter from flushing into nowhere as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            typer.echo(f"error: cannot write the output: {error.strerror or error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
