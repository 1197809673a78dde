"""What a vision-language model is trained from, beside its encoder: LLaVA's records and a language model.

The embedded world brings a corpus and a tokenizer; its language model is trained on that text alone, once, and kept.
"""

import hashlib
import json
import secrets
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from evals.context import Context
from evals.device import versions
from evals.errors import DataError, ResultsError
from evals.miniature.talks.build import CORPUS, TOKENIZER
from evals.vlm import loop
from evals.vlm.language import LanguageRecipe, small_llama, train_language
from evals.vlm.obtain import Stock
from evals.vlm.recipe import EMBEDDED, Recipe
from evals.vlm.stopping import stopping

LESSON = LanguageRecipe(size="small", steps=3000, batch=12, block=192, rate=4e-3)
"""How that one is trained."""
_POSITIONS = 512


def stock_of(recipe: Recipe, context: Context) -> Stock:
    """Records and language model of a recipe.

    Raises UnavailableError where records or the extra are not here, and what training the embedded world's language
    model raises.
    """
    root = context.roots.of("llava")
    return Stock(root, str(_embedded(root.parent, context)) if recipe.language == EMBEDDED else recipe.language)


def _embedded(world: Path, context: Context) -> Path:
    """The embedded world's language model, trained if it is not there."""
    from transformers import AutoTokenizer

    corpus, words = world / CORPUS, world / TOKENIZER
    if not corpus.is_file():
        raise DataError(
            f"the language model {EMBEDDED!r} is trained on {corpus}, which is not there. Use --data miniature, or "
            "name another language model in the recipe."
        )
    digests = [context.digests.digest(path) for path in (corpus, words / "tokenizer.json")]
    identity = json.dumps([digests, asdict(LESSON), _POSITIONS, versions()], sort_keys=True)
    folder = context.cache / "vlm" / "language" / hashlib.sha256(identity.encode()).hexdigest()[:24]
    if (folder / "model" / "config.json").is_file():
        return folder / "model"
    tokenizer = AutoTokenizer.from_pretrained(str(words))
    model = small_llama(LESSON.size, tokenizer, _POSITIONS, LESSON.seed)
    texts = [json.loads(line)["parts"] for line in corpus.read_text(encoding="utf-8").splitlines()]
    processes = loop.accelerator(torch.device(context.device))
    with stopping() as stop:
        finished = train_language(model, texts, tokenizer, LESSON, folder / "state", processes, context.bar, stop)
    if not finished:
        raise ResultsError("the training of the language model was asked to stop; the same command goes on with it.")
    aside = folder / f".model.{secrets.token_hex(4)}.tmp"
    try:
        model.save_pretrained(aside)  # type: ignore[operator]
        tokenizer.save_pretrained(aside)
        aside.rename(folder / "model")
    except OSError as error:
        raise ResultsError(f"cannot write {folder}: {error.strerror or error}. Free some space.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(folder / "state", ignore_errors=True)
    return folder / "model"
