"""Plain text about scenes that were never drawn, to learn language from: captions, descriptions, conversations."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from evals.miniature.talks.asking import KINDS, Ask, asks
from evals.miniature.talks.captions import caption, description
from evals.miniature.talks.choices import offered, present, uses
from evals.miniature.talks.conversations import DESCRIBE, PLACES, Turns, claims, lettered, pick, scene_turns, told_turns
from evals.miniature.talks.imagine import imagine, mistaken
from evals.miniature.talks.lists import checklist, inventory
from evals.miniature.talks.maps import glances, word_map
from evals.miniature.talks.phrases import REFERENCE, SHORT, SYSTEM, USES, a
from evals.miniature.talks.realworldqa import asked, spatial
from evals.miniature.talks.sights import Sight

__all__ = ["END", "conversation", "documents"]

Rng = np.random.Generator
Document = tuple[str, ...]
"""Parts in turn: learnt, only read, learnt. What is only read are maps, in the place of a picture (see `glances`)."""

END = "</s>"
"""Ends an answer in a conversation; the tokenizer knows it as the end of a sequence."""
_TURNS = 8
_HOW = f"\n{SHORT}"
_FORMS = (
    *("list", "asked", "map", "presence", "signs", "asked", "list", "looks", "asked", "map", "list", "reading"),
    *("caption", "presence", "asked", "signs", "map", "list", "described", "asked", "presence", "looks", "claims"),
    *("map", "asked", "list", "signs", "reading", "options"),
)
"""What follows maps, in turn."""
_FIRST = 24_000
"""Documents before all others: until looking up is learnt, the rest teaches little, and keeps it from being learnt."""
_ALONE = 0.6
"""Share of those with lists alone, beside a single map: to look up is learnt best where a place says one word."""
_SECOND = ("list", "signs", "map", "presence")
"""What follows the maps of the others, in turn."""
_FORMAL = 0.3
"""Share of conversations that begin with the sentence of the template, and say how to answer."""


def conversation(turns: Turns) -> str:
    """Turns in the v1 template of LLaVA."""
    rounds = [f"USER: {question} ASSISTANT: {answer}{END}" for question, answer in turns]
    return f"{SYSTEM} {''.join(rounds)}"


def _few(rng: Rng) -> Sight:
    """A sight of mostly few things: what is hard to find among many is learnt among few."""
    sight = imagine(rng)
    if sight.kind == "board" or rng.random() < 0.3:
        return sight
    among = [item for item in sight.items if not isinstance(item.on, int)]
    kept = set(rng.permutation(len(among)).tolist()[: int(rng.integers(1, 5))])
    return replace(sight, items=tuple(item for k, item in enumerate(among) if k in kept))


def _with_sign(rng: Rng) -> tuple[Sight, list[Ask]]:
    """A sight with something to read, and the questions of that."""
    while True:
        sight = imagine(rng)
        among = [ask for ask in asks(sight, rng) if ask.kind in KINDS["reading"]]
        if among:
            return sight, among


def _asked(sight: Sight, rng: Rng) -> Turns:
    return scene_turns(asks(sight, rng), _TURNS, rng)


def _present(sight: Sight, rng: Rng) -> Turns:
    """What is there and what is not."""
    return scene_turns([ask for ask in asks(sight, rng) if ask.kind in KINDS["presence"]], _TURNS, rng)


def _optional(sight: Sight, rng: Rng) -> Turns:
    """One question with options."""
    kinds = ("colour", "pattern", "side", "sign", "signs", "count")
    among = [ask for ask in asks(sight, rng) if ask.kind in kinds]
    among += [*present(sight, rng), *uses(sight), *spatial(sight)]
    ask, at = among[int(rng.integers(len(among)))], int(rng.integers(PLACES))
    return [asked(ask, at, rng) if rng.random() < 0.5 else lettered(offered(ask, at, rng))]


def _described(sight: Sight, rng: Rng) -> Turns:
    """A description, then sentences about something in it."""
    turns = [(DESCRIBE[int(rng.integers(len(DESCRIBE)))], description(sight, rng))]
    return turns + [(ask.question, ask.full) for ask in pick(asks(sight, rng), 2, rng)]


_LINES: Mapping[str, Callable[[Sight, str, Rng], str]] = MappingProxyType(
    {
        "caption": lambda sight, told, rng: caption(sight, rng),
        "list": lambda sight, told, rng: checklist(sight, rng),
        "looks": lambda sight, told, rng: inventory(sight, rng),
        # Told twice: each word is found at its place, as in the alignment of maps to pictures.
        "map": lambda sight, told, rng: told.partition("\n")[0],
    }
)
"""What follows a map in one line."""
_TALKS: Mapping[str, Callable[[Sight, Rng], Turns]] = MappingProxyType(
    {"asked": _asked, "presence": _present, "described": _described, "claims": claims, "options": _optional}
)
"""What is asked after a map."""


def _read(sight: Sight, rng: Rng) -> str:
    """What is only read in the place of a picture."""
    return glances(sight, mistaken(sight, rng), rng)


def _mapped(form: str, rng: Rng, read: Callable[[Sight, Rng], str] = _read) -> Document:
    """Maps in the place of a picture, and what is said of it."""
    if form in ("reading", "signs"):
        sight, among = _with_sign(rng)
        told = read(sight, rng)
        if form == "reading":
            return _parts(conversation(_before(told, [_listed(sight, among, rng)])), told)
        turns = [(among[k].question, among[k].answer) for k in rng.permutation(len(among)).tolist()]
        return _parts(_briefly(_before(told, turns)), told)
    sight = _few(rng)
    told = read(sight, rng)
    if form in _LINES:
        return "", told, f" {_LINES[form](sight, told, rng)}\n"
    turns = _before(told, _TALKS[form](sight, rng) or _described(sight, rng))
    return _parts(conversation(turns) if rng.random() < _FORMAL else _briefly(turns), told)


def _parts(text: str, told: str) -> Document:
    before, _, after = text.partition(told)
    return before, told, after


def _listed(sight: Sight, among: list[Ask], rng: Rng) -> tuple[str, str]:
    """What a reader of signs found, and a question about one."""
    ask = among[int(rng.integers(len(among)))]
    words = [item.text for item in sight.items if item.text]
    line = REFERENCE + ", ".join(words[k] for k in rng.permutation(len(words)).tolist())
    return f"{ask.question}\n{line}\n{SHORT}", ask.answer


def _before(told: str, turns: Turns) -> Turns:
    """The first question with what is told before it."""
    (question, answer), *rest = turns
    return [(f"{told}\n{question}", answer), *rest]


def _briefly(turns: Turns) -> str:
    """Turns without the sentence that begins conversations, and without how to answer."""
    return "".join(f"USER: {question.replace(_HOW, '')} ASSISTANT: {answer}{END}" for question, answer in turns)


def _captioned(rng: Rng) -> str:
    return caption(imagine(rng), rng) + "\n"


def _useful(rng: Rng) -> str:
    """What things are for."""
    labels = [list(USES)[k] for k in rng.permutation(len(USES)).tolist()[:_TURNS]]
    return " ".join(f"{a(label).capitalize()} is for {USES[label]}." for label in labels)


def _told_options(rng: Rng) -> str:
    sight = imagine(rng)
    told = description(sight, rng)
    return conversation(_before(told, _optional(sight, rng)))


def _told_reading(rng: Rng) -> str:
    sight, among = _with_sign(rng)
    return conversation(_before(description(sight, rng), [_listed(sight, among, rng)]))


_TOLD: tuple[Callable[[Rng], str], ...] = (
    _captioned,
    lambda rng: _briefly(told_turns(_few(rng), _TURNS, rng)),
    _told_options,
    lambda rng: description(imagine(rng), rng),
    _useful,
    _told_reading,
    lambda rng: conversation(told_turns(imagine(rng), _TURNS, rng)),
    lambda rng: _briefly(told_turns(_few(rng), _TURNS, rng)),
)
"""Documents without a map."""


def documents(number: int, rng: Rng) -> Iterator[Document]:
    """That many documents, in the order to be learnt in.

    First a map each with lists, then with what is written, what is there and the map again too (_FIRST of them, or
    the half); then maps with all that is said of pictures, and in every fourth a scene that is told in sentences.
    Captions end with a newline, as in the alignment of pictures; conversations have the templates of LLaVA.
    """
    first = min(_FIRST, number // 2)
    for k in range(first):
        alone = k < _ALONE * first
        yield _mapped("list", rng, word_map) if alone else _mapped(_SECOND[k % len(_SECOND)], rng)
    for k in range(number - first):
        round_, place = divmod(k, 4)
        if place < 3:
            yield _mapped(_FORMS[(3 * round_ + place) % len(_FORMS)], rng)
        else:
            yield (_TOLD[round_ % len(_TOLD)](rng),)
