"""The command line, `eupe-train`: one thin verb a function. What is heavy is imported by the verb that needs it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from evals.errors import EvalError

app = typer.Typer(
    help="Distil expert encoders into a proxy, and the proxy into small students (EUPE, arXiv 2603.22387).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Overrides = Annotated[
    list[str],
    typer.Argument(help="recipe=<name>, then key=value: out=runs, batch=1024, sources.web.root=/data/web ..."),
]
REQUEUE = 75
"""Exit code of a run that saved and stopped because it was asked to: start the same command again (EX_TEMPFAIL)."""


@app.command(
    epilog="Examples:  eupe-train run recipe=stage2-vit-b out=runs sources.web.root=/data/web "
    "sources.imagenet.root=/data/imagenet/train   |   torchrun --nproc-per-node=8 -m eupe run recipe=stage2-family "
    "schedule=quick schedule.watch.data=/data schedule.watch.device=cpu 'gate={reading: 0.8}' ..."
)
def run(overrides: Overrides, quiet: Annotated[bool, typer.Option("--quiet", "-q")] = False) -> None:
    """Train one stage, or a chain of them; the same command goes on where the last one stopped."""
    from eupe.compose import compose
    from eupe.miniature.chain import chains, compose_chain
    from eupe.processes import Stop
    from eupe.session import train_chain, train_stage

    stop = Stop()
    stop.listen()
    chosen = next((each.removeprefix("recipe=") for each in overrides if each.startswith("recipe=")), "")
    if chosen in chains():
        done = train_chain(compose_chain(chosen, overrides), stop, quiet=quiet)
    else:
        order = compose(overrides)
        done = train_stage(order, stop, quiet=quiet)
    raise typer.Exit(0 if done else REQUEUE)


@app.command(epilog="Example:  eupe-train plan recipe=stage2-vit-b --ranks 8 --tflops 355")
def plan(
    overrides: Overrides,
    ranks: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    tflops: Annotated[float, typer.Option(min=0.001, help="TFLOP/s that one device reaches.")] = 355.0,
) -> None:
    """Show what a stage costs before it starts: FLOPs an image, memory, bytes and hours."""
    from eupe.compose import compose, foreseen
    from eupe.plan import plan as planned
    from eupe.show import plan_table

    stage = compose(overrides).stage
    coming = foreseen(stage)
    typer.echo(plan_table(stage, planned(stage, ranks, coming), ranks, tflops))
    for name in coming:
        typer.echo(f"{stage.teachers[name].encoder} is not there yet; counted as what its recipe trains")


@app.command(
    epilog="Examples:  eupe-train export runs/stage2-vit-b   |   eupe-train export runs/stage2-family --student vit-t "
    "--step 390000 --to shared/vit-t"
)
def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="<out>/<name of the stage>.")],
    student: Annotated[list[str], typer.Option(help="Which (default: all). Repeatable.")] = [],  # noqa: B006
    step: Annotated[int | None, typer.Option(help="A checkpoint that is still there (default: the last).")] = None,
    to: Annotated[
        Path | None, typer.Option(help="Default: <run>/exports/<student>, before the end with -step-<n> behind it.")
    ] = None,
    average: Annotated[bool, typer.Option("--average", help="The moving average of the weights.")] = False,
) -> None:
    """Export students of a run, finished or not, from a checkpoint; no teacher is loaded."""
    from eupe.processes import world
    from eupe.stored import export_stored, open_run

    run = open_run(folder, step)
    with world("cpu"):
        for made in export_stored(run, student, to, average=average):
            typer.echo(f"{made}\n  eupe-eval run --encoder {made}")


@app.command(
    epilog="Example:  eupe-train launch recipe=stage2-vit-b out=runs ... --nodes 4 --partition gpu --timeout 4320"
)
def launch(
    overrides: Overrides,
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=0, help="As many processes; 0: one on CPUs.")] = 8,
    timeout: Annotated[int, typer.Option(min=1, help="Minutes; the job is then saved and queued again.")] = 24 * 60,
    partition: Annotated[str | None, typer.Option()] = None,
    cluster: Annotated[str | None, typer.Option(help="slurm or local (default: what is found here).")] = None,
) -> None:
    """Submit a run as a job (needs submitit); preempted, it saves and is queued again."""
    from eupe.launch import Allocation
    from eupe.launch import launch as submit

    typer.echo(submit(overrides, Allocation(nodes, gpus_per_node, timeout, partition, cluster)))


@app.command(epilog="Example:  eupe-train index /data/web")
def index(folder: Annotated[Path, typer.Argument(help="Where the shards (*.tar) lie.")]) -> None:
    """Index a folder of WebDataset shards, so that they can be trained on; again whenever they change."""
    from eupe.data.tars import make_index
    from evals.progress import bar

    typer.echo(f"{make_index(folder, bar):,} images")


@app.command("list", epilog="Example:  eupe-train list | grep table3")
def list_() -> None:
    """List the recipes, chains of several stages first."""
    from eupe.compose import described
    from eupe.miniature.chain import chains

    typer.echo("\n".join([*described("chain", chains()), *described("recipe")]))


@app.command(epilog="Example:  eupe-train bundle runs/stage3-vit-b/exports/vit-b shared/my-vit-b --name my-vit-b")
def bundle(
    export_folder: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an export.")],
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="What is made; it must not exist.")],
    name: Annotated[str, typer.Option(help="What the encoder is called in records and tables.")],
    note: Annotated[str | None, typer.Option(help="What `eupe-eval info` says of it.")] = None,
) -> None:
    """Copy an export, with what its way to text needs of its proxy and experts, into one folder to be handed on."""
    from eupe.bundle import bundle as bundled

    bundled(export_folder, to, name, note)
    typer.echo(f"{to}\n  eupe-eval run --encoder {to}")


def main() -> None:
    """Entry point: user errors are one message and an exit code, never a traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except EvalError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
