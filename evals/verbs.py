"""The verbs about encoders, for the command line: one thin function each; what is heavy is imported by its verb."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from evals import show
from evals.encoders.routes import TRUST
from evals.errors import UsageError
from evals.training import TEACHING, TRAINING, teach_language, train_vlm
from evals.watch.command import EXAMPLES, watch


def _trusted(value: bool) -> bool:
    """What the option says holds for the whole process, wherever the encoder is built."""
    if value:
        os.environ[TRUST] = "1"
    return value


ConfigDir = Annotated[
    Path | None, typer.Option(envvar="EUPE_EVAL_CONFIG_DIR", help="A folder of your own encoder entries (*.yaml).")
]
Trust = Annotated[
    bool,
    typer.Option("--trust-remote-code", envvar=TRUST, callback=_trusted, help="Let hub: run its repository's code."),
]


def add(app: typer.Typer, data: typer.Typer) -> None:
    """Put the verbs on the command line; `data` has those about data."""
    data.command("language", epilog=TEACHING)(teach_language)
    app.command("list", epilog="Examples:  eupe-eval list encoders   |   eupe-eval list encoders --built --json")(list_)
    app.command(epilog="Examples:  eupe-eval info in1k-knn   |   eupe-eval info timm:vit_small_patch14_dinov2")(info)
    app.command(epilog="Example:  eupe-eval new-encoder my-vit --source timm --to encoders")(new_encoder)
    app.command(epilog=EXAMPLES)(watch)
    app.command("train-vlm", epilog=TRAINING)(train_vlm)
    app.command(epilog="Example:  eupe-eval doctor -e eupe-vit-t --weights random")(doctor)
    app.command(epilog="Example:  eupe-eval convert dune_vitbase14_448_paper.pth dune-b.safetensors --layout dune")(
        convert
    )


def list_(
    what: Annotated[Literal["encoders", "benchmarks", "suites"], typer.Argument()],
    config_dir: ConfigDir = None,
    built: Annotated[bool, typer.Option("--built", help="Build each encoder without weights; show its parts.")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List encoders, benchmarks or suites. Exit 1 if an entry could not be read."""
    from evals.progress import bar

    if built and what != "encoders":
        raise UsageError(f"--built is about encoders; {what} have nothing to build.")
    makers = {
        "encoders": lambda: show.encoders(config_dir, bar if built else None),
        "benchmarks": show.benchmarks,
        "suites": show.suites,
    }
    table = makers[what]()
    typer.echo(json.dumps(table.rows, indent=1) if as_json else table.text())
    for line in table.left_out:
        typer.echo(f"left out: {line}", err=True)
    if table.left_out:
        raise typer.Exit(1)


def info(
    name: Annotated[str, typer.Argument(help="An encoder (an entry or a route), benchmark or suite.")],
    config_dir: ConfigDir = None,
    trust_remote_code: Trust = False,
) -> None:
    """Show everything about one encoder, as an entry to save, about one benchmark (with its protocols) or suite."""
    typer.echo(show.info(name, config_dir))


def new_encoder(
    name: Annotated[str, typer.Argument(help="Name of the encoder, and of the file.")],
    source: Annotated[
        Literal["timm", "hf", "open_clip", "plugin"], typer.Option(help="The adapter; plugin: a package of your own.")
    ] = "timm",
    to: Annotated[Path, typer.Option(help="Folder for the new file or package.")] = Path(),
) -> None:
    """Write the template of an entry, every key explained, or of a package with an adapter of your own."""
    from evals.encoders.scaffold.template import write_new

    for path in write_new(name, source, to):
        typer.echo(str(path))


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A release: .pth, .pt, .pth.tar.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors to write.")],
    layout: Annotated[
        str, typer.Option(help="Whose release: dune, unic, radio; plain: a file of tensors alone.")
    ] = "plain",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
) -> None:
    """Turn a pickled release into safetensors, offline, running nothing of it; say what was kept and how to use it."""
    from evals.encoders.convert import convert as run

    for line in run(source, target, layout, overwrite=overwrite).lines():
        typer.echo(line)


def doctor(
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="Entry, route (timm:<name> ...) or export.")],
    weights: Annotated[
        str | None, typer.Option(envvar="EUPE_EVAL_WEIGHTS", help="`hub`, `random`, or a checkpoint file.")
    ] = None,
    device: Annotated[str, typer.Option(envvar="EUPE_EVAL_DEVICE", help="auto, cpu, cuda, cuda:N.")] = "auto",
    cache: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_CACHE", help="Folder of remembered digests.")] = None,
    config_dir: ConfigDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="The card as JSON.")] = False,
    trust_remote_code: Trust = False,
) -> None:
    """Examine an encoder: what an adapter can get wrong, and what that does to a score. Exit 1 if a check fails."""
    from evals import compose
    from evals.doctor.card import as_text, as_values
    from evals.doctor.visit import visit
    from evals.files import DigestMemo
    from evals.progress import bar

    (entry,) = compose.entries([encoder], weights, seed=0, config_dir=config_dir)
    digests = DigestMemo(compose.cache_folder(cache) / "digests.json")
    found = visit(entry, device, digests, bar=bar, say=lambda text: typer.echo(text, err=True))
    typer.echo(json.dumps(as_values(found), indent=1) if as_json else as_text(found))
    if found.failed:
        raise typer.Exit(1)
