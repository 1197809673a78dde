"""Questions and answers about sights that were made by hand."""

from dataclasses import replace

import numpy as np

from evals.miniature.talks.asking import asks
from evals.miniature.talks.captions import caption, description
from evals.miniature.talks.choices import knowledge, offered, present, uses
from evals.miniature.talks.imagine import imagine
from evals.miniature.talks.sights import Item, Sight

MUG = Item(0, "mug", "plain", ("red",), "", (0.05, 0.5, 0.3, 0.9), 2.0, 0.1, "floor", ("red",))
BALL = Item(1, "ball", "striped", ("blue", "white"), "", (0.6, 0.3, 0.9, 0.6), 3.0, 0.04, "floor", ("blue", "white"))
UPPER = Item(2, "sign", "plain", ("green", "white"), "open", (0.2, 0.1, 0.8, 0.4), 2.0, 0.2, "floor", ("green",))
LOWER = Item(3, "sign", "plain", ("black", "white"), "tea", (0.2, 0.5, 0.8, 0.9), 2.0, 0.2, "floor", ("black",))


def answers(*items: Item, floor: str | None = None) -> dict[str, str]:
    """Question -> answer."""
    found = asks(Sight("gathering", items, floor), np.random.default_rng(0))
    return {ask.question: ask.answer for ask in found}


def test_two_things() -> None:
    """Every kind of question about a mug and a ball."""
    told = answers(MUG, BALL, floor="planks")
    expected = {
        "What colour is the mug?": "red",
        "What pattern does the ball have?": "striped",
        "Is the mug on the left or on the right of the image?": "left",
        "Is the ball on the left or on the right of the image?": "right",
        "Is the mug to the left or to the right of the ball?": "left",
        "Is the ball to the left or to the right of the mug?": "right",
        "Is the mug in front of the ball or behind it?": "in front",
        "Is the ball in front of the mug or behind it?": "behind",
        "How many mugs are there in the image?": "1",
        "Is there a mug in the image?": "yes",
        "Is there an aeroplane in the image?": "no",
        "Is the mug red?": "yes",
        "Is the ball striped?": "yes",
        "Which thing is striped?": "ball",
        "Which thing is red?": "mug",
        "What is to the right of the mug?": "ball",
        "Is the floor made of planks?": "yes",
    }
    assert expected.items() <= told.items()
    assert "What colour is the ball?" not in told
    assert "Which thing is blue?" not in told


def test_two_signs() -> None:
    """Which one is meant is said by its place or its colour."""
    told = answers(LOWER, UPPER)
    assert told["What does the upper sign say?"] == "open"
    assert told["What does the black sign say?"] == "tea"
    assert "What does the sign say?" not in told
    assert not [question for question in answers(UPPER, replace(LOWER, legible=False)) if "say" in question]
    same = replace(LOWER, colours=("green", "black"))
    assert "What does the green sign say?" not in answers(UPPER, same)


def test_nothing_is_asked_that_another_thing_confuses() -> None:
    """A second mug, or one that is seen badly, takes away what was said of the only one."""
    for clear in (True, False):
        other = replace(MUG, id=4, box=(0.35, 0.5, 0.5, 0.9), clear=clear)
        told = answers(MUG, BALL, other)
        assert "What colour is the mug?" not in told
        assert "Which thing is red?" not in told
        assert "Is the mug red?" not in told
        assert ("How many mugs are there in the image?" in told) == clear
    trimmed = answers(MUG, replace(BALL, shown=("blue", "red")))
    assert "Which thing is red?" not in trimmed


def test_a_thing_seen_badly_is_never_asked_for() -> None:
    """There is no question whether it is there."""
    told = answers(MUG, replace(BALL, clear=False, patterned=False))
    assert not [question for question in told if "ball" in question]


def test_full_answers_hold_the_short_ones() -> None:
    """The sentence says what the word says, over many sights."""
    rng = np.random.default_rng(1)
    kinds = set()
    for _ in range(100):
        for ask in asks(imagine(rng), rng):
            kinds.add(ask.kind)
            if ask.kind not in ("exists", "both", "verify", "floor"):
                assert ask.answer.split()[-1] in ask.full.replace("in front of", "in front behind")
            else:
                assert ask.full.lower().startswith(ask.answer)
            assert not ask.others or ask.answer in ask.others
    assert kinds == {
        *("colour", "pattern", "side", "relation", "depth", "count", "exists", "both", "verify", "which", "on"),
        *("beside", "twins", "sign", "signs", "floor"),
    }


def test_captions_and_descriptions_tell_what_is_clear() -> None:
    """Names, looks and words are there, and nothing of what is seen badly."""
    rng = np.random.default_rng(0)
    sight = Sight("gathering", (MUG, BALL, replace(UPPER, clear=False, legible=False)), "tiles")
    for _ in range(20):
        line = caption(sight, rng)
        assert "plain red mug" in line and "blue and white striped ball" in line and "sign" not in line
    told = description(sight, rng)
    assert told.startswith("On the left is a plain red mug. On the right is a blue and white striped ball.")
    assert "The mug is in front of the ball." in told and told.endswith("The floor is tiled.")
    both = description(Sight("board", (UPPER, LOWER)), rng)
    assert "The upper sign says open. The lower sign says tea." in both
    assert caption(Sight("room", ()), rng) == "a room"


def test_options() -> None:
    """The right one stands where it was put, once, among others; a hint tells what each is for."""
    rng = np.random.default_rng(0)
    sight = Sight("portrait", (MUG, BALL))
    for at in range(4):
        choice = offered(uses(sight)[0], at, rng)
        assert choice.options[at] == "drinking" and choice.letter == "ABCD"[at]
        assert len(set(choice.options)) == 4
        assert "A mug is for drinking." in knowledge(choice)
        assert knowledge(choice).count(".") == 4
    assert {ask.answer for ask in present(sight, rng)} == {"mug", "ball"}
    assert all("mug" not in ask.others and "ball" not in ask.others for ask in present(sight, rng))
    assert uses(Sight("portrait", (MUG, replace(BALL, area=0.06)))) == []
