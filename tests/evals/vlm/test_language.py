"""Small language models trained on text alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from evals.context import silent_bar
from evals.errors import DataError, UnavailableError, UsageError, WeightsError
from evals.vlm import log
from evals.vlm.language import LanguageRecipe, NextToken, open_language, small_llama, train_language
from evals.vlm.loop import accelerator
from evals.vlm.tokens import IGNORED
from tests.evals.vlm.small import after, tokenizer

RECIPE = LanguageRecipe(size="tiny", steps=40, batch=4, block=16, rate=2e-2)
TEXTS = [f"{question} the picture shows {colour}" for question in ("what", "is it") for colour in ("red", "blue")] * 8
DOCUMENTS = [(text,) for text in TEXTS]


@pytest.fixture
def words() -> Any:
    """The tokenizer."""
    return tokenizer()


def learn(words: Any, folder: Path, seed: int = 0, documents: Any = DOCUMENTS, **more: Any) -> Any:
    """A small Llama after its training, and whether that came to its end."""
    made = small_llama("tiny", words, positions=32, seed=seed)
    done = train_language(made, documents, words, RECIPE, folder, accelerator(torch.device("cpu")), silent_bar, **more)
    return made, done


def test_without_a_text_there_is_nothing_to_learn(words: Any) -> None:
    """And no folder is made."""
    with pytest.raises(DataError, match="no text"):
        learn(words, Path("nowhere"), documents=[])
    assert not Path("nowhere").exists()


def test_keys_begin_as_queries(words: Any) -> None:
    """In every block, so that attention begins at what is alike."""
    made = small_llama("tiny", words, positions=32, seed=0)
    weights = dict(made.named_parameters())
    keys = [name for name in weights if "k_proj" in name]
    assert len(keys) == 2
    assert all(torch.equal(weights[name], weights[name.replace("k_proj", "q_proj")]) for name in keys)


def test_it_learns_the_text(words: Any, tmp_path: Path) -> None:
    """From that of a guess, or somewhat worse, among all words to what the text leaves open: which of two colours."""
    made, done = learn(words, tmp_path)
    losses = [line["loss"] for line in log.read(tmp_path)]
    assert done
    assert 0.9 < losses[0] / torch.tensor(float(len(words))).log().item() < 1.5
    assert losses[-1] < 0.6
    start = torch.tensor([[words.bos_token_id, *words("is it the picture shows")["input_ids"]]])
    likeliest = made(start).logits[0, -1].topk(2).indices.tolist()
    assert set(words.convert_ids_to_tokens(likeliest)) == {"red", "blue"}


def test_training_repeats_itself_and_resumes(words: Any, tmp_path: Path) -> None:
    """Bit for bit, from the seed alone, whatever stands in the global stream; another seed gives other weights."""
    one, _ = learn(words, tmp_path / "one")
    torch.rand(3)
    _, stopped = learn(words, tmp_path / "two", stop=after(13))
    two, done = learn(words, tmp_path / "two")
    assert (stopped, done) == (False, True)
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())
    fresh = [small_llama("tiny", words, positions=32, seed=seed) for seed in (0, 0, 1)]
    first, same, other = (model.get_input_embeddings().weight for model in fresh)  # type: ignore[operator]
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_loss_is_that_of_transformers(words: Any) -> None:
    """Its own loss function, on the same tokens and on the mean of embeddings where they are blurred."""
    made, ids = small_llama("tiny", words, positions=32, seed=0), torch.arange(12).view(2, 6)
    labels, others = ids.masked_fill(ids % 4 == 1, IGNORED), torch.stack([ids.flip(0), ids.flip(1)])
    embed: Any = made.get_input_embeddings()  # type: ignore[operator]
    for wanted, shares in ((ids, (1.0, 0.0, 0.0)), (labels, (1.0, 0.0, 0.0)), (labels, (0.7, 0.2, 0.1))):
        words_3BT = torch.cat([ids[None], others])
        seen = sum(share * embed(one) for share, one in zip(shares, words_3BT, strict=True))
        loss = NextToken(made)(wanted, words_3BT, torch.tensor(shares)[:, None, None].expand(3, 2, 6))
        torch.testing.assert_close(loss, made(inputs_embeds=seen, labels=wanted).loss)


def test_sizes_are_named(words: Any) -> None:
    """The larger one is larger; one that does not exist is told the others."""
    tiny, small = (sum(p.numel() for p in small_llama(size, words, 32, 0).parameters()) for size in ("tiny", "small"))
    assert small > 20 * tiny
    with pytest.raises(UsageError, match=r"unknown size of language model 'huge'.*small, tiny"):
        small_llama("huge", words, 32, 0)


def test_a_language_model_is_opened_strictly(words: Any, tmp_path: Path) -> None:
    """Weights and tokenizer of a folder; weights that do not fit their configuration are refused."""
    made: Any = small_llama("tiny", words, positions=32, seed=0)
    made.save_pretrained(tmp_path / "lm")
    with pytest.raises(UnavailableError, match="no language model can be read"):
        open_language(tmp_path / "lm")
    words.save_pretrained(tmp_path / "lm")
    model, told = open_language(tmp_path / "lm")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in made.state_dict().items())
    assert told.get_vocab() == words.get_vocab()
    config = tmp_path / "lm" / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(WeightsError, match=r"do not fit its config\.json"):
        open_language(tmp_path / "lm")
    with pytest.raises(UnavailableError, match="nowhere"):
        open_language(tmp_path / "nowhere")
