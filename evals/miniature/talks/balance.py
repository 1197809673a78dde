"""A choice of questions such that the words of a question say as little as possible about its answer."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evals.miniature.talks.asking import Ask

__all__ = ["Candidate", "choose"]

_BINARY = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question about picture number `picture`."""

    picture: int
    ask: Ask


@dataclass(slots=True)
class _Tally:
    """What was chosen so far."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    worded: Counter[tuple[str, str]] = field(default_factory=Counter)
    uses: Counter[int] = field(default_factory=Counter)
    asked: set[tuple[int, str]] = field(default_factory=set)

    def add(self, group: str, words: str, chosen: Candidate) -> None:
        """Count a choice."""
        self.answers[group, chosen.ask.answer] += 1
        self.words[words] += 1
        self.worded[words, chosen.ask.answer] += 1
        self.uses[chosen.picture] += 1
        self.asked.add((chosen.picture, chosen.ask.question))


def choose(
    candidates: Sequence[Candidate],
    number: int,
    rng: np.random.Generator,
    *,
    per_picture: int,
    group: Callable[[Ask], str] = lambda ask: ask.kind,
    key: Callable[[Ask], str] = lambda ask: ask.question,
) -> list[Candidate]:
    """Choose at most `number` candidates, at most `per_picture` of one picture and each question once there.

    Groups take turns; in a group the rarest answer comes next, asked in the words (`key`) under which it has been the
    answer least against all others. A group whose answers are two ends when one of them runs out. The result is in
    the order of the pictures.
    """
    waiting: dict[str, dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for k in rng.permutation(len(candidates)).tolist():
        waiting[group(candidates[k].ask)][candidates[k].ask.answer].append(candidates[k])
    tally, chosen = _Tally(), list[Candidate]()
    turns: Counter[str] = Counter(dict.fromkeys(waiting, 0))
    while turns and len(chosen) < number:
        name = min(turns, key=lambda g: turns[g])
        best = _next(name, waiting[name], tally, per_picture, key)
        if best is None:
            del turns[name]
            continue
        tally.add(name, key(best.ask), best)
        turns[name] += 1
        chosen.append(best)
    return sorted(chosen, key=lambda c: c.picture)


def _next(
    group: str,
    waiting: dict[str, list[Candidate]],
    tally: _Tally,
    per_picture: int,
    key: Callable[[Ask], str],
) -> Candidate | None:
    """The next choice of a group, taken from what is waiting; None: there is no other."""

    def cost(c: Candidate) -> tuple[int, int]:
        words = key(c.ask)
        return 2 * tally.worded[words, c.ask.answer] - tally.words[words], tally.uses[c.picture]

    def answers() -> list[str]:
        some = next((c for found in waiting.values() for c in found), None)
        if some is not None and len(some.ask.others) == _BINARY:
            return [min(some.ask.others, key=lambda answer: tally.answers[group, answer])]
        return sorted(waiting, key=lambda answer: tally.answers[group, answer])

    for answer in answers():
        found = [
            c
            for c in waiting[answer]
            if tally.uses[c.picture] < per_picture and (c.picture, c.ask.question) not in tally.asked
        ]
        waiting[answer] = found
        if found:
            best = min(found, key=cost)
            found.remove(best)
            return best
    return None
