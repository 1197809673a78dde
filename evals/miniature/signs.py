"""Readable text: the words and their pictures."""

import itertools
from functools import cache

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw, ImageFont

# fmt: off
WORDS = (
    "APPLE", "BAKERY", "BANK", "BEACH", "BIKES", "BOOKS", "BREAD", "BUS", "CAFE", "CAKE", "CAMP", "CHEESE", "CINEMA",
    "CLOSED", "COFFEE", "DANCE", "DENTIST", "EXIT", "FARM", "FERRY", "FISH", "FLOWERS", "GARAGE", "GARDEN", "GATE",
    "HARBOUR", "HONEY", "HOTEL", "ICE", "JUICE", "KITCHEN", "LEMON", "LIBRARY", "LIFT", "LUNCH", "MARKET", "MILK",
    "MUSEUM", "MUSIC", "OFFICE", "OPEN", "PAINT", "PARK", "PIZZA", "POLICE", "POST", "QUIET", "RADIO", "RIVER",
    "ROOM", "SALE", "SCHOOL", "SHOES", "SOUP", "STATION", "STOP", "STUDIO", "TAXI", "TEA", "TICKETS", "TOYS", "TRAIN",
    "WATER", "ZOO",
)
# fmt: on
"""What signs say."""

_SIZE = 44  # font pixels
_MARGIN = 8


def draw_text(text: str) -> Float32[np.ndarray, "Y X"]:
    """Write one line in Pillow's bundled font; 1 is ink, 0 is ground. The picture is tight around the text with a
    small margin.
    """
    font = ImageFont.load_default(size=_SIZE)
    left, top, right, bottom = (int(v) for v in font.getbbox(text, stroke_width=1))
    canvas = Image.new("L", (right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN), 0)
    ImageDraw.Draw(canvas).text((_MARGIN - left, _MARGIN - top), text, fill=255, font=font, stroke_width=1)
    return np.asarray(canvas, np.float32) / 255


@cache
def letter_centres(text: str) -> tuple[tuple[float, float], ...]:
    """(share of the width, height over width) of the middle of each letter on the picture of `draw_text`."""
    font = ImageFont.load_default(size=_SIZE)
    left, top, right, bottom = font.getbbox(text, stroke_width=1)
    wide, tall = right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN
    starts = [_MARGIN - left + font.getlength(text[:at]) for at in range(len(text) + 1)]
    return tuple(((a + b) / 2 / wide, tall / wide / 2) for a, b in itertools.pairwise(starts))
