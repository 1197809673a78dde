"""Pieces of a conversation -> token ids and labels, by one rule for every tokenizer.

Text between two marks (picture, end of an answer) is tokenised in one go, as if it stood alone, and divided where the
pieces meet. Under a tokenizer of the Llama kind every such stretch opens with the word marker, which is what the
original ("legacy") Llama tokenizer does with a whole conversation; later releases leave the marker out behind `</s>`,
so that `USER` of a later round is another token there. No label depends on it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from evals.datasets.llava import Talk
from evals.errors import DataError, UsageError
from evals.vlm.conversation import EndMark, ImageMark, Part, Piece, Template, pieces, prompt

IMAGE_SLOT = -200
"""In the place of a picture (LLaVA's `IMAGE_TOKEN_INDEX`)."""
IGNORED = -100
"""Label of a token that no loss counts (the default of torch's cross entropy)."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sample. One without a supervised token stays in its batch and adds nothing to the loss."""

    ids_T: Int[Tensor, " T"]
    """At most one IMAGE_SLOT."""
    labels_T: Int[Tensor, " T"]
    """IGNORED for whatever is not supervised."""
    cut_before: int
    """Tokens beyond the longest sample, the picture counted as one."""
    cut_after: int
    """Tokens beyond it once the visual tokens are in the slot, those visual tokens included. A picture that does not
    fit as a whole is left out: nothing after it could be supervised."""

    @property
    def supervised(self) -> int:
        """Tokens that the loss counts."""
        return int((self.labels_T != IGNORED).sum())

    @property
    def shows(self) -> bool:
        """The picture is among the tokens."""
        return bool((self.ids_T == IMAGE_SLOT).any())


class Codec:
    """A tokenizer of transformers and what the model around it takes.

    Raises UsageError for a tokenizer without an end of sequence, one that puts more than a beginning of sequence around
    a text, one that joins an answer with what stands before it, and for visual tokens that fill a sample by themselves;
    also where no token pads: `pad_token` names one of the vocabulary, None stands for the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, visual_tokens: int, max_length: int, pad_token: str | None = None) -> None:
        if visual_tokens >= max_length:
            raise UsageError(
                f"{visual_tokens} visual tokens leave no room for words among max_length {max_length}. "
                "Take a smaller side, or a larger max_length."
            )
        self.tokenizer, self.visual_tokens, self.max_length = tokenizer, visual_tokens, max_length
        self.pad_id = _pad_id(tokenizer, pad_token)
        self.end_id = _end_id(tokenizer)
        self.opening = _opening(tokenizer)
        """Before every sample: the beginning of sequence where the tokenizer itself puts one, else nothing."""
        self._check_splitting()

    def encode_talk(self, talk: Talk, template: Template) -> Encoded:
        """The ids and labels of a record, cut on the right to `max_length` before and after the visual tokens come in.

        Raises DataError naming the record for a conversation that the template does not take.
        """
        try:
            parts = pieces(talk.turns, talk.image is not None, template)
        except DataError as error:
            raise DataError(f"record {talk.id}: {error}") from error
        ids, labels, whole = self._labelled(parts)
        if not whole:  # as LLaVA does where its masks and tokens disagree
            labels = [IGNORED] * len(ids)
        return self._cut(ids, labels)

    def encode_prompt(self, parts: Sequence[Part]) -> Int[Tensor, " T"]:
        """The ids of a prompt, uncut."""
        return torch.tensor(self._labelled(parts)[0], dtype=torch.long)

    def _labelled(self, parts: Sequence[Part]) -> tuple[list[int], list[int], bool]:
        """Ids, labels, and whether every stretch of text divides where its pieces meet."""
        stretches = list(_stretches(parts))
        texts = [text for stretch in stretches if isinstance(stretch, list) for text, _ in stretch]
        tokens = iter(self._tokens(texts))
        ids, labels, whole = [*self.opening], [IGNORED] * len(self.opening), True
        for stretch in stretches:
            if isinstance(stretch, ImageMark):
                new, supervised = [[IMAGE_SLOT]], [False]
            elif isinstance(stretch, EndMark):
                new, supervised = [[self.end_id]], [stretch.supervised]
            else:
                reached = [next(tokens) for _ in stretch]
                whole = whole and _nested(reached)
                new = [now[len(before) :] for before, now in zip([[], *reached], reached, strict=False)]
                supervised = [says for _, says in stretch]
            for some, says in zip(new, supervised, strict=True):
                ids += some
                labels += some if says else [IGNORED] * len(some)
        return ids, labels, whole

    def _cut(self, ids: list[int], labels: list[int]) -> Encoded:
        kept = ids[: self.max_length]
        before = len(ids) - len(kept)
        if IMAGE_SLOT not in kept:
            return _encoded(kept, labels, before, 0)
        over = max(0, len(kept) - 1 + self.visual_tokens - self.max_length)
        slot = kept.index(IMAGE_SLOT)
        if slot + self.visual_tokens > self.max_length:
            return _encoded(kept[:slot], labels, before, len(kept) - 1 - slot + self.visual_tokens)
        return _encoded(kept[: len(kept) - over], labels, before, over)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def _check_splitting(self) -> None:
        asked = prompt("Is it?", image=False)
        *_, whole = self._labelled([*asked, Piece(" Yes", supervised=True)])
        if not whole:
            raise UsageError(
                f"the tokenizer of {_name(self.tokenizer)} joins the answer with `ASSISTANT:` before it, so that no "
                "label could tell them apart. Take a language model whose tokenizer divides words at blanks."
            )


def _stretches(parts: Sequence[Part]) -> Iterator[ImageMark | EndMark | list[tuple[str, bool]]]:
    """Marks as they are; text between marks as it grows piece by piece, and whether each piece is supervised."""
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, Piece)):
        if not is_text:
            yield from (part for part in group if not isinstance(part, Piece))
            continue
        text, reached = "", []
        for part in group:
            assert isinstance(part, Piece)
            text += part.text
            reached.append((text, part.supervised))
        yield reached


def _nested(reached: Sequence[Sequence[int]]) -> bool:
    """Each begins with the one before."""
    return all(list(after[: len(before)]) == list(before) for before, after in pairwise(reached))


def _encoded(ids: list[int], labels: list[int], before: int, after: int) -> Encoded:
    kept = labels[: len(ids)]
    return Encoded(torch.tensor(ids, dtype=torch.long), torch.tensor(kept, dtype=torch.long), before, after)


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or "the language model")


def _pad_id(tokenizer: Any, pad_token: str | None) -> int:
    if pad_token is None:
        if tokenizer.pad_token_id is None:
            raise UsageError(
                f"the tokenizer of {_name(tokenizer)} has no token for padding. Name one of its vocabulary in the "
                "recipe: pad_token, such as <unk> for a Llama; it is never attended to nor learned."
            )
        return int(tokenizer.pad_token_id)
    number = tokenizer.get_vocab().get(pad_token)
    if number is None:
        raise UsageError(f"pad_token {pad_token!r} is not in the vocabulary of {_name(tokenizer)}.")
    return int(number)


def _end_id(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise UsageError(f"the tokenizer of {_name(tokenizer)} has no end of sequence, which closes every answer.")
    return int(tokenizer.eos_token_id)


def _opening(tokenizer: Any) -> list[int]:
    """The beginning of sequence, if the tokenizer puts one before a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    dressed = tokenizer("a")["input_ids"]
    opening = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    if dressed == bare:
        return []
    if dressed != opening + bare:
        raise UsageError(
            f"the tokenizer of {_name(tokenizer)} makes {dressed} of a text of tokens {bare}: more than a beginning of "
            "sequence before it. Take a causal language model's."
        )
    return opening
