"""Text in blocks, to learn language from: what is learnt, and what is only read, in the place of a picture."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from evals.device import torch_generator
from evals.vlm.loop import Feed
from evals.vlm.tokens import IGNORED

if TYPE_CHECKING:
    from evals.vlm.language import LanguageRecipe

__all__ = ["Blocks", "Document", "Packed", "Page", "pack"]

Document = Sequence[str]
"""Parts in turn: learnt, only read, learnt and so on.

What is only read is one line, or an even number of them with a word for each place: the first half says what is there,
the other half what might be there instead. Of each half all words are seen at once.
"""


class Blocks(NamedTuple):
    """Documents as tokens, as many to a block as fit."""

    labels_NT: Int32[Tensor, "N T"]
    """IGNORED where nothing is learnt."""
    words_KNT: Int32[Tensor, "K N T"]
    """Lines of what is only read; K times the same elsewhere."""


def pack(documents: Sequence[Document], tokenizer: Any, block: int) -> Blocks:
    """Documents in their order, each from BOS to EOS.

    A document longer than a block is cut; none is divided among two, where what is asked of it could not be known.
    Raises ValueError where the lines of what is only read differ in length, or in number between documents.
    """
    split = [[part.split("\n") if at % 2 else [part] for at, part in enumerate(document)] for document in documents]
    counts = {len(lines) for parts in split for lines in parts[1::2]}
    layers = max(counts, default=1)
    if counts - {1, layers}:
        raise ValueError(f"what is only read has {sorted(counts)} lines in different documents; give one number or 1.")
    known = _tokens([line for parts in split for lines in parts for line in lines], tokenizer)
    blocks: list[list[Int32[np.ndarray, "L t"]]] = []
    room = 0
    for parts in split:
        places_Lt = _places([[next(known) for _ in lines] for lines in parts], layers, tokenizer)[:, :block]
        if places_Lt.shape[1] > room:
            blocks.append([])
            room = block
        blocks[-1].append(places_Lt)
        room -= places_Lt.shape[1]
    table_LNT = np.full((layers + 1, len(blocks), block), tokenizer.pad_token_id, dtype=np.int32)
    table_LNT[0] = IGNORED
    for at, tables in enumerate(blocks):
        whole_Lt = np.concatenate(tables, axis=1)
        table_LNT[:, at, : whole_Lt.shape[1]] = whole_Lt
    return Blocks(torch.from_numpy(table_LNT[0]), torch.from_numpy(table_LNT[1:]))


def _tokens(lines: list[str], tokenizer: Any) -> Iterator[list[int]]:
    return iter(tokenizer(lines, add_special_tokens=False, verbose=False)["input_ids"] if lines else ())


def _places(parts: Sequence[Sequence[list[int]]], layers: int, tokenizer: Any) -> Int32[np.ndarray, "L t"]:
    """Label, and word of each layer, of each place of a document from BOS to EOS."""
    bos, eos = ([[word]] if word is not None else [[]] for word in (tokenizer.bos_token_id, tokenizer.eos_token_id))
    learnt = [True, *(at % 2 == 0 for at in range(len(parts))), True]
    whole = [bos, *parts, eos]
    labels = [word if learn else IGNORED for learn, lines in zip(learnt, whole, strict=True) for word in lines[0]]
    words = [[word for lines in whole for word in lines[layer % len(lines)]] for layer in range(layers)]
    if {len(layer) for layer in words} != {len(labels)}:
        raise ValueError("of what is only read, one line is shorter than another; each needs a word for every place.")
    return np.array([labels, *words], dtype=np.int32)


class Page(NamedTuple):
    """Blocks to be read at once."""

    labels_BT: Int[Tensor, "B T"]
    """IGNORED where nothing is learnt."""
    words_KBT: Int32[Tensor, "K B T"]
    """What is seen at each place."""
    shares_KBT: Float[Tensor, "K B T"]
    """How much of each."""


class Packed(Feed[Page]):
    """Blocks of tokens in batches, in their order and then from the first again.

    What is only read stands for visual tokens. Each of them shows all of what is at its place at once, and a projector
    makes it of features that leave doubt. So doubt grows from block to block, one for each document, and it is honest:
    what has some share is as often what is there.
    """

    def __init__(self, blocks: Blocks, recipe: "LanguageRecipe") -> None:
        self._labels_NT, self._words_KNT = blocks
        self._recipe = recipe

    @property
    def fingerprint(self) -> str:
        """Of the tokens."""
        return hashlib.sha256(torch.cat([self._labels_NT[None], self._words_KNT]).numpy().tobytes()).hexdigest()

    def plan(self, step: int) -> list[list[int]]:
        """One micro-batch; it may reach from the last block to the first."""
        number, batch = len(self._labels_NT), self._recipe.batch
        return [[at % number for at in range(step * batch, (step + 1) * batch)]]

    def read(self, samples: Sequence[int]) -> Page:
        """The blocks."""
        chosen = list(samples)
        shares_KBT = torch.stack([self._shares(sample) for sample in chosen], 1)
        return Page(self._labels_NT[chosen].long(), self._words_KNT[:, chosen], shares_KBT)

    def _shares(self, sample: int) -> Float[Tensor, "K T"]:
        """Of the words of a block."""
        recipe, layers, read_T = self._recipe, len(self._words_KNT), self._labels_NT[sample] == IGNORED
        if layers == 1:
            return torch.ones(1, len(read_T))
        rng, sure = torch_generator(recipe.seed, sample), recipe.sure * len(self._labels_NT)
        most = recipe.doubt * max(0.0, (sample - sure) / (len(self._labels_NT) - sure))
        part_T = (read_T & ~read_T.roll(1)).cumsum(0)  # no document begins with what is only read
        doubt_P = most * torch.rand(len(part_T) + 1, generator=rng)
        doubt_P = torch.where(torch.rand(len(doubt_P), generator=rng) < doubt_P, 1 - doubt_P, doubt_P)
        doubt_T = doubt_P[part_T] * read_T
        return torch.stack([1 - doubt_T, doubt_T]).repeat_interleave(layers // 2, 0) / (layers // 2)

    def name(self, sample: int) -> str:
        """Its number."""
        return f"block {sample}"
