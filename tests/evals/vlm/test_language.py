"""Small language models trained on text alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.context import silent_bar
from evals.errors import DataError, UnavailableError, UsageError, WeightsError
from evals.vlm import log
from evals.vlm.language import LanguageRecipe, NextToken, Packed, open_language, pack, small_llama, train_language
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


def test_documents_are_packed_whole(words: Any) -> None:
    """BOS, parts, EOS; what is only read is no target; as many as fit into a block, the rest is padded; one is cut."""
    numbers = words.get_vocab()

    def ids(told: str) -> list[int]:
        return [numbers[word] for word in told.split()]

    documents = [("what colour", "red", "is it"), ("red",), ("blue",), ("is it", "the", "red blue red blue red blue")]
    blocks = pack(documents, words, 9)
    assert blocks.shape == (2, 3, 9)
    pad = [words.pad_token_id]
    first, second = ids("<s> what colour red is it </s>"), ids("<s> red </s> <s> blue </s>")
    third = ids("<s> is it the red blue red blue red")
    assert blocks[0].tolist() == [first + pad * 2, second + pad * 3, third]
    labels = [[*first[:3], IGNORED, *first[4:]], second, [*third[:3], IGNORED, *third[4:]]]
    assert blocks[1].tolist() == [each + [IGNORED] * (9 - len(each)) for each in labels]
    with pytest.raises(DataError, match="no text"):
        learn(words, Path("nowhere"), documents=[])


def test_blocks_come_in_their_order() -> None:
    """And again from the first; without anything that is only read, nothing is blurred."""
    feed = Packed(torch.arange(28).view(2, 7, 2), pad=99, recipe=replace(RECIPE, batch=3))
    assert [feed.plan(step) for step in (0, 2, 3)] == [[[0, 1, 2]], [[6, 0, 1]], [[2, 3, 4]]]
    page = feed.read([6, 0])
    assert [page.words_3BT[0].tolist(), page.labels_BT.tolist()] == [[[12, 13], [0, 1]], [[26, 27], [14, 15]]]
    assert page.shares_3BT[0].eq(1).all() and not page.shares_3BT[1:].any()


def test_what_is_only_read_is_blurred_more_and_more() -> None:
    """Neither what is learnt nor what is padded, nor the first blocks; by words that are only read; drawn by block."""
    ids = torch.tensor([[1, 2, 3, 0]]).repeat(1000, 1) + torch.tensor([0, 0, 4, 0]) * (torch.arange(1000)[:, None] % 2)
    labels = torch.tensor([[1, IGNORED, IGNORED, IGNORED]]).repeat(1000, 1)
    feed = Packed(torch.stack([ids, labels]), pad=0, recipe=replace(RECIPE, blur=0.6, clear=0.25))
    page = feed.read(range(1000))
    own = page.shares_3BT[0]
    torch.testing.assert_close(page.shares_3BT.sum(0), torch.ones(1000, 4))
    assert own[:, [0, 3]].eq(1).all() and own[:251].eq(1).all()
    assert torch.equal(page.words_3BT[0], ids)
    assert set(page.words_3BT[1:].flatten().tolist()) == {2, 3, 7}
    most = page.shares_3BT[:, 900:, 1:3].amax(0)
    assert 0.4 < most.min() < 0.42
    torch.testing.assert_close(1 - most.mean().item(), 0.6 * 700 / 750 / 2, atol=0.03, rtol=0)
    again = feed.read([990, 17])
    assert torch.equal(again.shares_3BT[:, 0], page.shares_3BT[:, 990])
    assert torch.equal(again.words_3BT[:, 0], page.words_3BT[:, 990])


def test_shares_can_be_taken_at_their_value() -> None:
    """Of all words with some share of a place, that share is the true one."""
    ids, labels = torch.full((40, 4000), 5), torch.full((40, 4000), IGNORED)
    shares = (
        Packed(torch.stack([ids, labels]), pad=0, recipe=replace(RECIPE, blur=0.6, clear=0.0)).read([39]).shares_3BT
    )
    true = torch.zeros_like(shares)
    true[0] = 1
    judged = 0
    for low in torch.arange(0, 1, 0.1):
        among = (shares > low) & (shares <= low + 0.1)
        if among.sum() > 300:
            judged += 1
            torch.testing.assert_close(true[among].mean(), shares[among].mean(), atol=0.05, rtol=0)
    assert judged >= 8


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
