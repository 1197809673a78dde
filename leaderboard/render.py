"""Boards as text: markdown that reads in a terminal and on a page, and the records as flat CSV."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from evals.record import Interval, Record
from leaderboard.columns import Column, decimals
from leaderboard.table import Board, Cell, plain

EMPTY = (
    "No results yet. To score an encoder without any data: "
    "eupe-eval run --encoder eupe-vit-t --suite quick --data miniature\n"
)
_CSV = (
    "encoder", "source", "model", "weights", "weights_sha256", "random", "licence", "global_feature", "param_count",
    "benchmark", "protocol", "version", "standard", "status", "reason", "changed",
    "dataset", "world", "fingerprint", "limited",
    "metric", "value", "unit", "higher_is_better", "low", "high", "hardware", "created",
)  # fmt: skip


def markdown(boards: Sequence[Board]) -> str:
    """The boards, one after the other; a sentence on how to get results where there are none."""
    return "\n".join(_board(board) for board in boards) if boards else EMPTY


def csv(records: Iterable[Record]) -> str:
    """One line a record, standard or not: who, what, on what, its primary metric, then every metric by name."""
    lines = [_flat(record) for record in records]
    names = list(dict.fromkeys(name for line in lines for name in line if name not in _CSV))
    return pd.DataFrame(lines, columns=[*_CSV, *names], dtype=object).to_csv(index=False, lineterminator="\n")


def _board(board: Board) -> str:
    parts = [_heading(board)]
    if board.rows:
        parts += [_lines(_grid(board)), *_notes(board), _lines(_encoders(board), left=5)]
    else:
        parts.append("No standard result yet: nothing here may stand in a table.")
    if board.off:
        parts.append("Not in the table (not standard):\n\n" + "\n".join(f"- {_escaped(line)}" for line in board.off))
    return "\n\n".join(parts) + "\n"


def _heading(board: Board) -> str:
    name = "Real data" if board.world is None else f"Embedded world {board.world}".rstrip()
    protocols = {column.key.protocol for column in board.columns}
    return f"## {name}" + (f", protocol {protocols.pop()}" if len(protocols) == 1 else "")


def _grid(board: Board) -> list[list[str]]:
    """Two lines of titles (families, then columns), the ranked rows, then the floors under a line of their own."""
    families = [column.family for column in board.columns]
    first = [family if at == 0 or families[at - 1] != family else "" for at, family in enumerate(families)]
    grid = [["", *first], ["encoder", *(_title(column) for column in board.columns)]]
    for at, row in enumerate(board.rows):
        if row.floor and (at == 0 or not board.rows[at - 1].floor):
            grid.append(["*floors (not ranked)*", *("" for _ in board.columns)])
        grid.append([row.label, *(_cell(board.cell(at, column)) for column in range(len(board.columns)))])
    return grid


def _title(column: Column) -> str:
    return f"{column.title}{' ↓' if column.lower_is_better else ''}{column.machine}"


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    if cell.score and cell.score.ci:
        text += f" ± {_half_width(cell.score.ci, decimals(cell.score))}"
    return text + ("†" if cell.overlaps else "")


def _half_width(ci: Interval, places: int) -> str:
    """Half the width, never printed as zero unless it is."""
    half = (ci.high - ci.low) / 2
    return f"{max(half, 10.0**-places) if half > 0 else half:.{places}f}"


def _notes(board: Board) -> list[str]:
    """The key to the marks that are used, the machines, and where each column comes from."""
    cells = [board.cell(row, column) for row in range(len(board.rows)) for column in range(len(board.columns))]
    intervals = [cell.score.ci for cell in cells if cell.score and cell.score.ci]
    levels = " / ".join(sorted({f"{100 * ci.level:g}" for ci in intervals}))
    key = [
        ("Bold: best of the ranked rows.", any(cell.best for cell in cells)),
        ("↓: lower is better.", any(column.lower_is_better for column in board.columns)),
        (f"±: half the width of the {levels} % confidence interval.", bool(intervals)),
        (
            f"†: its {levels} % interval overlaps that of the best, so the two are not separated.",
            any(cell.overlaps for cell in cells),
        ),
    ]
    notes = [" ".join(text for text, used in key if used)]
    machines = {column.machine: column.key.hardware for column in board.columns if column.machine}
    notes.append("; ".join(f"{mark} measured on {name}" for mark, name in machines.items()))
    origins: dict[str, list[str]] = {}
    for column in board.columns:
        origins.setdefault(_origin(column), []).append(column.title)
    notes.append("\n".join(f"- {', '.join(dict.fromkeys(titles))}: {origin}" for origin, titles in origins.items()))
    return [_escaped(note) for note in notes if note]


def _origin(column: Column) -> str:
    parts = [f"{column.key.benchmark}@{column.key.protocol} version {column.key.version}"]
    if column.score and not column.key.metric:
        parts.append(f"{column.score.name} in {column.score.unit}")
    if column.dataset:
        counts = ", ".join(f"{split} {n}" for split, n in column.dataset.n_effective.items())
        parts.append(f"{column.dataset.name} ({counts}), fingerprint {column.dataset.fingerprint[:12]}")
    return "; ".join(parts)


def _encoders(board: Board) -> list[list[str]]:
    cards = [
        [row.label, row.card.global_feature, row.card.weights, row.card.weights_sha256[:12], row.card.licence]
        for row in board.rows
    ]
    return [["encoder", "global feature", "weights", "digest", "licence"], *cards]


def _lines(grid: Sequence[Sequence[str]], left: int = 1) -> str:
    """A GitHub table, padded so that it reads as plain text too; the first `left` columns are flush left."""
    cells = [[_escaped(text) for text in line] for line in grid]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    dashes = ["-" * (width + 1) for width in widths]
    rule = "|".join(["", *(f":{d}" if at < left else f"{d}:" for at, d in enumerate(dashes)), ""])
    lines = []
    for line in cells:
        sized = list(zip(line, widths, strict=True))
        padded = [text.ljust(width) if at < left else text.rjust(width) for at, (text, width) in enumerate(sized)]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join([lines[0], rule, *lines[1:]])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _flat(record: Record) -> dict[str, Any]:
    who, task, data, score = record.encoder, record.task, record.dataset, record.primary
    line = {
        **{name: getattr(who, name) for name in _CSV[1:8]},
        "encoder": who.name,
        "param_count": who.params,
        "benchmark": task.name,
        "protocol": task.protocol,
        "version": task.version,
        "standard": record.standard,
        "status": record.status,
        "reason": record.reason,
        "changed": "; ".join(f"{key}={plain(value)}" for key, value in sorted(task.changed.items())) or None,
        "hardware": record.environment.get("hardware"),
        "created": record.created,
    }
    if data:
        line |= {"dataset": data.name, "world": data.world, "fingerprint": data.fingerprint, "limited": data.limited}
    if score:
        line |= {"metric": score.name, "value": score.value, "unit": score.unit}
        line |= {"higher_is_better": score.higher_is_better}
        line |= {"low": score.ci.low, "high": score.ci.high} if score.ci else {}
    return line | {metric.name: metric.value for metric in record.metrics}
