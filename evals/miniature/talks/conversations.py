"""Conversations about pictures, and without them, in the form of LLaVA's instruction data."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evals.miniature.sizes import Talks
from evals.miniature.talks.asking import KINDS, Ask, asks
from evals.miniature.talks.captions import caption, description
from evals.miniature.talks.choices import Choice, in_lines, knowledge, offered, present, uses
from evals.miniature.talks.imagine import imagine
from evals.miniature.talks.lists import checklist, inventory
from evals.miniature.talks.maps import word_map
from evals.miniature.talks.mme import COGNITION, PERCEPTION, statements
from evals.miniature.talks.phrases import LETTER, REFERENCE, SHORT, USES, a
from evals.miniature.talks.realworldqa import asked, spatial
from evals.miniature.talks.scienceqa import HINTS
from evals.miniature.talks.shelf import Stock
from evals.miniature.talks.sights import Sight
from evals.miniature.talks.textvqa import ocr_tokens

__all__ = [
    "DESCRIBE",
    "PLACES",
    "Turns",
    "about",
    "alignment",
    "alone",
    "claims",
    "lettered",
    "pick",
    "scene_turns",
    "told_turns",
]

Rng = np.random.Generator
Turns = list[tuple[str, str]]
"""Questions and answers."""
Record = dict[str, Any]

_MARK = "<image>"
_TURNS = 10
_ROUNDS = 4
_SKIPPED = 0.75
_CHOICES = 4
PLACES = 12
"""A multiple of every number of options: places drawn below it are equally likely among any of them."""
DESCRIBE = (
    "Describe the image.",
    "What is in the image?",
    "Tell me what you see.",
    "What does the image show?",
)
_BY_WORD = ("Tick off what the image shows.", "Which of these are there?")
_BY_THING = ("Say thing by thing what is shown.", "Go through the image thing by thing.")
_BY_PLACE = ("Say place by place what is shown.", "Go through the image row by row.")
_BRIEFLY = ("Say briefly what is shown.", "Give a short caption of the image.", "What is this?")


def pick(among: Sequence[Ask], number: int, rng: Rng) -> list[Ask]:
    """Draw questions: groups of kinds take turns, and in each the answer is drawn before the question.

    Yes and no alternate, whichever comes first, and a group that lacks the one whose turn it is is passed over; so is,
    mostly, a count of one, which would otherwise be most counts.
    """
    group = {kind: name for name, kinds in KINDS.items() for kind in kinds}
    waiting: dict[str, list[Ask]] = {name: [] for name in KINDS}
    for k in rng.permutation(len(among)).tolist():
        if among[k].kind in group:
            waiting[group[among[k].kind]].append(among[k])
    names = [list(KINDS)[k] for k in rng.permutation(len(KINDS)).tolist()]
    found: list[Ask] = []
    turn = {name: ("yes", "no")[int(rng.integers(2))] for name in names}
    for name in names * _ROUNDS:
        wanted = _wanted([ask.answer for ask in waiting[name]], name, turn[name], rng)
        best = next((ask for ask in waiting[name] if ask.answer == wanted), None)
        if best is not None and len(found) < number:
            waiting[name].remove(best)
            found.append(best)
            turn[name] = "no" if best.answer == "yes" else "yes"
    return [found[k] for k in rng.permutation(len(found)).tolist()]


def _wanted(answers: Sequence[str], name: str, turn: str, rng: Rng) -> str | None:
    """The answer that the next question of a group shall have."""
    if not answers:
        return None
    if name == "count" and answers[0] == "1" and rng.random() < _SKIPPED:
        return next((answer for answer in answers if answer != "1"), None)
    if answers[0] in ("yes", "no"):
        return turn
    return answers[0]


def scene_turns(among: Sequence[Ask], number: int, rng: Rng) -> Turns:
    """Short questions; the first is followed by how to answer all of them."""
    asked = pick(among, number, rng)
    return [(ask.question if k else f"{ask.question}\n{SHORT}", ask.answer) for k, ask in enumerate(asked)]


def lettered(choice: Choice) -> tuple[str, str]:
    """A question with options and its answer, as ScienceQA is asked."""
    context = f"Context: {choice.hint}\n" if choice.hint else ""
    return f"{context}{choice.question}\n{in_lines(choice)}\n{LETTER}", choice.letter


def _choices(stock: Stock, rng: Rng) -> Turns:
    """Questions with options, as in ScienceQA."""
    among = [ask for ask in stock.asks if ask.kind in ("colour", "pattern", "side", "sign", "signs")]
    among += [*present(stock.sight, rng), *uses(stock.sight)]
    turns: Turns = []
    for k in rng.permutation(len(among)).tolist()[:_CHOICES]:
        choice = offered(among[k], int(rng.integers(PLACES)), rng)
        hint = HINTS[stock.sight.kind] if rng.random() < 0.3 else ""
        hint = knowledge(choice) if among[k].kind == "use" else hint
        turns.append(lettered(Choice(choice.question, choice.options, choice.answer, hint)))
    return turns


def _spatial(stock: Stock, rng: Rng) -> Turns:
    """Questions as in RealWorldQA."""
    among = [ask for ask in stock.asks if ask.kind in ("depth", "side", "count", "sign", "signs")]
    among += spatial(stock.sight)
    order = rng.permutation(len(among)).tolist()[:_CHOICES]
    return [asked(among[k], int(rng.integers(PLACES)), rng) for k in order]


def _described(stock: Stock, rng: Rng) -> Turns:
    """A description, then a sentence about something in it."""
    turns = [(DESCRIBE[int(rng.integers(len(DESCRIBE)))], description(stock.sight, rng))]
    return turns + [(ask.question, ask.full) for ask in pick(stock.asks, 2, rng)]


def claims(sight: Sight, rng: Rng) -> Turns:
    """Yes or no, in the words of MME."""
    turns: Turns = []
    for category in (*PERCEPTION, *COGNITION):
        truth = bool(rng.random() < 0.5)
        groups = statements(category, sight)
        if all(groups):
            among = groups[0 if truth else 1]
            turns.append((f"{among[int(rng.integers(len(among)))]}\n{SHORT}", "yes" if truth else "no"))
    return [turns[k] for k in rng.permutation(len(turns)).tolist()]


def _claims(stock: Stock, rng: Rng) -> Turns:
    return claims(stock.sight, rng)


def _tokens(stock: Stock, rng: Rng) -> Turns:
    """Reading with the tokens that a reader of signs found."""
    line = f"{REFERENCE}{', '.join(ocr_tokens(stock, rng))}"
    reads = [ask for ask in stock.asks if ask.kind in KINDS["reading"]]
    order = rng.permutation(len(reads)).tolist()[:2]
    return [(f"{reads[k].question}\n{line}\n{SHORT}", reads[k].answer) for k in order]


_FORMS: tuple[Callable[[Stock, Rng], Turns], ...] = (_choices, _claims, _described, _spatial)


def _record(name: str, turns: Turns, image: str | None) -> Record:
    """A record of the instruction file."""
    said = []
    for number, (question, answer) in enumerate(turns):
        mark = f"{_MARK}\n" if number == 0 and image is not None else ""
        said += [{"from": "human", "value": mark + question}, {"from": "gpt", "value": answer}]
    kind: Record = {"model": ""} if image is None else {"image": image}
    return {"id": name, **kind, "conversations": said}


def about(stock: Stock, image: str, rng: Rng) -> list[Record]:
    """Two or three records about a training picture: short questions, another form, and the reading of signs."""
    talks = [scene_turns(stock.asks, _TURNS, rng), _FORMS[int(rng.integers(len(_FORMS)))](stock, rng)]
    if any(ask.kind in KINDS["reading"] for ask in stock.asks):
        talks.append(_tokens(stock, rng))
    name = image.rsplit("/", 1)[-1].removesuffix(".jpg")
    return [_record(name, turns, image) for turns in talks if turns]


def alignment(stock: Stock, image: str, counts: Talks, rng: Rng) -> list[Record]:
    """Captions, maps and lists of a training picture for the alignment file; the marker stands first or last."""
    sight, name, records = stock.sight, image.rsplit("/", 1)[-1].removesuffix(".jpg"), []
    told: list[tuple[tuple[str, ...], str]] = [(_BRIEFLY, caption(sight, rng)) for _ in range(counts.captions)]
    told += [(_BY_PLACE, word_map(sight, rng, stock.record["cells"])) for _ in range(counts.maps)]
    told += [(_BY_WORD, checklist(sight, rng)) for _ in range(counts.lists)]
    told += [(_BY_THING, inventory(sight, rng)) for _ in range(counts.looks)]
    for heads, answer in told:
        ask = heads[int(rng.integers(len(heads)))]
        human = f"{_MARK}\n{ask}" if rng.random() < 0.5 else f"{ask}\n{_MARK}"
        turns = [{"from": "human", "value": human}, {"from": "gpt", "value": answer}]
        records.append({"id": name, "image": image, "conversations": turns})
    return records


def alone(number: int, rng: Rng) -> Record:
    """A conversation without a picture: about a scene that is told, or about what things are for."""
    name = f"talk_{number:06d}"
    if number % 3 == 0:
        labels = [list(USES)[k] for k in rng.permutation(len(USES)).tolist()[:3]]
        turns = [(f"What is {a(label)} for?", f"{a(label).capitalize()} is for {USES[label]}.") for label in labels]
        return _record(name, turns, None)
    return _record(name, told_turns(imagine(rng), 4, rng), None)


def told_turns(sight: Sight, number: int, rng: Rng) -> Turns:
    """A description in the first question, which with the others can be answered from it."""
    # Who is before whom is told of one pair only.
    among = [ask for ask in asks(sight, rng) if ask.kind != "depth"]
    (question, answer), *rest = scene_turns(among, number, rng)
    return [(f"{description(sight, rng)}\n{question}", answer), *rest]
