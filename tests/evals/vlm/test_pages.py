"""Text in blocks: what is learnt, what is only read, and how sure it is."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from evals.vlm.language import LanguageRecipe
from evals.vlm.pages import Blocks, Packed, pack
from evals.vlm.tokens import IGNORED
from tests.evals.vlm.small import tokenizer

RECIPE = LanguageRecipe(size="tiny", steps=1, batch=3)


@pytest.fixture
def words() -> Any:
    """The tokenizer."""
    return tokenizer()


def doubted(doubt: float, sure: float, blocks: int = 1000, parts: int = 1) -> Packed:
    """Blocks of word 1, with so many parts of two places each that are only read: 3 and 4 there, 5 and 6 perhaps."""
    labels = torch.tensor([[1, 1, *[IGNORED, IGNORED, 1] * parts]], dtype=torch.int32).repeat(blocks, 1)
    lines = [[1, 1, *[word, word, 1] * parts] for word in (3, 4, 5, 6)]
    words_KNT = torch.tensor(lines, dtype=torch.int32)[:, None].repeat(1, blocks, 1)
    return Packed(Blocks(labels, words_KNT), replace(RECIPE, doubt=doubt, sure=sure))


def test_documents_are_packed_whole(words: Any) -> None:
    """BOS, parts, EOS; what is only read is no target; as many as fit into a block, the rest is padded; one is cut."""
    numbers = words.get_vocab()

    def ids(told: str) -> list[int]:
        return [numbers[word] for word in told.split()]

    documents = [("what colour", "red", "is it"), ("red",), ("blue",), ("is it", "the", "red blue red blue red blue")]
    labels_NT, words_KNT = pack(documents, words, 9)
    assert words_KNT.shape == (1, 3, 9)
    pad = [words.pad_token_id]
    first, second = ids("<s> what colour red is it </s>"), ids("<s> red </s> <s> blue </s>")
    third = ids("<s> is it the red blue red blue red")
    assert words_KNT[0].tolist() == [first + pad * 2, second + pad * 3, third]
    labels = [[*first[:3], IGNORED, *first[4:]], second, [*third[:3], IGNORED, *third[4:]]]
    assert labels_NT.tolist() == [each + [IGNORED] * (9 - len(each)) for each in labels]


def test_lines_of_what_is_only_read_lie_upon_each_other(words: Any) -> None:
    """Everything else is the same in each layer; a single line too; lines that do not fit are an error."""
    numbers = words.get_vocab()
    told = ("what", "red blue\nblue red", "is"), ("is", "red", "it")
    labels_NT, words_KNT = pack(told, words, 12)
    assert words_KNT.shape == (2, 1, 12)
    layers = [[words.convert_ids_to_tokens(word) for word in layer[0].tolist()] for layer in words_KNT]
    assert layers[0][:10] == ["<s>", "what", "red", "blue", "is", "</s>", "<s>", "is", "red", "it"]
    assert [at for at in range(12) if layers[0][at] != layers[1][at]] == [2, 3]
    assert layers[1][2:4] == ["blue", "red"]
    learnt = [numbers[word] for word in ("<s>", "what")] + [IGNORED] * 2 + [numbers["is"]]
    assert labels_NT[0, :5].tolist() == learnt
    with pytest.raises(ValueError, match=r"\[2, 3\] lines"):
        pack([("is", "red\nred"), ("is", "red\nred\nred")], words, 12)
    with pytest.raises(ValueError, match="shorter"):
        pack([("is", "red blue\nred")], words, 12)


def test_blocks_come_in_their_order() -> None:
    """And again from the first; with one line there is nothing to doubt."""
    table = torch.arange(28, dtype=torch.int32).view(2, 7, 2)
    feed = Packed(Blocks(table[1], table[:1]), replace(RECIPE, doubt=0.5))
    assert [feed.plan(step) for step in (0, 2, 3)] == [[[0, 1, 2]], [[6, 0, 1]], [[2, 3, 4]]]
    page = feed.read([6, 0])
    assert [page.words_KBT[0].tolist(), page.labels_BT.tolist()] == [[[12, 13], [0, 1]], [[26, 27], [14, 15]]]
    assert page.shares_KBT.eq(1).all()


def test_doubt_grows_from_block_to_block() -> None:
    """Not in the first ones; not of what is learnt, whose layers are the same; drawn by block, the same again."""
    feed = doubted(0.4, 0.25)
    shares_KNT = feed.read(range(1000)).shares_KBT
    torch.testing.assert_close(shares_KNT.sum(0), torch.ones(1000, 5))
    assert shares_KNT[:2, :251].eq(0.5).all() and not shares_KNT[2:, :251].any()
    assert shares_KNT[:2, :, [0, 1, 4]].eq(0.5).all()
    doubt_N = 2 * shares_KNT[2, :, 2]
    assert torch.equal(shares_KNT[:, :, 2], shares_KNT[:, :, 3])
    less_N = torch.minimum(doubt_N, 1 - doubt_N)
    assert 0.35 < less_N[900:].max() < 0.4
    torch.testing.assert_close(less_N[900:].mean().item(), 0.4 * 700 / 750 / 2, atol=0.03, rtol=0)
    assert torch.equal(feed.read([990, 17]).shares_KBT[:, 0], shares_KNT[:, 990])


def test_each_document_has_a_doubt_of_its_own() -> None:
    """Not each place, and not each block."""
    doubt_NP = 2 * doubted(0.5, 0.0, parts=3).read(range(500, 1000)).shares_KBT[2][:, [2, 5, 8]]
    assert abs(torch.corrcoef(doubt_NP.T)[0, 1:]).max() < 0.15
    assert doubt_NP.std(dim=1).min() > 0


def test_shares_can_be_taken_at_their_value() -> None:
    """Of all that has some share of a place, that share is what is there."""
    shares_KN = 2 * doubted(0.5, 0.0, blocks=9000).read(range(4500, 9000)).shares_KBT[:, :, 2]
    there, else_ = shares_KN[0], shares_KN[2]
    judged = 0
    for low in torch.arange(0, 1, 0.1):
        right, wrong = (((share > low) & (share <= low + 0.1)).sum().item() for share in (there, else_))
        if right + wrong > 300:
            judged += 1
            assert abs(right / (right + wrong) - (low.item() + 0.05)) < 0.05
    assert judged >= 8
