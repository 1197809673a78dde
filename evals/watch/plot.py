"""A picture of the scores by step, as SVG: a panel a benchmark, a line a lineage, bars for confidence intervals."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from evals.watch.scores import Scored

_WIDTH, _HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 30, 44
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by the colour-blind (Okabe and Ito)."""


class _Axis(NamedTuple):
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [self.low, (self.low + self.high) / 2, self.high]


def svg(rows: Sequence[Scored]) -> str:
    """The picture; what has no step is not in it."""
    placed = [item for item in rows if item.entry.step is not None]
    lineages = list(dict.fromkeys(item.entry.lineage for item in placed))
    colours = {lineage: _COLOURS[at % len(_COLOURS)] for at, lineage in enumerate(lineages)}
    kinds = sorted({(item.kind, item.score.name) for item in placed})
    parts = []
    for at, kind in enumerate(kinds):
        panel = [item for item in placed if (item.kind, item.score.name) == kind]
        parts.append(f'<g transform="translate(0 {at * _HEIGHT})">{_panel(panel, colours)}</g>')
    for at, (lineage, colour) in enumerate(colours.items()):
        y = len(kinds) * _HEIGHT + 18 * (at + 1)
        parts.append(f'<path d="M{_LEFT} {y - 4}h24" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(_LEFT + 32, y, lineage, "start"))
    height = len(kinds) * _HEIGHT + 18 * len(lineages) + 12
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">'
    )
    style = '<style>text{font:12px sans-serif;fill:#222}</style><rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, style, *parts, "</svg>"]) + "\n"


def _panel(items: Sequence[Scored], colours: dict[str, str]) -> str:
    """One benchmark: axes with labels and ticks, then the lines."""
    steps = [float(item.entry.step or 0) for item in items]
    values = [end for item in items for end in _ends(item)]
    across = _axis(steps, _LEFT + 8, _WIDTH - _RIGHT - 8)
    up = _axis(values, _HEIGHT - _BOTTOM - 6, _TOP + 6)
    floor, last = _HEIGHT - _BOTTOM, items[-1]
    parts = [f'<path d="M{_LEFT} {_TOP}V{floor}H{_WIDTH - _RIGHT}" fill="none" stroke="#222"/>']
    parts += [_text(across.at(tick), floor + 16, f"{tick:.0f}", "middle") for tick in across.ticks()]
    parts += [_text(_LEFT - 6, up.at(tick) + 4, f"{tick:.4g}", "end") for tick in up.ticks()]
    arrow = "higher" if last.sign > 0 else "lower"
    parts += [_text(_LEFT, 18, f"{last.column} ({arrow} is better)", "start")]
    parts += [_text((_LEFT + _WIDTH) / 2, _HEIGHT - 10, "step", "middle")]
    middle = (_TOP + floor) / 2
    label = _text(0, 0, f"{last.score.name}, {last.score.unit}", "middle")
    parts += [f'<g transform="translate(14 {middle:.0f}) rotate(-90)">{label}</g>']
    for lineage, colour in colours.items():
        parts += _line([item for item in items if item.entry.lineage == lineage], across, up, colour)
    return "".join(parts)


def _line(items: Sequence[Scored], across: _Axis, up: _Axis, colour: str) -> list[str]:
    points = [(across.at(float(item.entry.step or 0)), up.at(item.value), item) for item in items]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'] if len(points) > 1 else []
    for x, y, item in points:
        low, high = _ends(item)
        parts.append(f'<path d="M{x:.1f} {up.at(low):.1f}V{up.at(high):.1f}" stroke="{colour}"/>')
        title = escape(f"{item.entry.name}: {item.value:.6g} {item.score.unit}")
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{title}</title></circle>')
    return parts


def _ends(item: Scored) -> tuple[float, float]:
    """The interval, or the value itself."""
    ci = item.score.ci
    return (ci.low, ci.high) if ci else (item.value, item.value)


def _axis(values: Sequence[float], start: float, end: float) -> _Axis:
    low, high = min(values), max(values)
    spread = 0.0 if high > low else max(abs(low) * 0.05, 1.0)
    return _Axis(low - spread, high + spread, start, end)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
