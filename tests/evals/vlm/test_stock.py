"""The language model of the embedded world: whole, small, able to look things up, and how it is made."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evals.context import Context, Roots
from evals.errors import DataError, ResultsError
from evals.files import sha256_file
from evals.miniature.talks.build import TOKENIZER
from evals.miniature.talks.corpus import documents
from evals.miniature.talks.words import save_tokenizer, vocabulary
from evals.vlm import stock
from evals.vlm.language import LanguageRecipe, open_language
from evals.vlm.pages import Document, Packed, pack
from evals.vlm.recipe import find
from evals.vlm.tokens import IGNORED
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


def said(opened: tuple[Any, Any], parts: Sequence[Document]) -> tuple[Tensor, Tensor]:
    """(what the model says next, what is learnt there) of documents, whose maps are sure."""
    model, tokenizer = opened
    blocks = pack(parts, tokenizer, 384)
    page = Packed(blocks, replace(stock.LESSON, doubt=0.0)).read(range(len(blocks.labels_NT)))
    seen_BTD = torch.einsum("kbtd,kbt->btd", model.get_input_embeddings()(page.words_KBT), page.shares_KBT)
    with torch.no_grad():
        logits_BTV = model(inputs_embeds=seen_BTD).logits
    learnt = page.labels_BT[:, 1:] != IGNORED
    return logits_BTV[:, :-1][learnt], page.labels_BT[:, 1:][learnt]


def test_it_knows_the_text(opened: tuple[Any, Any]) -> None:
    """On documents that it never read, the loss is far below that of a model which knows how often words come."""
    logits, learnt = said(opened, list(documents(150, np.random.default_rng(99))))
    shares = learnt.bincount().float() / len(learnt)
    often = -float((shares * shares.clamp_min(1e-9).log()).sum())
    assert torch.nn.functional.cross_entropy(logits, learnt) < 0.25 * often


def test_it_looks_things_up(opened: tuple[Any, Any]) -> None:
    """Whether a word stands at one of 64 places, as often as not, is answered mostly right."""
    yes, no = opened[1].convert_tokens_to_ids(["yes", "no"])
    lists = [parts for parts in documents(800, np.random.default_rng(98)) if parts[-1].endswith(("yes\n", "no\n"))]
    for among in (lists[:50], [parts for parts in lists if "\n" in parts[1]][:50]):
        logits, learnt = said(opened, among)
        asked = (learnt == yes) | (learnt == no)
        right = ((logits[:, yes] > logits[:, no]) == (learnt == yes))[asked]
        assert len(right) > 200
        assert right.float().mean() > 0.85


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
