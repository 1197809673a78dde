"""Every question of a set to a model, once; answers are kept as they come, so that a killed run goes on.

Pictures are padded to a square of the encoder's mean colour, as in instruction tuning, and each is encoded once.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evals.context import Context
from evals.datasets.vlm.table import QuestionSplit
from evals.errors import DataError
from evals.files import write_atomic
from evals.types import Encoder
from evals.vlm.checkpoint import Loaded
from evals.vlm.conversation import prompt
from evals.vlm.fit import view_of
from evals.vlm.generate import Answerer, Request
from evals.vlm.model import see
from evals.vlm.pictures import geometry, picture
from evals.vlm.recipe import Recipe
from evals.vlm.tokens import Codec

_PORTION = 256
"""Questions between two writes: the most that a killed run asks again."""


@dataclass(frozen=True, slots=True)
class Interview:
    """A model, the encoder that it sees through, and how it is asked."""

    loaded: Loaded
    encoder: Encoder
    recipe: Recipe
    context: Context
    max_new_tokens: int
    swapped: bool = False
    """Every question is shown the picture of another one: what is still right then needed no picture."""

    def answers(self, split: QuestionSplit, ask: Callable[[Mapping[str, Any]], str], kept: Path) -> list[str]:
        """The answers in the order of the split; `kept` is a folder of this interview alone.

        Raises DataError for a picture that cannot be read, or where there is no other picture to swap with.
        """
        view = view_of(self.recipe, self.encoder)
        stage = self.recipe.instruction or self.recipe.alignment
        tokenizer = self.loaded.tokenizer
        codec = Codec(tokenizer, view.tokens, stage.max_length, self.recipe.pad_token)
        pictures = _Pictures(split, swapped=self.swapped)
        requests = [
            Request(codec.encode_prompt(prompt(ask(entry.row), image=True)), pictures.shown[place])
            for place, entry in enumerate(split.entries)
        ]
        device = torch.device(self.context.device)
        way = geometry("pad", self.encoder.spec, view)

        def look(keys: Sequence[str]) -> Tensor:
            """Visual tokens of pictures by key."""
            squares = [picture(split[pictures.first[key]].picture, way, self.encoder.spec) for key in keys]
            return see(self.encoder, torch.stack(squares).to(device), self.recipe.layer, view.grid, self.recipe.dtype)

        answerer = Answerer(self.loaded.model.to(device), tokenizer, look, self.context.batch)
        return self._portions(requests, pictures, answerer, split, kept)

    def _portions(
        self, requests: Sequence[Request], pictures: "_Pictures", answerer: Answerer, split: QuestionSplit, kept: Path
    ) -> list[str]:
        order = sorted(range(len(requests)), key=lambda place: (pictures.number[pictures.shown[place]], place))
        found = [""] * len(requests)
        with self.context.bar(f"{self.encoder.card.name}: {split.dataset}", len(requests)) as bar:
            for start in range(0, len(order), _PORTION):
                places = order[start : start + _PORTION]
                path = kept / f"answers-{start:06d}.json"
                said = _read(path, len(places))
                if said is None:
                    said = answerer.answers([requests[place] for place in places], self.max_new_tokens)
                    write_atomic(path, json.dumps(said).encode())
                for place, answer in zip(places, said, strict=True):
                    found[place] = answer
                bar.update(len(places))
        return found


class _Pictures:
    """Which pictures a split has, and which one is shown with each question."""

    def __init__(self, split: QuestionSplit, *, swapped: bool) -> None:
        own = [sha256(split[place].picture).hexdigest() for place in range(len(split))]
        self.first: dict[str, int] = {}
        for place, key in enumerate(own):
            self.first.setdefault(key, place)
        keys = list(self.first)
        self.number = {key: number for number, key in enumerate(keys)}
        if swapped and len(keys) < 2:
            raise DataError(
                f"{split.dataset} has one picture here; there is none to swap it with. Take more questions."
            )
        # Half of the set away: neighbours in a table are often the same question about a like picture.
        away = len(keys) // 2 if swapped else 0
        self.shown = [keys[(self.number[key] + away) % len(keys)] for key in own]


def _read(path: Path, count: int) -> list[str] | None:
    """Answers that were written; None where they are not whole."""
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(said, list) and len(said) == count and all(isinstance(answer, str) for answer in said)
    return said if whole else None
