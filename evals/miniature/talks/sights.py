"""What can be told of a picture: which things are seen well enough to be asked about, and how they stand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.miniature.palette import COLOURS
from evals.miniature.things import FAMILIES

__all__ = ["PLACED", "STANDING", "Box", "Item", "Sight", "sight_of"]

STANDING = ("ball", "block", *FAMILIES)
"""Labels of what stands about; the rest belongs to rooms."""
PLACED = (*STANDING, "table", "sign")
"""Labels of what has a place of its own in a picture."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as shares of width and height."""

_STANDARD = 128
"""Short side in pixels for which the thresholds below are told; they grow with the picture. 64 visual tokens are then
16 pixels wide."""
_LEAST_PIXELS = 260  # one token of 16 x 16
_LEAST_PATTERN = 520  # two tokens: a pattern needs some periods
_LEAST_SIDE = 12
_LEAST_SEEN, _LEAST_INSIDE = 0.65, 0.7
_LEAST_TONE = 0.45
_LETTER = 7.5
"""Pixels a letter, across, from which a word is readable."""
_CONTRAST, _STEP = 0.8, 0.2
"""Two colours make a pattern that is seen under any light from this Euclidean distance in RGB, or this difference in
brightness: stripes of white and yellow do not."""
_LIGHT = (0.299, 0.587, 0.114)
_LEAST_FLOOR = 0.18
_LEAST_SHARE = 0.12
"""Share of a thing's pixels from which their colour is noticed."""


@dataclass(frozen=True, slots=True)
class Item:
    """A thing in a picture.

    `clear`: can be recognised; `toned`: its one colour looks like the name that it has; `patterned`: its texture can
    be seen; `legible`: its text can be read. `on` is the id of what it stands on, or "floor" or "wall"; `shown` are
    the named colours of its pixels, which shade and trims make others than its own `colours`.
    """

    id: int
    label: str
    texture: str
    colours: tuple[str, ...]
    text: str
    box: Box
    depth: float
    area: float
    on: int | str
    shown: tuple[str, ...]
    clear: bool = True
    toned: bool = True
    patterned: bool = True
    legible: bool = True

    @property
    def middle(self) -> float:
        """Middle of the box across, as a share of the width."""
        return (self.box[0] + self.box[2]) / 2


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen: the kind of picture ("portrait", "gathering", "room", "board"), all visible things, large and
    clear or not, and the pattern of the floor where it shows.
    """

    kind: str
    items: tuple[Item, ...]
    floor: str | None = None

    def all(self, label: str) -> list[Item]:
        """Every visible thing of a label."""
        return [item for item in self.items if item.label == label]

    def present(self, label: str) -> bool:
        """Whether one of these is clearly seen."""
        return any(item.clear for item in self.all(label))

    def absent(self, label: str) -> bool:
        """Whether not a pixel of such a thing is seen. Neither present nor absent is what no one should ask about."""
        return not self.all(label)

    def single(self, label: str) -> Item | None:
        """The one thing of this label, if it is clear and there is no other."""
        found = self.all(label)
        return found[0] if len(found) == 1 and found[0].clear else None

    def number(self, label: str) -> int | None:
        """How many there are, if each of them is clear (or there is none)."""
        found = self.all(label)
        return len(found) if all(item.clear for item in found) else None

    def singles(self) -> list[Item]:
        """Clear things, the only ones of their label, that have a place in the picture."""
        return [item for label in PLACED if (item := self.single(label)) is not None]


def sight_of(record: Mapping[str, Any]) -> Sight:
    """The sight of a description as `shots.write` returns it."""
    camera = record["camera"]
    width, height = camera["width"], camera["height"]
    unit = min(width, height) / _STANDARD
    items = tuple(_item(told, width, height, unit) for told in record["objects"])
    floor = record["room"]["floor"] if record["floor_share"] >= _LEAST_FLOOR else None
    return Sight(record["kind"], items, floor)


def _item(told: Mapping[str, Any], width: int, height: int, unit: float) -> Item:
    x0, y0, x1, y1 = told["box"]
    across, down = x1 - x0 + 1, y1 - y0 + 1
    clear = (
        told["pixels"] >= _LEAST_PIXELS * unit**2
        and min(across, down) >= _LEAST_SIDE * unit
        and told["visible"] >= _LEAST_SEEN
        and told["inside"] >= _LEAST_INSIDE
    )
    wide, within, uncovered = told.get("board", (0.0, 0.0, 0.0))
    legible = within > 0.999 and uncovered > 0.92 and wide >= _LETTER * unit * len(told["text"])
    shares = dict(told["tones"])
    return Item(
        id=told["id"],
        label=told["class"] or told["name"],
        texture=told["texture"],
        colours=tuple(told["colours"]),
        text=told["text"].lower(),
        box=(x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height),
        depth=told["depth"],
        area=told["pixels"] / (width * height),
        on=told["on"],
        shown=tuple(name for name, share in shares.items() if share >= _LEAST_SHARE),
        clear=clear or legible,
        toned=shares.get(told["colours"][0], 0.0) >= _LEAST_TONE if told["colours"] else False,
        patterned=clear and told["pixels"] >= _LEAST_PATTERN * unit**2 and _stands_out(told["colours"]),
        legible=legible,
    )


def _stands_out(colours: Sequence[str]) -> bool:
    """Whether a pattern in these colours is seen; one colour has none to be missed."""
    if len(colours) < 2:
        return True
    first, second = (COLOURS[name] for name in colours[:2])
    lights = [sum(weight * value for weight, value in zip(_LIGHT, rgb, strict=True)) for rgb in (first, second)]
    return math.dist(first, second) >= _CONTRAST or abs(lights[0] - lights[1]) >= _STEP
