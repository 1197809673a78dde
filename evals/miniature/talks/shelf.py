"""What the six sets are made of: the pictures to be asked about, with every question that each answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.miniature.talks.asking import Ask, asks
from evals.miniature.talks.balance import Candidate
from evals.miniature.talks.sights import Sight, sight_of

__all__ = ["Shelf", "Stock", "candidates", "stock_of"]


@dataclass(frozen=True, slots=True)
class Stock:
    """A picture: its description, what is seen, and the questions about it."""

    record: Mapping[str, Any]
    sight: Sight
    asks: tuple[Ask, ...]

    @property
    def name(self) -> str:
        """A name for the picture, such as "room_000012"."""
        return f"{self.record['kind']}_{str(self.record['image']).rsplit('/', 1)[-1].removesuffix('.jpg')}"


Shelf = Sequence[Stock]


def stock_of(records: Iterable[Mapping[str, Any]], rng: np.random.Generator) -> list[Stock]:
    """The stock of descriptions."""
    found = []
    for record in records:
        sight = sight_of(record)
        found.append(Stock(record, sight, tuple(asks(sight, rng))))
    return found


def candidates(shelf: Shelf, kinds: Sequence[str]) -> list[Candidate]:
    """Every question of these kinds."""
    return [Candidate(at, ask) for at, stock in enumerate(shelf) for ask in stock.asks if ask.kind in kinds]
