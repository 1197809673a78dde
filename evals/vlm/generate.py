"""Greedy answers in batches, the same as one by one: left padding, attention mask, positions that count real tokens.

Pictures are encoded once each, however many questions there are of one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from evals.context import batches
from evals.errors import UsageError
from evals.vlm.model import VisionLanguage
from evals.vlm.tokens import IMAGE_SLOT

Look = Callable[[Sequence[str]], Tensor]
"""Keys of pictures -> their visual tokens [B, K, D], on the device of the model."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to be answered."""

    ids_T: Int[Tensor, " T"]
    """With one IMAGE_SLOT where the picture goes, if there is one."""
    picture: str | None
    """Key of the picture: questions of one picture have the same."""


@dataclass(frozen=True, slots=True)
class Answerer:
    """A model that answers requests."""

    model: VisionLanguage
    tokenizer: Any
    """Of transformers; its EOS ends an answer."""
    look: Look
    batch: int
    """Requests at once. Answers do not depend on it beyond rounding."""

    def answers(
        self, requests: Sequence[Request], max_new_tokens: int, advance: Callable[[int], object] = lambda n: None
    ) -> list[str]:
        """The answers in the order of the requests: without special tokens and outer blanks.

        `advance` is told how many were answered. The model is left in eval mode. Raises UsageError for a request whose
        prompt and picture do not go together.
        """
        for request in requests:
            if bool((request.ids_T == IMAGE_SLOT).any()) != (request.picture is not None):
                raise UsageError("a prompt needs an image slot where it has a picture, and none where it has not.")
        self.model.eval()
        found = [""] * len(requests)
        for places, visual_BKD in self._together(requests):
            rows = [requests[place].ids_T for place in places]
            told = generate(self.model, rows, visual_BKD, self.tokenizer.eos_token_id, max_new_tokens)
            for place, ids in zip(places, told, strict=True):
                found[place] = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
            advance(len(places))
        return found

    def _together(self, requests: Sequence[Request]) -> Iterator[tuple[list[int], Tensor]]:
        """Requests in batches with their visual tokens. Those of one picture follow each other, so that none is kept.

        Inside of a picture, and among pictures of one question, the order is the given one.
        """
        first: dict[str | None, int] = {}
        for place, request in enumerate(requests):
            first.setdefault(request.picture, place)
        order = sorted(range(len(requests)), key=lambda place: first[requests[place].picture])
        held: dict[str, Tensor] = {}
        for part in batches(len(order), self.batch):
            places = [order[place] for place in part]
            keys = [requests[place].picture for place in places]
            wanted = list(dict.fromkeys(key for key in keys if key is not None))
            if fresh := [key for key in wanted if key not in held]:
                held |= zip(fresh, self.look(fresh), strict=True)
            held = {key: held[key] for key in wanted}
            nothing = self._nothing(held)
            yield places, torch.stack([nothing if key is None else held[key] for key in keys])

    def _nothing(self, held: dict[str, Tensor]) -> Tensor:
        """What stands in the batch for the visual tokens of a request without a picture; never read."""
        if held:
            return torch.zeros_like(next(iter(held.values())))
        weight = self.model.projector.inner.weight
        return weight.new_zeros(1, weight.shape[1])


@torch.no_grad()
def generate(
    model: VisionLanguage,
    rows: Sequence[Int[Tensor, " _"]],
    visual_BKD: Float[Tensor, "B K D"],
    eos: int,
    max_new_tokens: int,
) -> list[list[int]]:
    """The likeliest next token again and again, for one batch; each row ends before its first EOS."""
    embeddings_BTD, mask_BT = pad_left(model, rows, visual_BKD)
    positions_BT = (mask_BT.long().cumsum(1) - 1).clamp(min=0)
    language: nn.Module = model.language
    given: dict[str, Any] = {"inputs_embeds": embeddings_BTD}
    chosen: list[Tensor] = []
    done_B = torch.zeros(len(rows), dtype=torch.bool, device=mask_BT.device)
    while True:
        told = language(**given, attention_mask=mask_BT, position_ids=positions_BT, use_cache=True, logits_to_keep=1)
        token_B = told.logits[:, -1].float().argmax(-1).masked_fill(done_B, eos)
        chosen.append(token_B)
        done_B = done_B | (token_B == eos)
        if len(chosen) == max_new_tokens or bool(done_B.all()):
            break
        given = {"input_ids": token_B[:, None], "past_key_values": told.past_key_values}
        mask_BT = torch.cat([mask_BT, torch.ones_like(mask_BT[:, :1])], 1)
        positions_BT = positions_BT[:, -1:] + 1
    answers = torch.stack(chosen, 1).tolist()
    return [answer[: answer.index(eos)] if eos in answer else answer for answer in answers]


def pad_left(
    model: VisionLanguage, rows: Sequence[Int[Tensor, " _"]], visual_BKD: Float[Tensor, "B K D"]
) -> tuple[Float[Tensor, "B T D2"], Bool[Tensor, "B T"]]:
    """Embeddings of prompts with their pictures in place, so that all end together, and which places are real."""
    # Any word fills the places before a row: nothing looks at them.
    ids_BT = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_side="left").to(visual_BKD.device)
    spliced = [words_TD for words_TD, _ in model.rows(ids_BT, visual_BKD)]
    embeddings_BTD = nn.utils.rnn.pad_sequence(spliced, batch_first=True, padding_side="left")
    more = visual_BKD.shape[1] - 1
    lengths = [len(row) + (more if bool((row == IMAGE_SLOT).any()) else 0) for row in rows]
    first_B = embeddings_BTD.shape[1] - torch.tensor(lengths, device=visual_BKD.device)
    return embeddings_BTD, torch.arange(embeddings_BTD.shape[1], device=visual_BKD.device) >= first_B[:, None]
