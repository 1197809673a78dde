"""Trainings on the command line: the vision-language model of an encoder, and the embedded world's language model."""

from pathlib import Path
from typing import Annotated

import typer

from evals.errors import ResultsError, UsageError

TRAINING = (
    "Examples:  eupe-eval train-vlm eupe-vit-b --data /data   |   eupe-eval train-vlm pixels --data miniature   |   "
    "accelerate launch --use_fsdp --fsdp_version 2 -m evals train-vlm eupe-vit-b --data /data --device cuda"
)

TEACHING = "Example:  eupe-eval data language --to language          (about 20 minutes on two cores)"


def train_vlm(
    encoder: Annotated[str, typer.Argument(help="Entry, route (timm:<name> ...) or export.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="Name in configs/vlm, or a YAML file (default: llava-1.5; miniature on the embedded world)."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="`hub`, `random`, or a checkpoint file.")] = None,
    data: Annotated[
        str | None, typer.Option(envvar="EUPE_EVAL_DATA", help="Folder with llava/, or `miniature`.")
    ] = None,
    device: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_DEVICE", help="auto, cpu, cuda.")] = None,
    cache: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_CACHE", help="Where the model is kept.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Train LLaVA-1.5 on a frozen encoder, or find that it was; a killed training goes on. Prints the model's folder.

    `eupe-eval run --suite vlm` with the same cache then uses it, as does `--vlm-checkpoint`.
    """
    typer.echo(str(_trained(encoder, recipe, weights, {"data": data, "device": device, "cache": cache}, quiet)))


def _trained(
    name: str, recipe_name: str | None, weights: str | None, flags: dict[str, str | None], quiet: bool
) -> Path:
    from evals import compose
    from evals.benchmarks.base_questions import QuestionBenchmark
    from evals.device import exact_arithmetic
    from evals.encoders.load import load
    from evals.session import make_context
    from evals.vlm.obtain import ensure
    from evals.vlm.recipe import find
    from evals.vlm.stock import stock_of

    named = None if recipe_name is None else find(recipe_name)
    settings = compose.compose(chosen_suites=("vlm",), flags=flags)
    (entry,) = compose.entries([name], weights, settings.seed, None)
    context = make_context(settings, quiet=quiet)
    if "llava" not in context.roots.folders:
        raise UsageError("no folder of LLaVA's records is configured: pass --data with llava/ in it, or `miniature`.")
    protocol = QuestionBenchmark.protocols["miniature" if context.roots.world else "paper"]
    recipe = named or find(protocol.get("recipe", QuestionBenchmark.recipe))
    exact_arithmetic()
    found = load(entry, context.digests).to(context.device)
    folder = ensure(recipe, found, stock_of(recipe, context), context)
    context.digests.save()
    return folder


def teach_language(
    to: Annotated[Path, typer.Option(help="Folder of the model, which a recipe names as its `language`.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and the text.")] = 0,
    device: Annotated[str, typer.Option(envvar="EUPE_EVAL_DEVICE", help="auto, cpu, cuda.")] = "auto",
    cache: Annotated[str | None, typer.Option(envvar="EUPE_EVAL_CACHE", help="Where the world is kept.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Train the language model of the embedded world again, on that world's text alone; a killed training goes on."""
    from evals import compose
    from evals.context import silent_bar
    from evals.device import exact_arithmetic, resolve_device
    from evals.progress import bar
    from evals.session import make_world
    from evals.vlm.stock import teach
    from evals.vlm.stopping import stopping

    exact_arithmetic()
    where = str(resolve_device(device))
    world, _ = make_world(compose.cache_folder(cache), "talks", seed, quiet=quiet)
    with stopping() as stop:
        done = teach(world, to, where, seed=seed, bar=silent_bar if quiet else bar, stop=stop)
    if not done:
        raise ResultsError("the training was asked to stop; the same command goes on with it.")
    typer.echo(str(to))
