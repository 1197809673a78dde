"""Bodies ready to be placed: the objects of the shape families, and the furniture and fittings of rooms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from evals.miniature import creatures, families
from evals.miniature.builder import Builder
from evals.miniature.palette import draw_colour, draw_contrast, draw_muted
from evals.miniature.scene import Body, Matrix, Model, Vector, turn, vector
from evals.miniature.signs import WORDS, draw_text
from evals.miniature.textures import TEXTURES, Material, draw_material, draw_waves

Rng = np.random.Generator

FAMILIES: Mapping[str, Callable[[Rng], Builder]] = MappingProxyType(
    {
        "mug": families.mug,
        "chair": families.chair,
        "lamp": families.lamp,
        "car": creatures.car,
        "house": families.house,
        "robot": creatures.robot,
        "bird": creatures.bird,
        "teapot": families.teapot,
        "rocket": creatures.rocket,
        "aeroplane": creatures.aeroplane,
    }
)
"""The shape families: name -> how to draw the proportions of one."""

LABELS = (
    *("wall", "floor", "ceiling", "rug", "window", "door", "picture", "sign", "table", "ball", "block"),
    *FAMILIES,
)
"""Semantic classes; label k + 1 in the annotation is LABELS[k], 0 is unlabelled."""

_DARK, _PALE = vector(0.10, 0.10, 0.12), vector(0.88, 0.86, 0.80)


@dataclass(frozen=True, slots=True)
class Thing:
    """A model with its names, not yet placed."""

    model: Model
    name: str
    label: str | None
    texture: str = "plain"
    colours: tuple[str, ...] = ()
    text: str = ""

    def placed(
        self, position: Vector, rotation: Matrix, scale: float = 1.0, *, on: int | None = None, surface: bool = False
    ) -> Body:
        """The body at a place."""
        return Body(
            self.model,
            self.name,
            self.label,
            position,
            rotation,
            scale,
            self.texture,
            self.colours,
            self.text,
            on,
            surface,
        )


def draw_texture(rng: Rng) -> str:
    """One of the object textures."""
    return TEXTURES[int(rng.integers(len(TEXTURES)))]


def draw_object(rng: Rng, family: str, texture: str) -> Thing:
    """Draw an instance of a shape family in a texture family."""
    first, base = draw_colour(rng)
    second, other = draw_contrast(rng, base)
    _, trim = draw_colour(rng)
    materials = (
        draw_material(rng, texture, base, other),
        Material(trim, specular=float(rng.uniform(0.05, 0.4))),
        Material(_DARK, specular=0.3),
        Material(_PALE, specular=0.3),
    )
    colours = (first,) if texture == "plain" else (first, second)
    return Thing(FAMILIES[family](rng).model(materials), f"{texture} {family}", family, texture, colours)


def draw_simple(rng: Rng) -> Thing:
    """Draw a ball or a block (0.6 to 1 high)."""
    b, texture = Builder(), draw_texture(rng)
    label = ("ball", "block")[int(rng.integers(2))]
    if label == "ball":
        radius = float(rng.uniform(0.3, 0.5))
        b.ball((0, 0, radius), radius)
    else:
        x, y, z = rng.uniform(0.2, 0.5, 3).tolist()
        b.box((0, 0, z), (x, y, z))
    first, base = draw_colour(rng)
    second, other = draw_contrast(rng, base)
    colours = (first,) if texture == "plain" else (first, second)
    return Thing(b.model((draw_material(rng, texture, base, other),)), f"{texture} {label}", label, texture, colours)


def draw_table(rng: Rng, half: tuple[float, float], height: float) -> Thing:
    """Draw a table of half sides `half` (metres)."""
    b = Builder()
    thick, leg = float(rng.uniform(0.02, 0.04)), float(rng.uniform(0.025, 0.05))
    b.box((0, 0, height - thick), (*half, thick))
    for x in (-1, 1):
        for y in (-1, 1):
            b.tube(
                (x * (half[0] - 2 * leg), y * (half[1] - 2 * leg), 0),
                (x * (half[0] - 2 * leg), y * (half[1] - 2 * leg), height - thick),
                leg,
            )
    name, base = draw_colour(rng)
    top = Material(base, 0.7 * base, "planks", float(rng.uniform(1.5, 3)), specular=float(rng.uniform(0.05, 0.3)))
    return Thing(b.model((top,)), "table", "table", colours=(name,))


def draw_rug(rng: Rng, half: tuple[float, float]) -> Thing:
    """Draw a rug, square or round."""
    b, texture = Builder(), draw_texture(rng)
    if rng.random() < 0.4:
        b.tube((0, 0, 0), (0, 0, 0.015), min(half))
    else:
        b.box((0, 0, 0.0075), (*half, 0.0075))
    first, base = draw_colour(rng)
    second, other = draw_contrast(rng, base)
    material = draw_material(rng, texture, base, other, 0.4)
    return Thing(b.model((material,)), "rug", "rug", texture, (first, second)[: 1 + (texture != "plain")])


def draw_window(rng: Rng, half: tuple[float, float]) -> tuple[Thing, Thing]:
    """Draw a window frame and its panes; the sky in an open window is unlabelled, glass is part of the window."""
    frame, panes = Builder(), Builder()
    wide, tall = half
    bar = 0.05
    for side in (-1, 1):
        frame.box((0.03, side * wide, 0), (0.03, bar, tall + bar))
        frame.box((0.03, 0, side * tall), (0.03, wide + bar, bar))
    frame.box((0.02, 0, 0), (0.02, 0.6 * bar, tall))
    frame.box((0.02, 0, rng.uniform(-0.3, 0.3) * tall), (0.02, wide, 0.6 * bar))
    name, colour = draw_colour(rng)
    panes.box((0.005, 0, 0), (0.005, wide, tall))
    is_open = rng.random() < 0.5
    sky = vector(0.45, 0.65, 0.95) + rng.uniform(-0.15, 0.15, 3).astype(np.float32)
    pattern = ("speckled", "plain")[int(rng.integers(2))]
    air = Material(sky, _PALE, pattern, waves=draw_waves(rng, 0.8), specular=0.0 if is_open else 0.9)
    return (
        Thing(frame.model((Material(colour),)), "window", "window", colours=(name,)),
        Thing(panes.model((air,)), "sky" if is_open else "glass", None if is_open else "window"),
    )


def draw_door(rng: Rng, half: tuple[float, float]) -> Thing:
    """Draw a door leaf with a knob."""
    b = Builder()
    b.box((0.02, 0, 0), (0.02, *half))
    for z in (-0.5, 0.4):
        b.box((0.03, 0, z * half[1]), (0.025, 0.65 * half[0], 0.3 * half[1]), 1)
    b.ball((0.08, 0.8 * half[0], -0.05), 0.05, 2)
    name, colour = draw_colour(rng)
    return Thing(
        b.model((Material(colour), Material(0.8 * colour), Material(_PALE, specular=0.6))),
        "door",
        "door",
        colours=(name,),
    )


def draw_picture(rng: Rng, half: tuple[float, float]) -> Thing:
    """Draw a framed picture: an abstract pattern."""
    b, texture = Builder(), draw_texture(rng)
    b.box((0.015, 0, 0), (0.015, half[0] + 0.04, half[1] + 0.04), 1)
    b.box((0.02, 0, 0), (0.02, *half))
    first, base = draw_colour(rng)
    second, other = draw_contrast(rng, base)
    _, frame = draw_colour(rng)
    materials = (draw_material(rng, texture, base, other, 0.7), Material(frame))
    return Thing(b.model(materials), "picture", "picture", texture, (first, second)[: 1 + (texture != "plain")])


def draw_sign(rng: Rng, wide: float, *, standing: float = 0.0, text: str | None = None) -> Thing:
    """Draw a sign board `wide` metres across with one word, its centre at z = 0, or on posts of height `standing`."""
    if text is None:
        text = WORDS[int(rng.integers(len(WORDS)))]
    decal = draw_text(text)
    half = (wide / 2, wide / 2 * decal.shape[0] / decal.shape[1])
    b, middle = Builder(), standing + half[1] if standing else 0.0
    b.box((0.02, 0, middle), (0.02, *half))
    if standing:
        for y in (-0.7, 0.7):
            b.tube((0, y * half[0], 0), (0, y * half[0], middle), 0.025, material=1)
    while True:
        first, ground = draw_colour(rng)
        second, ink = draw_contrast(rng, ground)
        if abs(float(ground.mean() - ink.mean())) > 0.3:
            break
    materials = (Material(ground, ink, decal=decal, specular=0.05), Material(_DARK))
    return Thing(b.model(materials), "sign", "sign", colours=(first, second), text=text)


def draw_surface(rng: Rng, kinds: tuple[str, ...], frequency: float) -> Material:
    """Draw the finish of a wall, floor or ceiling."""
    base = draw_muted(rng)
    second = np.clip(base * rng.uniform(0.6, 0.85) + rng.uniform(-0.05, 0.1, 3), 0, 1).astype(np.float32)
    pattern = kinds[int(rng.integers(len(kinds)))]
    periods = frequency * float(rng.uniform(0.7, 1.5))
    angle = rng.uniform(0, np.pi)
    axis = vector(np.cos(angle), np.sin(angle), 0)
    return Material(
        base, second, pattern, periods, axis, rng.uniform(0, 1, 3).astype(np.float32), draw_waves(rng, periods), 0.03
    )


def facing(yaw: float, lean: float = 0.0) -> Matrix:
    """Rotation that turns the front to `yaw` and rolls by `lean` about it (radians)."""
    c, s = np.cos(lean), np.sin(lean)
    return np.asarray(turn(yaw) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), np.float32)
