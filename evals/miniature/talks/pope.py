"""The small set of POPE: is a thing in the picture? What is asked for in vain is drawn at random, from what is frequent
in this world, or from what is there most often along with what the picture shows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import numpy as np

from evals.miniature.talks.asking import LABELS
from evals.miniature.talks.phrases import a, said
from evals.miniature.talks.shelf import Shelf, Stock
from evals.miniature.talks.sights import Sight
from evals.miniature.talks.tables import Row, picture, write_table

__all__ = ["CATEGORIES", "FIELDS", "FILE", "Even", "Statistics", "rows", "statistics", "write"]

FILE = "vlm/POPE/data/test-00000-of-00001.parquet"
FULL = "vlm/POPE/Full/{category}-00000-of-00001.parquet"
FIELDS = {
    "id": "text",
    "question_id": "text",
    "question": "text",
    "answer": "text",
    "image_source": "text",
    "image": "image",
    "category": "text",
}
CATEGORIES = ("adversarial", "popular", "random")
_EACH = 3
"""Things asked for that are there, and as many that are not, for each picture and category."""
_POPULAR, _ADVERSARIAL = 9, 6
"""How many of the first ranks absent things come from."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """In how many pictures of the world things are clearly seen, alone and in pairs."""

    single: Counter[str]
    pairs: Counter[tuple[str, str]]

    def popular(self) -> list[str]:
        """Labels, most frequent first."""
        return sorted(LABELS, key=lambda label: -self.single[label])

    def beside(self, present: Sequence[str]) -> list[str]:
        """Labels by the mean share of pictures with a present one that show them too, largest first."""

        def share(label: str) -> float:
            return sum(self.pairs[here, label] / max(self.single[here], 1) for here in present)

        return sorted(LABELS, key=lambda label: -share(label))


def statistics(sights: Iterable[Sight]) -> Statistics:
    """Count what is seen."""
    single: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for sight in sights:
        here = [label for label in LABELS if sight.present(label)]
        single.update(here)
        pairs.update(permutations(here, 2))
    return Statistics(single, pairs)


@dataclass(slots=True)
class Even:
    """Chooses what to ask such that the same words (their `key`) have as many yes as no."""

    key: Callable[[str], str] = str
    surplus: Counter[str] = field(default_factory=Counter)

    def take(self, among: Sequence[str], number: int, answer: bool) -> list[str]:
        """Take that many of `among` (fewer if there are), those that the answer evens out most, in their order."""
        sign = 1 if answer else -1
        found = sorted(among, key=lambda words: sign * self.surplus[self.key(words)])[:number]
        for words in found:
            self.surplus[self.key(words)] += sign
        return found


def _absent(category: str, sight: Sight, known: Statistics, rng: np.random.Generator) -> list[str]:
    gone = [LABELS[k] for k in rng.permutation(len(LABELS)).tolist() if sight.absent(LABELS[k])]
    if category == "popular":
        return [label for label in gone if label in known.popular()[:_POPULAR]]
    if category == "adversarial":
        here = [label for label in LABELS if sight.present(label)]
        ranks = [label for label in known.beside(here) if label in gone]
        return ranks[:_ADVERSARIAL]
    return gone


def _asked(
    category: str, stock: Stock, known: Statistics, even: Even, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """(label, answer), of each answer the same number."""
    here = [LABELS[k] for k in rng.permutation(len(LABELS)).tolist() if stock.sight.present(LABELS[k])]
    gone = _absent(category, stock.sight, known, rng)
    each = min(_EACH, len(here), len(gone))
    no = even.take(gone, each, False)
    yes = even.take(here, each, True)
    return [pair for one, other in zip(yes, no, strict=True) for pair in ((one, "yes"), (other, "no"))]


def rows(root: Path, shelf: Shelf, known: Statistics, number: int, rng: np.random.Generator) -> list[Row]:
    """At most `number` questions of each category, all about the same pictures in any order."""
    order = rng.permutation(len(shelf)).tolist()
    found: list[Row] = []
    for category in CATEGORIES:
        even, start = Even(), len(found)
        for at in order:
            asked = _asked(category, shelf[at], known, even, rng)
            if len(found) - start + len(asked) > number:
                break
            for label, answer in asked:
                name = shelf[at].name
                found.append(
                    {
                        "id": str(len(found)),
                        "question_id": str(len(found) - start + 1),
                        "question": f"Is there {a(said(label))} in the image?",
                        "answer": answer,
                        "image_source": name,
                        "image": picture(root, shelf[at].record),
                        "category": category,
                    }
                )
    return found


def write(root: Path, shelf: Shelf, known: Statistics, number: int, rng: np.random.Generator) -> list[Row]:
    """Write the whole table and one of each category, and return all rows."""
    found = rows(root, shelf, known, number, rng)
    write_table(root / FILE, found, FIELDS)
    for category in CATEGORIES:
        own = [row for row in found if row["category"] == category]
        write_table(root / FULL.format(category=category), own, FIELDS)
    return found
