"""What a vision-language model is trained from, beside its encoder: LLaVA's records and a language model.

The embedded world has a language model of its own, trained on that world's text alone. It comes with the project
(`shipped`); `teach` is how it was made, and makes it again.
"""

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from evals.context import BarFactory, Context, silent_bar
from evals.device import versions
from evals.errors import DataError, ResultsError
from evals.files import sha256_file
from evals.miniature.talks.build import TOKENIZER, text_stream
from evals.miniature.talks.corpus import documents
from evals.vlm import loop
from evals.vlm.language import LanguageRecipe, small_llama, train_language
from evals.vlm.obtain import Stock
from evals.vlm.recipe import EMBEDDED, Recipe

__all__ = ["DOCUMENTS", "LESSON", "SHIPPED", "Stock", "stock_of", "teach"]

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the embedded world's language model."""
LESSON = LanguageRecipe(size="small", steps=3000, batch=12, block=256, rate=4e-3, doubt=0.5, sure=0.35)
"""How it was trained."""
DOCUMENTS = 64_000
"""How many it read, drawn as the world's corpus is, which is shorter."""
TOLD = "language.json"
"""Of its folder: how it was made, and the digests of its files."""
_POSITIONS = 512
_WORDS = "tokenizer.json"


def stock_of(recipe: Recipe, context: Context) -> Stock:
    """Records and language model of a recipe.

    Raises UnavailableError where records are not here, DataError for a world whose words its language model does not
    know.
    """
    root = context.roots.of("llava")
    return Stock(root, str(_embedded(root.parent)) if recipe.language == EMBEDDED else recipe.language)


def _embedded(world: Path) -> Path:
    """The language model of the embedded world."""
    told = world / TOKENIZER / _WORDS
    if not told.is_file():
        raise DataError(
            f"the language model {EMBEDDED!r} reads the words of the embedded world, and {told} is not there. Use "
            "--data miniature, or name another language model in the recipe."
        )
    unknown = sorted(_words(told) - _words(SHIPPED / _WORDS))
    if unknown:
        raise DataError(
            f"{told} has {len(unknown)} words that the language model {EMBEDDED!r} does not know, such as "
            f"{unknown[0]!r}: the world is of another version. Train one for it with `eupe-eval data language` and "
            "name its folder in the recipe (language: FOLDER)."
        )
    return SHIPPED


def _words(tokenizer: Path) -> set[str]:
    found: dict[str, int] = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    return set(found)


def teach(
    world: Path,
    folder: Path,
    device: str,
    *,
    seed: int = 0,
    bar: BarFactory = silent_bar,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train the language model of a world on its text into `folder`; whether the end was reached.

    A training that was stopped or killed goes on when it is called again: its state lies beside the folder until it is
    whole. Raises what `train_language` raises, ResultsError for a folder that is there or cannot be written.
    """
    from transformers import AutoTokenizer

    if folder.exists():
        raise ResultsError(f"{folder} is there already. Give another folder, or delete it.")
    lesson = replace(LESSON, seed=seed)
    tokenizer = AutoTokenizer.from_pretrained(str(world / TOKENIZER))
    model = small_llama(lesson.size, tokenizer, _POSITIONS, seed)
    texts = list(documents(DOCUMENTS, np.random.default_rng(text_stream(seed))))
    state = folder.with_name(f".{folder.name}.state")
    if not train_language(model, texts, tokenizer, lesson, state, loop.accelerator(torch.device(device)), bar, stop):
        return False
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        model.save_pretrained(aside)  # type: ignore[operator]
        tokenizer.save_pretrained(aside)
        made = {path.name: sha256_file(path) for path in sorted(aside.iterdir())}
        told = {"recipe": asdict(lesson), "documents": DOCUMENTS, "files": made, "versions": versions()}
        (aside / TOLD).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        aside.rename(folder)
    except OSError as error:
        raise ResultsError(f"cannot write {folder}: {error.strerror or error}. Free some space.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(state, ignore_errors=True)
    return True
