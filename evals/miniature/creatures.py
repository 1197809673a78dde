"""The shape families that walk, roll or fly: car, robot, bird, rocket, aeroplane. Conventions as in `families`."""

import numpy as np

from evals.miniature.builder import Builder

Rng = np.random.Generator


def _between(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def car(rng: Rng) -> Builder:
    """A toy car: body, cabin, four wheels, two head lights."""
    b = Builder()
    deep, wide, wheel = _between(rng, 0.6, 0.75), _between(rng, 0.27, 0.34), _between(rng, 0.13, 0.18)
    body = _between(rng, 0.13, 0.18)
    middle = wheel + 0.8 * body
    top = middle + body
    b.box((0, 0, middle), (deep, wide, body))
    rear, front, cabin = -_between(rng, 0.4, 0.75) * deep, _between(rng, 0.1, 0.35) * deep, _between(rng, 0.22, 0.34)
    b.box(((rear + front) / 2, 0, top + cabin / 2), ((front - rear) / 2, 0.88 * wide, cabin / 2), 3)
    b.box(((rear + front) / 2, 0, top + cabin), ((front - rear) / 2 + 0.02, 0.92 * wide, 0.03))
    axle = _between(rng, 0.55, 0.68) * deep
    for x in (-axle, axle):
        for y in (-1, 1):
            b.tube((x, y * (wide - 0.08), wheel), (x, y * (wide + 0.04), wheel), wheel, material=2)
            b.tube((x, y * (wide + 0.03), wheel), (x, y * (wide + 0.05), wheel), 0.5 * wheel, material=3)
    for y in (-1, 1):
        b.ball((deep, 0.65 * y * wide, middle + 0.3 * body), (0.03, 0.06, 0.06), 1)
    b.mark_sides("front wheel", axle, wide + 0.05, wheel)
    b.mark_sides("rear wheel", -axle, wide + 0.05, wheel)
    b.mark_sides("front light", deep + 0.03, 0.65 * wide, middle + 0.3 * body)
    b.mark_sides("front roof", front + 0.02, 0.92 * wide, top + cabin + 0.03)
    b.mark_sides("rear roof", rear - 0.02, 0.92 * wide, top + cabin + 0.03)
    b.mark_sides("rear corner", -deep, wide, top)
    return b


def robot(rng: Rng) -> Builder:
    """A box robot: head with eyes and antenna, torso, arms, legs."""
    b = Builder()
    leg, torso, head = _between(rng, 0.26, 0.36), _between(rng, 0.17, 0.22), _between(rng, 0.1, 0.15)
    deep, wide = _between(rng, 0.11, 0.16), _between(rng, 0.17, 0.25)
    chest, crown = leg + 2 * torso, leg + 2 * torso + 0.05 + 2 * head
    b.box((0, 0, leg + torso), (deep, wide, torso))
    b.tube((0, 0, chest), (0, 0, chest + 0.06), 0.06, material=2)
    face = 1.2 * head
    b.box((0, 0, chest + 0.05 + head), (0.9 * head, face, head), 1)
    for y in (-1, 1):
        b.ball((0.9 * head, 0.45 * y * face, crown - 0.8 * head), 0.28 * head, 3)
        b.tube((0, 0.55 * y * wide, 0.05), (0, 0.55 * y * wide, leg), 0.06, material=2)
        b.box((0.05, 0.55 * y * wide, 0.035), (0.12, 0.08, 0.035), 1)
    shoulder, reach, lift = chest - 0.07, _between(rng, 0.05, 0.2), _between(rng, 0.02, 0.3)
    hand = (reach, wide + 0.12, shoulder - 0.34 + lift)
    for y in (-1, 1):
        end = (hand[0], y * hand[1], hand[2])
        b.tube((0, y * (wide - 0.02), shoulder), end, 0.05, material=2)
        b.ball(end, 0.075, 1)
    tip = crown + _between(rng, 0.1, 0.18)
    b.tube((0, 0, crown), (0, 0, tip), 0.015, material=2)
    b.ball((0, 0, tip), 0.04, 3)
    b.mark("antenna tip", 0, 0, tip + 0.04)
    b.mark_sides("eye", 0.9 * head + 0.28 * head, 0.45 * face, crown - 0.8 * head)
    b.mark_sides("head top", 0.9 * head, face, crown)
    b.mark_sides("hand", hand[0], hand[1] + 0.075, hand[2])
    b.mark_sides("shoulder", deep, wide, chest)
    b.mark_sides("hip", deep, wide, leg)
    b.mark_sides("toe", 0.17, 0.55 * wide, 0.07)
    return b


def bird(rng: Rng) -> Builder:
    """A standing bird: pitched body, head with beak and eyes, wings, tail, two legs."""
    b = Builder()
    leg, long, thick = _between(rng, 0.2, 0.32), _between(rng, 0.36, 0.44), _between(rng, 0.22, 0.29)
    pitch = _between(rng, 0.25, 0.6)
    middle = leg + thick * 0.95
    b.ball((0, 0, middle), (long, thick, thick), 0, pitch)
    c, s = np.cos(pitch), np.sin(pitch)
    head = _between(rng, 0.15, 0.2)
    hx, hz = 0.85 * long * c, middle + 0.85 * long * s + 0.7 * head
    b.ball((hx, 0, hz), head, 1)
    beak = _between(rng, 0.16, 0.28)
    b.tube((hx + 0.8 * head, 0, hz - 0.02), (hx + head + beak, 0, hz - 0.05), 0.45 * head, 0.01, 3)
    for y in (-1, 1):
        b.ball((hx + 0.62 * head, 0.62 * y * head, hz + 0.35 * head), 0.2 * head, 2)
    tail = _between(rng, 0.26, 0.4)
    tx, tz = -0.8 * long * c, middle - 0.8 * long * s
    b.box((tx - tail / 2 * c, 0, tz - tail / 2 * s), (tail / 2 + 0.05, 0.13, 0.025), 1, pitch=pitch)
    wing = _between(rng, 0.26, 0.34)
    for y in (-1, 1):
        b.ball((-0.06, y * thick * 0.95, middle + 0.03), (wing, 0.06, 0.6 * thick), 0, pitch)
        b.tube((0, 0.45 * y * thick, 0.02), (0, 0.45 * y * thick, middle - 0.6 * thick), 0.03, material=3)
        b.box((0.06, 0.45 * y * thick, 0.015), (0.11, 0.06, 0.015), 3)
    b.mark("beak tip", hx + head + beak, 0, hz - 0.05)
    b.mark_sides("eye", hx + 0.72 * head, 0.8 * head, hz + 0.38 * head)
    b.mark("crown", hx, 0, hz + head)
    b.mark("breast", long * c, 0, middle + long * s - 0.1)
    b.mark("tail tip", tx - (tail + 0.05) * c, 0, tz - (tail + 0.05) * s)
    b.mark_sides("wing tip", -0.06 - wing * c, 0.95 * thick, middle + 0.03 - wing * s)
    b.mark_sides("wing middle", -0.06, 0.95 * thick + 0.06, middle + 0.03)
    b.mark_sides("toe", 0.17, 0.45 * thick, 0.02)
    return b


def rocket(rng: Rng) -> Builder:
    """A standing rocket: hull, nose cone, four fins, a porthole in front."""
    b = Builder()
    wide, foot, hull = _between(rng, 0.13, 0.19), _between(rng, 0.08, 0.14), _between(rng, 0.5, 0.62)
    neck, tip = foot + hull, foot + hull + _between(rng, 0.25, 0.36)
    b.tube((0, 0, foot), (0, 0, neck), _between(rng, 0.9, 1.1) * wide, wide)
    low = float(np.linalg.norm(b.parts[-1].linear[:, 0]))
    b.tube((0, 0, neck), (0, 0, tip), wide, 0.012, 1)
    b.tube((0, 0, 0.02), (0, 0, foot), 0.75 * wide, 0.5 * wide, 2)
    span, rise = _between(rng, 0.17, 0.27), _between(rng, 0.22, 0.34)
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        root = (x * 0.9 * low, y * 0.9 * low, foot)
        b.fin(root, (0, 0, rise), (x * span, y * span, -foot), 0.025, 1)
    hole = _between(rng, 0.5, 0.6) * wide
    high = foot + 0.68 * hull
    b.ball((0.93 * wide, 0, high), (0.05, hole, hole), 3)
    b.mark("nose tip", 0, 0, tip)
    b.mark("front neck", wide, 0, neck)
    b.mark("back neck", -wide, 0, neck)
    b.mark_sides("neck", 0, wide, neck)
    b.mark("porthole", 0.93 * wide + 0.05, 0, high)
    b.mark("front fin", 0.9 * low + span, 0, 0.0)
    b.mark("back fin", -0.9 * low - span, 0, 0.0)
    b.mark_sides("fin", 0, 0.9 * low + span, 0.0)
    b.mark_sides("fin root", 0, low, foot + 0.9 * rise)
    return b


def aeroplane(rng: Rng) -> Builder:
    """A toy aeroplane on three wheels: hull, wings with engines, tail."""
    b = Builder()
    long, thick = _between(rng, 0.62, 0.75), _between(rng, 0.13, 0.17)
    high = thick + 0.2
    b.ball((0, 0, high), (long, thick, thick))
    b.ball((0.62 * long, 0, high + 0.6 * thick), (0.16, 0.6 * thick, 0.6 * thick), 3)
    span, sweep, chord = _between(rng, 0.55, 0.7), _between(rng, 0.05, 0.25), _between(rng, 0.26, 0.36)
    aft, tail, rise = -0.9 * long, _between(rng, 0.22, 0.3), _between(rng, 0.26, 0.38)
    engine = 0.45 * span
    for y in (-1, 1):
        b.fin((0.2, 0, high), (-chord, 0, 0), (-chord / 2 - sweep, y * (span + 0.1), 0.0), 0.03)
        b.fin((aft + 0.16, 0, high), (-0.18, 0, 0), (-0.16, y * tail, 0), 0.02, 1)
        b.tube((-0.02, y * engine, high - 0.07), (0.22, y * engine, high - 0.07), 0.065, material=2)
        b.tube((-0.1, 0.5 * y * thick, 0.07), (-0.1, 0.5 * y * thick, high), 0.02, material=2)
        b.tube((-0.1, y * (0.5 * thick - 0.03), 0.07), (-0.1, y * (0.5 * thick + 0.03), 0.07), 0.07, material=2)
    b.tube((0.5 * long, 0, 0.07), (0.5 * long, 0, high), 0.02, material=2)
    b.tube((0.5 * long, -0.03, 0.07), (0.5 * long, 0.03, 0.07), 0.07, material=2)
    b.fin((aft + 0.22, 0, high), (-0.26, 0, 0), (-0.24, 0, thick + rise), 0.025)
    b.mark("nose", long, 0, high)
    b.mark("cockpit", 0.62 * long, 0, high + 1.2 * thick)
    b.mark("tail top", aft - 0.02, 0, high + thick + rise)
    b.mark("tail end", -long, 0, high)
    wing_x = 0.2 - chord / 2 - sweep
    b.mark_sides("wing tip", wing_x, span + 0.1, high)
    b.mark_sides("engine", 0.22, engine, high - 0.07)
    b.mark_sides("tail wing tip", aft, tail, high)
    b.mark("nose wheel", 0.5 * long + 0.07, 0, 0.07)
    return b
