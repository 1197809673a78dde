"""The household shape families: mug, chair, lamp, house, teapot. Each draws its proportions and names its key points.

Every family is about 1 high, stands on z = 0 and looks along +x. Materials: 0 textured, 1 second
plain colour, 2 dark, 3 pale.
"""

import numpy as np

from evals.miniature.builder import Builder

Rng = np.random.Generator


def _between(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def mug(rng: Rng) -> Builder:
    """A cup with one handle at the front."""
    b = Builder()
    low, high, tall = _between(rng, 0.3, 0.42), _between(rng, 0.36, 0.5), _between(rng, 0.85, 1.1)
    b.tube((0, 0, 0), (0, 0, tall), low, high)
    b.tube((0, 0, tall - 0.02), (0, 0, tall + 0.004), 0.84 * high, material=2)
    middle, size, thick = _between(rng, 0.48, 0.56) * tall, _between(rng, 0.22, 0.28), _between(rng, 0.05, 0.075)
    wall = low + (high - low) * middle / tall
    stretch, reach = _between(rng, 1.0, 1.25), size + thick
    b.ring((wall, 0, middle), (0, 1, 0), size, thick, 1, stretch)
    b.mark("handle outside", wall + reach, 0, middle)
    b.mark("handle top", wall + 0.5 * reach, 0, middle + 0.866 * stretch * reach)
    b.mark("handle bottom", wall + 0.5 * reach, 0, middle - 0.866 * stretch * reach)
    b.mark("front rim", high, 0, tall)
    b.mark("back rim", -high, 0, tall)
    b.mark_sides("rim", 0, high, tall)
    b.mark("back base", -low, 0, 0.01)
    b.mark_sides("base", 0, low, 0.01)
    b.mark("drink", 0, 0, tall + 0.004)
    return b


def chair(rng: Rng) -> Builder:
    """Four legs, a seat, and a back at the rear."""
    b = Builder()
    deep, wide, seat = _between(rng, 0.2, 0.27), _between(rng, 0.2, 0.28), _between(rng, 0.38, 0.5)
    top, thick, leg = _between(rng, 0.9, 1.1), _between(rng, 0.03, 0.05), _between(rng, 0.025, 0.045)
    b.box((0, 0, seat), (deep, wide, thick))
    for x in (-1, 1):
        for y in (-1, 1):
            b.tube((x * (deep - leg), y * (wide - leg), 0), (x * (deep - leg), y * (wide - leg), seat), leg, material=1)
    panel = _between(rng, 0.12, 0.24)
    b.box((-deep + thick, 0, top - panel), (thick, wide, panel))
    for y in (-1, 1):
        b.box((-deep + thick, y * (wide - leg), (seat + top) / 2), (0.6 * leg, 0.6 * leg, (top - seat) / 2), 1)
    b.mark_sides("back top", -deep + thick, wide, top)
    b.mark_sides("back bottom", -deep + 2 * thick, wide, top - 2 * panel)
    b.mark_sides("seat front", deep, wide, seat + thick)
    b.mark_sides("seat rear", -deep, wide, seat + thick)
    b.mark_sides("front foot", deep - leg, wide - leg, 0.01)
    b.mark_sides("rear foot", -deep + leg, wide - leg, 0.01)
    return b


def lamp(rng: Rng) -> Builder:
    """A desk lamp with a bent arm and a wide shade that looks forward and down."""
    b = Builder()
    base, foot, arm = _between(rng, 0.22, 0.3), _between(rng, 0.05, 0.09), _between(rng, 0.03, 0.045)
    b.tube((0, 0, 0), (0, 0, foot), base, 0.85 * base)
    elbow = (_between(rng, -0.32, -0.18), 0.0, _between(rng, 0.45, 0.6))
    neck = (_between(rng, 0.02, 0.14), 0.0, _between(rng, 0.88, 1.02))
    b.tube((0, 0, foot), elbow, arm, material=1)
    b.ball(elbow, 1.5 * arm, 2)
    b.tube(elbow, neck, arm, material=1)
    tilt, length, wide = _between(rng, 0.5, 1.0), _between(rng, 0.28, 0.38), _between(rng, 0.22, 0.3)
    axis = np.array([np.cos(tilt), 0, -np.sin(tilt)])
    across = np.array([np.sin(tilt), 0, np.cos(tilt)])
    end = np.array(neck) + length * axis
    b.tube(neck, tuple(end), 0.09, wide)
    b.tube(tuple(end - 0.01 * axis), tuple(end + 0.004 * axis), 0.86 * wide, material=3)
    b.mark("elbow", elbow[0] - 1.5 * arm, 0, elbow[2])
    b.mark("shade back", *neck)
    b.mark("shade upper rim", *(end + wide * across))
    b.mark("shade lower rim", *(end - wide * across))
    b.mark_sides("shade rim", end[0], wide, end[2])
    b.mark("front base", base, 0, 0.01)
    b.mark("back base", -base, 0, 0.01)
    b.mark_sides("base", 0, base, 0.01)
    return b


def house(rng: Rng) -> Builder:
    """Walls, a gabled roof with its ridge from front to back, a chimney, a door in front and windows at the sides."""
    b = Builder()
    deep, wide, wall = _between(rng, 0.32, 0.45), _between(rng, 0.28, 0.4), _between(rng, 0.4, 0.56)
    rise, eave = _between(rng, 0.32, 0.45), 1.12
    b.box((0, 0, wall / 2), (deep, wide, wall / 2))
    b.roof((0, 0, wall + rise / 2), (eave * deep, eave * wide, rise / 2), 1)
    stack, side = _between(rng, 0.05, 0.07), _between(rng, 0.4, 0.6) * wide
    top = wall + rise + _between(rng, 0.0, 0.12)
    b.box((-0.5 * deep, side, (wall + top) / 2), (stack, stack, (top - wall) / 2), 2)
    door = _between(rng, 0.24, 0.34)
    b.box((deep, 0, door / 2), (0.015, 0.09, door / 2), 2)
    for y in (-1, 1):
        b.box((0.3 * deep, y * wide, 0.6 * wall), (0.1, 0.015, 0.1), 3)
    b.mark("front ridge", eave * deep, 0, wall + rise)
    b.mark("back ridge", -eave * deep, 0, wall + rise)
    b.mark_sides("front eave", eave * deep, eave * wide, wall)
    b.mark_sides("back eave", -eave * deep, eave * wide, wall)
    b.mark_sides("front base", deep, wide, 0.01)
    b.mark_sides("back base", -deep, wide, 0.01)
    b.mark("chimney top", -0.5 * deep, side, top)
    b.mark("door top", deep + 0.015, 0, door)
    b.mark_sides("window", 0.3 * deep, wide + 0.015, 0.6 * wall)
    return b


def teapot(rng: Rng) -> Builder:
    """A round belly with a spout in front, a handle behind and a lid with a knob."""
    b = Builder()
    belly, half = _between(rng, 0.4, 0.5), _between(rng, 0.3, 0.4)
    middle = half + 0.04
    b.tube((0, 0, 0), (0, 0, 0.08), 0.6 * belly, material=1)
    b.ball((0, 0, middle), (belly, belly, half))
    lid, knob = middle + 0.92 * half, _between(rng, 0.06, 0.09)
    b.tube((0, 0, lid - 0.05), (0, 0, lid + 0.06), 0.5 * belly, 0.2 * belly, 1)
    b.ball((0, 0, lid + 0.06 + 0.8 * knob), knob, 2)
    root, tip = (
        (0.75 * belly, 0.0, middle - 0.1),
        (belly + _between(rng, 0.22, 0.36), 0.0, middle + _between(rng, 0.2, 0.36)),
    )
    b.tube(root, tip, _between(rng, 0.11, 0.15), 0.05, 1)
    size, thick = _between(rng, 0.2, 0.27), _between(rng, 0.04, 0.06)
    b.ring((-belly, 0, middle), (0, 1, 0), size, thick, 1)
    reach = size + thick
    b.mark("spout tip", *tip)
    b.mark("front lid", 0.35 * belly, 0, lid + 0.005)
    b.mark("back lid", -0.35 * belly, 0, lid + 0.005)
    b.mark("knob", 0, 0, lid + 0.06 + 1.8 * knob)
    b.mark("handle outside", -belly - reach, 0, middle)
    b.mark("handle top", -belly - 0.5 * reach, 0, middle + 0.866 * reach)
    b.mark("handle bottom", -belly - 0.5 * reach, 0, middle - 0.866 * reach)
    b.mark_sides("belly", 0, belly, middle)
    b.mark("front base", 0.6 * belly, 0, 0.01)
    b.mark("back base", -0.6 * belly, 0, 0.01)
    b.mark_sides("base", 0, 0.6 * belly, 0.01)
    return b
