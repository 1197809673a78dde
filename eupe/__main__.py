"""The command line, `eupe-train`: one thin verb a function. What is heavy is imported by the verb that needs it."""

import os
import sys
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
    "sources.imagenet.root=/data/imagenet/train   |   torchrun --nproc-per-node=8 -m eupe run recipe=stage2-family ..."
)
def run(overrides: Overrides, quiet: Annotated[bool, typer.Option("--quiet", "-q")] = False) -> None:
    """Train one stage; the same command goes on from the last checkpoint of its folder."""
    from eupe.compose import compose
    from eupe.processes import Stop, world
    from eupe.session import train_stage

    order = compose(overrides)
    stop = Stop()
    stop.listen()
    with world(order.device) as here:
        done = train_stage(order, here, stop, quiet=quiet)
    raise typer.Exit(0 if done else REQUEUE)


@app.command(epilog="Example:  eupe-train plan recipe=stage2-vit-b --ranks 8 --tflops 355")
def plan(
    overrides: Overrides,
    ranks: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    tflops: Annotated[float, typer.Option(min=0.001, help="TFLOP/s that one device reaches.")] = 355.0,
) -> None:
    """Show what a stage costs before it starts: FLOPs an image, memory, bytes and hours."""
    from eupe.compose import compose
    from eupe.plan import plan as planned
    from eupe.show import plan_table

    typer.echo(plan_table(planned(compose(overrides).stage, ranks), ranks, tflops))


@app.command("list")
def list_() -> None:
    """List the recipes."""
    from eupe.compose import recipes

    typer.echo("\n".join(recipes()))


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
