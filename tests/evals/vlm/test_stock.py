"""The language model of the embedded world: whole, small, able to look things up, and how it is made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evals.context import Context, Roots
from evals.errors import DataError, ResultsError
from evals.files import sha256_file
from evals.miniature.talks.build import TOKENIZER
from evals.miniature.talks.corpus import documents
from evals.miniature.talks.words import save_tokenizer, vocabulary
from evals.vlm import stock
from evals.vlm.language import LanguageRecipe, open_language, pack
from evals.vlm.model import next_token_loss
from evals.vlm.recipe import find
from tests.evals.vlm.small import after

_MEGABYTES = 6


@pytest.fixture(scope="module")
def opened() -> tuple[Any, Any]:
    """The model and its tokenizer."""
    return open_language(stock.SHIPPED)


def world_with(words: list[str], root: Path) -> Context:
    """A context whose LLaVA records lie beside a tokenizer of these words."""
    save_tokenizer(root / TOKENIZER, words)
    return Context(Roots({"llava": root / "llava"}, "tiny"), root / "results", root / "cache")


def test_it_is_whole_and_small() -> None:
    """Every file has the digest that its card tells; the recipe is the one that stands in the code."""
    told = json.loads((stock.SHIPPED / stock.TOLD).read_text())
    files = {path.name for path in stock.SHIPPED.iterdir()} - {stock.TOLD}
    assert set(told["files"]) == files
    assert all(sha256_file(stock.SHIPPED / name) == digest for name, digest in told["files"].items())
    assert LanguageRecipe(**{**told["recipe"], "betas": tuple(told["recipe"]["betas"])}) == stock.LESSON
    assert told["documents"] == stock.DOCUMENTS
    assert sum(path.stat().st_size for path in stock.SHIPPED.iterdir()) < _MEGABYTES * 2**20


def test_it_knows_the_text(opened: tuple[Any, Any]) -> None:
    """On documents that it never read, the loss is far below that of a model which knows how often words come."""
    model, tokenizer = opened
    blocks = pack(list(documents(150, np.random.default_rng(99))), tokenizer, 192)
    learnt = blocks[1][blocks[1] >= 0]
    shares = learnt.bincount().float() / len(learnt)
    with torch.no_grad():
        loss = float(next_token_loss(model, blocks[1], input_ids=blocks[0]))
    assert loss < 0.25 * -float((shares * shares.clamp_min(1e-9).log()).sum())


def test_it_looks_things_up(opened: tuple[Any, Any]) -> None:
    """Whether a word stands among 64 others, as often as not, is answered mostly right."""
    model, tokenizer = opened
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    right = []
    lists = [parts for parts in documents(800, np.random.default_rng(98)) if parts[-1].endswith(("yes\n", "no\n"))]
    for parts in lists[:100]:
        ids = torch.tensor(tokenizer("".join(parts))["input_ids"])
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1]
        asked = (ids[1:] == yes) | (ids[1:] == no)
        right += ((logits[:, yes] > logits[:, no]) == (ids[1:] == yes))[asked].tolist()
    assert len(right) > 400
    assert np.mean(right) > 0.9


def test_a_world_takes_it(tmp_path: Path) -> None:
    """Where it knows every word; else what is unknown is told, and what to do."""
    recipe = find("miniature")
    context = world_with(vocabulary([]), tmp_path / "known")
    assert stock.stock_of(recipe, context).language == str(stock.SHIPPED)
    with pytest.raises(DataError, match=r"has 1 words .* such as 'zebra'.*eupe-eval data language"):
        stock.stock_of(recipe, world_with(vocabulary(["zebra"]), tmp_path / "other"))
    with pytest.raises(DataError, match="is not there"):
        stock.stock_of(recipe, Context(Roots({"llava": tmp_path / "no" / "llava"}), tmp_path, tmp_path))


def test_it_is_taught_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that was stopped ends with the same bytes; the card tells how; a folder that is there is kept."""
    monkeypatch.setattr(stock, "LESSON", LanguageRecipe(size="tiny", steps=6, batch=2, block=96))
    monkeypatch.setattr(stock, "DOCUMENTS", 40)
    save_tokenizer(tmp_path / "world" / TOKENIZER, vocabulary([]))
    made = [tmp_path / name for name in ("one", "two")]
    assert stock.teach(tmp_path / "world", made[0], "cpu")
    assert not stock.teach(tmp_path / "world", made[1], "cpu", stop=after(3))
    assert not made[1].exists()
    assert stock.teach(tmp_path / "world", made[1], "cpu")
    weights = [(folder / "model.safetensors").read_bytes() for folder in made]
    assert weights[0] == weights[1]
    told = json.loads((made[0] / stock.TOLD).read_text())
    assert (told["recipe"]["steps"], told["documents"]) == (6, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two", "world"]
    open_language(made[0])
    with pytest.raises(ResultsError, match="is there already"):
        stock.teach(tmp_path / "world", made[0], "cpu")
