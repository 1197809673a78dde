"""Plain text about scenes that were never drawn, to learn language from: captions, descriptions, conversations."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from evals.miniature.talks.asking import asks
from evals.miniature.talks.captions import caption, description
from evals.miniature.talks.choices import offered, present, uses
from evals.miniature.talks.conversations import Turns, lettered, told_turns
from evals.miniature.talks.imagine import imagine
from evals.miniature.talks.phrases import REFERENCE, SHORT, SYSTEM, USES, a
from evals.miniature.talks.realworldqa import asked, spatial

__all__ = ["END", "conversation", "documents"]

Rng = np.random.Generator

END = "</s>"
"""Ends an answer in a conversation; the tokenizer knows it as the end of a sequence."""


def conversation(turns: Turns) -> str:
    """Turns in the v1 template of LLaVA."""
    rounds = [f"USER: {question} ASSISTANT: {answer}{END}" for question, answer in turns]
    return f"{SYSTEM} {''.join(rounds)}"


def _options(rng: Rng) -> Turns:
    """A told scene, and one question with options about it."""
    sight = imagine(rng)
    told = description(sight, rng)
    among = [ask for ask in asks(sight, rng) if ask.kind in ("colour", "pattern", "side", "sign", "signs", "count")]
    among += [*present(sight, rng), *uses(sight), *spatial(sight)]
    ask, at = among[int(rng.integers(len(among)))], int(rng.integers(12))
    if rng.random() < 0.5:
        question, answer = asked(ask, at, rng)
        return [(f"{told}\n{question}", answer)]
    question, answer = lettered(replace(offered(ask, at, rng), hint=told))
    return [(question, answer)]


def _listed(rng: Rng) -> Turns:
    """Signs that are told, what a reader of signs found, and a question about one."""
    while True:
        sight = imagine(rng)
        among = [ask for ask in asks(sight, rng) if ask.kind in ("sign", "signs")]
        if among:
            break
    ask = among[int(rng.integers(len(among)))]
    words = [item.text for item in sight.items if item.text]
    line = REFERENCE + ", ".join(words[k] for k in rng.permutation(len(words)).tolist())
    return [(f"{description(sight, rng)}\n{ask.question}\n{line}\n{SHORT}", ask.answer)]


def _document(number: int, rng: Rng) -> str:
    form = number % 10
    if form < 2:
        return caption(imagine(rng), rng) + "\n"
    if form == 2:
        return description(imagine(rng), rng)
    if form == 3:
        labels = [list(USES)[k] for k in rng.permutation(len(USES)).tolist()[:4]]
        return " ".join(f"{a(label).capitalize()} is for {USES[label]}." for label in labels)
    if form < 8:
        return conversation(told_turns(imagine(rng), 6, rng))
    return conversation(_options(rng) if form == 8 else _listed(rng))


def documents(number: int, rng: Rng) -> Iterator[str]:
    """That many documents: a fifth captions (each with its newline, as in the alignment of pictures), a tenth each of
    descriptions and of what things are for, the rest conversations about scenes that are told in them.
    """
    for k in range(number):
        yield _document(k, rng)
