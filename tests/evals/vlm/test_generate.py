"""Greedy answers in batches."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from evals.errors import UsageError
from evals.vlm.generate import Answerer, Request, generate, pad_left
from evals.vlm.model import VisionLanguage, see
from evals.vlm.tokens import IMAGE_SLOT
from tests.evals.vlm.small import DIM, GRID, SmallEncoder, images, model, tokenizer

NEW = 12


@pytest.fixture(scope="module")
def words() -> Any:
    """The tokenizer."""
    return tokenizer()


@pytest.fixture(scope="module")
def small(words: Any) -> VisionLanguage:
    """A model whose untrained answers differ by picture and question."""
    made = model(words, seed=3)
    with torch.no_grad():
        for parameter in made.parameters():
            # The usual initialisation is so small that one word wins everywhere.
            parameter.mul_(6)
    return made.eval()


class Looker:
    """Visual tokens of pictures named by a number, and which were asked for."""

    def __init__(self) -> None:
        self.encoder, self.pixels, self.asked = SmallEncoder(), images(8), list[str]()

    def __call__(self, keys: Sequence[str]) -> Tensor:
        """Encode them."""
        self.asked += keys
        return see(self.encoder, self.pixels[[int(key) for key in keys]], "final", GRID)


def requests(words: Any, count: int = 14) -> list[Request]:
    """Questions of other lengths about five pictures in turn, every seventh about none."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(count):
        ids = torch.randint(4, len(words), (3 + number % 5,), generator=generator)
        shows = number % 7 != 6
        front = torch.tensor([1, IMAGE_SLOT] if shows else [1])
        made.append(Request(torch.cat([front, ids]), str(number % 5) if shows else None))
    return made


def test_batched_answers_are_those_of_one_by_one(small: VisionLanguage, words: Any) -> None:
    """In fp32, whatever the batch; and the answers are not all the same."""
    asked = requests(words)
    alone = Answerer(small, words, Looker(), 1).answers(asked, NEW)
    assert len(set(alone)) > len(alone) // 2
    for batch in (4, 14):
        assert Answerer(small, words, Looker(), batch).answers(asked, NEW) == alone


def test_greedy_is_what_the_whole_sequence_says(small: VisionLanguage, words: Any) -> None:
    """Each token is the likeliest after a fresh pass over everything before it, without a cache or padding."""
    asked = requests(words, 3)
    visual = Looker()([str(request.picture) for request in asked])
    told = generate(small, [request.ids_T for request in asked], visual, words.eos_token_id, NEW)
    for request, shown, ids in zip(asked, visual, told, strict=True):
        so_far = small.rows(request.ids_T[None], shown[None])[0][0][None]
        embed: Any = small.language.get_input_embeddings()  # type: ignore[operator]
        for token in [*ids, words.eos_token_id][:NEW]:
            logits = small.language(inputs_embeds=so_far).logits
            assert logits[0, -1].argmax() == token
            so_far = torch.cat([so_far, embed(torch.tensor([[token]]))], 1)


def test_an_answer_ends_at_eos(small: VisionLanguage, words: Any) -> None:
    """A row that has ended stays so while others go on."""
    asked = requests(words, 6)
    rows = [request.ids_T for request in asked]
    visual = Looker()([str(request.picture) for request in asked])
    free = generate(small, rows, visual, -1, NEW)
    assert {len(ids) for ids in free} == {NEW}
    stop = free[0][2]
    cut = [ids[: ids.index(stop)] if stop in ids else ids for ids in free]
    assert generate(small, rows, visual, stop, NEW) == cut
    assert len(cut[0]) <= 2
    assert max(map(len, cut)) == NEW


def test_rows_end_together(small: VisionLanguage) -> None:
    """Left padding: what is real stands at the end of each row, with the visual tokens in place."""
    rows = [torch.tensor([1, IMAGE_SLOT, 5]), torch.tensor([1, 6]), torch.tensor([1, IMAGE_SLOT, 5, 6, 7])]
    visual = torch.randn(3, 4, DIM, generator=torch.Generator().manual_seed(0))
    embeddings, mask = pad_left(small, rows, visual)
    assert mask.sum(1).tolist() == [6, 2, 8]
    assert mask[:, -2:].all()
    assert mask.diff(dim=1).sum(1).tolist() == [1, 1, 0]
    alone, _ = pad_left(small, rows[:1], visual[:1])
    torch.testing.assert_close(embeddings[0, -6:], alone[0])


def test_a_picture_is_encoded_once(small: VisionLanguage, words: Any) -> None:
    """However its questions lie among the others, and however small the batch."""
    for batch in (1, 3, 14):
        looker, told = Looker(), list[int]()
        Answerer(small, words, looker, batch).answers(requests(words), 1, told.append)
        assert sorted(looker.asked) == ["0", "1", "2", "3", "4"]
        assert sum(told) == 14


def test_a_slot_needs_a_picture(small: VisionLanguage, words: Any) -> None:
    """And a picture needs a slot."""
    for ids, picture in (([1, 5], "0"), ([1, IMAGE_SLOT, 5], None)):
        with pytest.raises(UsageError, match="image slot"):
            Answerer(small, words, Looker(), 1).answers([Request(torch.tensor(ids), picture)], 1)


def test_no_requests_no_answers(small: VisionLanguage, words: Any) -> None:
    """Nothing is asked of the model."""
    assert Answerer(small, words, Looker(), 4).answers([], NEW) == []
