"""The scores by step: `timeline.csv`, `timeline.md` and `timeline.svg`, made anew from records and ledger each time."""

import csv
import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from evals.files import write_atomic
from evals.watch import plot
from evals.watch.ledger import Entry
from evals.watch.order import Order
from evals.watch.scores import Scored, scores

_HEAD = (
    "step",
    "name",
    "identity12",
    "benchmark@protocol",
    "metric",
    "score",
    "low",
    "high",
    "when",
    "lineage",
    "standard",
)
_BLOCKS = "▁▂▃▄▅▆▇█"
_LONGEST = 40
"""Points of a sparkline; the last ones."""


def write(order: Order, entries: Sequence[Entry]) -> None:
    """Write what differs from the files that are there. Raises ResultsError."""
    rows = [item for entry in entries for item in scores(order.results, entry)]
    _write(order.ledger / "timeline.csv", as_csv(rows))
    _write(order.ledger / "timeline.md", markdown(rows))
    _write(order.ledger / "timeline.svg", plot.svg(rows))


def as_csv(rows: Sequence[Scored]) -> str:
    """One line a score; the entries' order."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEAD)
    for item in rows:
        entry, ci = item.entry, item.score.ci
        low, high = (ci.low, ci.high) if ci else ("", "")
        step = "" if entry.step is None else entry.step
        head = (step, entry.name, entry.identity[:12], item.column, item.score.name, item.value, low, high)
        writer.writerow((*head, item.record.created, entry.lineage, "yes" if item.record.standard else "no"))
    return out.getvalue()


def markdown(rows: Sequence[Scored]) -> str:
    """A table a lineage, a row a benchmark."""
    blocks = [
        "# Scores by step\n\n↑ higher is better, ↓ lower is better; ▁ is the lowest score of a trend, █ the highest.\n"
    ]
    for lineage, members in groupby(rows, key=lambda item: item.entry.lineage):
        columns: dict[tuple[str, str], list[Scored]] = {}
        for item in members:
            columns.setdefault((item.kind, item.score.name), []).append(item)
        lines = ["| benchmark | metric | scored | first | best | last | trend |", "|---|---|---|---|---|---|---|"]
        lines += [_row(columns[key]) for key in sorted(columns)]
        blocks.append(f"## {lineage}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(blocks)


def sparkline(values: Sequence[float]) -> str:
    """A block a value, from the lowest to the highest; all in the middle where they are equal."""
    low, high = min(values), max(values)
    top = len(_BLOCKS) - 1
    heights = [round(top * (value - low) / (high - low)) if high > low else top // 2 for value in values]
    return "".join(_BLOCKS[height] for height in heights)


def _row(items: Sequence[Scored]) -> str:
    first, last = items[0], items[-1]
    best = max(items, key=lambda item: item.sign * item.value)
    arrow = "↑" if last.sign > 0 else "↓"
    trend = sparkline([item.value for item in items[-_LONGEST:]])
    metric = f"{last.score.name}, {last.score.unit} {arrow}"
    return f"| `{last.column}` | {metric} | {len(items)} | {_at(first)} | {_at(best)} | {_at(last)} | {trend} |"


def _at(item: Scored) -> str:
    where = item.entry.name if item.entry.step is None else f"step {item.entry.step}"
    return f"{item.value:.4g} ({where})".replace("|", "\\|")


def _write(path: Path, text: str) -> None:
    data = text.encode()
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)
