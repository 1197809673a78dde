"""Questions with options: which other answers are offered, and under which letter the right one stands."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.miniature.signs import WORDS
from evals.miniature.talks.asking import LABELS, Ask
from evals.miniature.talks.phrases import USES, a, said
from evals.miniature.talks.sights import STANDING, Sight

__all__ = ["LETTERS", "Choice", "in_lines", "knowledge", "offered", "placed", "present", "uses"]

Rng = np.random.Generator

LETTERS = "ABCD"
_MOST = 4
_LARGER = 2.0
"""How many times larger than any other the largest thing is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with options, of which number `answer` is right, and a hint or nothing."""

    question: str
    options: tuple[str, ...]
    answer: int
    hint: str = ""

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return LETTERS[self.answer]


def placed(question: str, right: str, wrong: Sequence[str], at: int, hint: str = "") -> Choice:
    """The choice with the right option at place `at` (counted around)."""
    at %= len(wrong) + 1
    return Choice(question, (*wrong[:at], right, *wrong[at:]), at, hint)


def offered(ask: Ask, at: int, rng: Rng) -> Choice:
    """A question among at most four options, drawn from what else could have been the answer."""
    among = ask.others or tuple(word.lower() for word in WORDS)
    others = [other for other in among if other != ask.answer]
    wrong = [others[k] for k in rng.permutation(len(others)).tolist()[: _MOST - 1]]
    return placed(ask.question, ask.answer, wrong, at)


def present(sight: Sight, rng: Rng) -> list[Ask]:
    """Which of four things is there; `others` are three that are not."""
    gone = [label for label in LABELS if sight.absent(label)]
    found = []
    for label in LABELS:
        if sight.present(label) and len(gone) >= _MOST - 1:
            wrong = [said(gone[k]) for k in rng.permutation(len(gone)).tolist()[: _MOST - 1]]
            full = f"There is {a(said(label))}."
            found.append(Ask("present", "Which of these is in the image?", said(label), full, tuple(wrong)))
    return found


def uses(sight: Sight) -> list[Ask]:
    """What the largest thing is for."""
    things = sorted((item for item in sight.items if item.label in STANDING), key=lambda item: -item.area)
    if not things or not things[0].clear or (len(things) > 1 and things[0].area < _LARGER * things[1].area):
        return []
    label = things[0].label
    full = f"The largest thing is {a(label)}. {a(label).capitalize()} is for {USES[label]}."
    return [Ask("use", "What is the largest thing in the image for?", USES[label], full, tuple(USES.values()))]


def knowledge(choice: Choice) -> str:
    """Sentences that say which thing each option belongs to, in the order of the alphabet."""
    known = {use: label for label, use in USES.items()}
    labels = sorted(known[option] for option in choice.options)
    return " ".join(f"{a(label).capitalize()} is for {USES[label]}." for label in labels)


def in_lines(choice: Choice) -> str:
    """The options, a line each, after their letters."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, choice.options, strict=False))
