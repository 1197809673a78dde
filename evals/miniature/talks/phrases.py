"""Words for what is seen: articles, plurals, lists, looks, places and uses."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from evals.miniature.talks.sights import Item

__all__ = [
    "FLOORS",
    "LEFT",
    "LETTER",
    "LETTER_ONLY",
    "NAMES",
    "REFERENCE",
    "RIGHT",
    "SHORT",
    "SYSTEM",
    "USES",
    "WORD_ONLY",
    "YES_OR_NO",
    "a",
    "column",
    "listed",
    "look",
    "many",
    "said",
]

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
"""First sentence of every conversation in the v1 template of LLaVA."""
SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
LETTER_ONLY = "Please answer directly with only the letter of the correct option and nothing else."
WORD_ONLY = "Please answer directly with a single word or number."
YES_OR_NO = "Please answer yes or no."
REFERENCE = "Reference OCR token: "

LEFT, RIGHT = 0.4, 0.6
"""Middles of boxes, as shares of the width, up to which a thing is on the left and from which on the right."""

USES: Mapping[str, str] = MappingProxyType(
    {
        "mug": "drinking",
        "teapot": "pouring tea",
        "chair": "sitting",
        "lamp": "giving light",
        "car": "driving",
        "house": "living",
        "robot": "working",
        "bird": "singing",
        "rocket": "going to space",
        "aeroplane": "flying",
        "ball": "playing",
        "block": "building",
    }
)
"""What a thing is for, or does."""

FLOORS: Mapping[str, str] = MappingProxyType(
    {"planks": "made of planks", "tiles": "tiled", "checked": "checked", "speckled": "speckled", "plain": "plain"}
)
"""Pattern of a floor -> how it is called."""

NAMES: Mapping[str, str] = MappingProxyType({"picture": "framed picture"})
"""Things that are called otherwise than their label, because the word has two meanings."""


def said(label: str) -> str:
    """How a thing of this label is called."""
    return NAMES.get(label, label)


def a(words: str) -> str:
    """With the indefinite article."""
    return f"an {words}" if words[0] in "aeio" else f"a {words}"


def many(label: str) -> str:
    """The plural."""
    return said(label) + "s"


def listed(parts: Sequence[str]) -> str:
    """As a list with commas and a final "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def look(item: Item) -> str:
    """Texture, colours and name, without an article."""
    if item.label == "sign":
        return f"{item.colours[0]} sign"
    colours = " and ".join(item.colours)
    texture = "" if item.label in ("table", "window", "door") else f"{item.texture} "
    if item.texture == "plain":
        return f"{texture}{colours} {said(item.label)}"
    return f"{colours} {texture}{said(item.label)}"


def column(item: Item) -> str:
    """Where it is, across the picture."""
    if item.middle < LEFT:
        return "on the left"
    return "on the right" if item.middle > RIGHT else "in the middle"
