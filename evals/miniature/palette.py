"""Named colours and the draws of concrete colours from them."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

COLOURS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "red": (0.82, 0.13, 0.12),
        "orange": (0.93, 0.50, 0.10),
        "yellow": (0.95, 0.84, 0.16),
        "green": (0.17, 0.58, 0.22),
        "cyan": (0.22, 0.76, 0.78),
        "blue": (0.14, 0.28, 0.80),
        "purple": (0.50, 0.18, 0.66),
        "pink": (0.95, 0.55, 0.70),
        "brown": (0.45, 0.28, 0.14),
        "white": (0.95, 0.95, 0.93),
        "grey": (0.52, 0.52, 0.53),
        "black": (0.09, 0.09, 0.10),
    }
)
"""Colour name -> RGB in [0, 1]."""

_JITTER = 0.05
_CONTRAST = 0.5  # smallest Euclidean RGB distance of two colours that must be told apart


def draw_colour(rng: np.random.Generator) -> tuple[str, Float[np.ndarray, "3"]]:
    """Draw a colour name and one concrete RGB near it (float32 in [0, 1])."""
    name = list(COLOURS)[int(rng.integers(len(COLOURS)))]
    rgb = np.asarray(COLOURS[name]) + rng.uniform(-_JITTER, _JITTER, 3)
    return name, np.clip(rgb, 0.03, 0.98).astype(np.float32)


def draw_contrast(rng: np.random.Generator, first: Float[np.ndarray, "3"]) -> tuple[str, Float[np.ndarray, "3"]]:
    """Draw a named colour that stands out from `first`."""
    while True:
        name, rgb = draw_colour(rng)
        if float(np.linalg.norm(rgb - first)) >= _CONTRAST:
            return name, rgb


def draw_muted(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """Draw a pale or greyish colour, as walls and ceilings have."""
    _, rgb = draw_colour(rng)
    share = rng.uniform(0.25, 0.7)
    grey = rng.uniform(0.45, 0.95)
    return (share * rgb + (1 - share) * grey).astype(np.float32)
