"""The choice of questions."""

from collections import Counter

import numpy as np

from evals.miniature.talks.asking import Ask
from evals.miniature.talks.balance import Candidate, choose

YES_NO = ("yes", "no")


def ask(kind: str, question: str, answer: str, others: tuple[str, ...] = YES_NO) -> Ask:
    """A question."""
    return Ask(kind, question, answer, f"{answer}.", others)


def test_two_answers_are_equally_frequent() -> None:
    """Of thirty that are true and ten that are false, ten each are chosen; the group ends with the rarer answer."""
    many = [Candidate(k, ask("a", f"q{k % 3}", "yes" if k % 4 else "no")) for k in range(40)]
    found = choose(many, 40, np.random.default_rng(0), per_picture=1)
    counts = Counter(c.ask.answer for c in found)
    assert counts["no"] == 10 and counts["yes"] in (10, 11)


def test_words_do_not_tell() -> None:
    """Where every question is there with both answers, each is chosen with both equally often."""
    many = [Candidate(k, ask("a", f"q{k % 5}", YES_NO[k % 2])) for k in range(100)]
    found = choose(many, 40, np.random.default_rng(1), per_picture=1)
    counts = Counter((c.ask.question, c.ask.answer) for c in found)
    assert len(found) == 40
    assert all(abs(counts[f"q{k}", "yes"] - counts[f"q{k}", "no"]) <= 1 for k in range(5))


def test_groups_take_turns_and_rare_answers_come_first() -> None:
    """A small group is used up, the other one fills the rest, with its answers as even as can be."""
    rare = [Candidate(k, ask("rare", "r", "1", ("1", "2", "3"))) for k in range(3)]
    rest = [Candidate(10 + k, ask("b", "q", "red" if k < 20 else "blue", ("red", "blue", "green"))) for k in range(25)]
    found = choose([*rare, *rest], 13, np.random.default_rng(0), per_picture=1)
    assert Counter(c.ask.kind for c in found) == {"rare": 3, "b": 10}
    assert Counter(c.ask.answer for c in found if c.ask.kind == "b") == {"red": 5, "blue": 5}


def test_pictures_are_not_asked_too_much() -> None:
    """No more than the limit a picture, nothing twice, in the order of the pictures."""
    many = [Candidate(k % 4, ask("a", f"q{k % 10}", "x", ("x", "y", "z"))) for k in range(80)]
    found = choose(many, 80, np.random.default_rng(0), per_picture=3)
    assert Counter(c.picture for c in found) == {0: 3, 1: 3, 2: 3, 3: 3}
    assert len({(c.picture, c.ask.question) for c in found}) == 12
    assert [c.picture for c in found] == sorted(c.picture for c in found)
