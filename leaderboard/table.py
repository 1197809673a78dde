"""Boards from records: which score stands in which cell, and what that cell may claim.

A board is one body of data: the real data sets, or one embedded world.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pandas as pd

from evals.record import DatasetCard, EncoderCard, Record, Score
from leaderboard.columns import Column, Key, columns, decimals, matches, score_of

_EMBEDDED = "miniature"
"""The protocol of the embedded worlds."""
_NOT_RUN = "not run"
_BLIND = {"pictures": "swapped"}
"""The change of constants that makes a run a floor: every question with the picture of another one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A score, or the word for why there is none."""

    text: str
    """The printed value, without the interval."""
    score: Score | None = None
    best: bool = False
    """No ranked row prints a better value in this column."""
    overlaps: bool = False
    """It is not the best, but its interval and the best one's overlap."""


@dataclass(frozen=True, slots=True)
class Row:
    """One encoder with one set of weights and one global feature."""

    label: str
    card: EncoderCard
    floor: bool
    """Untrained weights, raw pixels, or swapped pictures: shown, never ranked."""
    blind: bool = False
    """Its questions were shown the pictures of others: what the text alone gives."""


@dataclass(frozen=True, slots=True)
class Board:
    """One table."""

    world: str | None
    """Identity of the embedded world (empty: unknown); None for the real data."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    """Ranked rows in the order of the records, then the floors."""
    cells: pd.DataFrame
    """Cells: rows and columns in the orders above, by number."""
    off: tuple[str, ...]
    """Results that may not stand in the table, each with the reason."""

    def cell(self, row: int, column: int) -> Cell:
        """The cell at a row and a column."""
        return cast("Cell", self.cells.iat[row, column])


def build(records: Iterable[Record]) -> tuple[Board, ...]:
    """The boards of these records: the real data first, then each embedded world by name.

    Several records of one cell: a success stands before a failure, then the latest stands. No record, no board.
    """
    known = list(records)
    placed: dict[str | None, list[Record]] = {}
    for record in known:
        for world in _worlds(record, known):
            placed.setdefault(world, []).append(record)
    order = sorted(placed, key=lambda world: (world is not None, world or ""))
    return tuple(_board(world, placed[world]) for world in order)


def departure(record: Record) -> str | None:
    """Why a result may not stand in a table; None if it may."""
    data = record.dataset
    reasons = []
    if data and data.limited and "limit" not in record.task.changed:
        reasons.append(f"limited to {_counts(data)}")
    reasons += [f"{key} = {plain(value)}" for key, value in sorted(record.task.changed.items())]
    if record.frozen and not record.frozen.ok:
        reasons.append("the encoder changed while it was scored")
    if not record.standard and not reasons:
        found = f"embedded world {data.world}" if data and data.world else _counts(data) if data else "none"
        reasons.append(f"not this protocol's own data ({found})")
    return ", ".join(reasons) or None


def _worlds(record: Record, known: Sequence[Record]) -> set[str | None]:
    """The boards a record belongs to. One without data (a cost, a skipped benchmark) goes where its protocol lives."""
    if record.dataset:
        return {record.dataset.world}
    if record.task.protocol != _EMBEDDED:
        return {None}
    seen = [other for other in known if other.dataset and other.dataset.world is not None]
    mine = [other for other in seen if _identity(other.encoder) == _identity(record.encoder)]
    ranked = [other for other in mine if departure(other) is None]
    return {other.dataset.world for other in ranked or mine or seen if other.dataset} or {""}


def _board(world: str | None, records: Sequence[Record]) -> Board:
    standing = _standing(records)
    heads, rows = columns(standing), _rows(standing)
    cells = _cells(standing, rows, heads)
    ranked = sum(not row.floor for row in rows)
    for at, column in enumerate(heads):
        cells[at] = pd.Series(_compared(cells[at].to_list(), ranked, column.lower_is_better), dtype=object)
    inside = set(map(id, standing))
    off = [record for record in records if id(record) not in inside]
    return Board(world, heads, rows, cells, tuple(dict.fromkeys(_off(off))))


def _standing(records: Sequence[Record]) -> list[Record]:
    """The records that may stand in the table: those that depart from nothing, and floors of the same columns."""
    reasons = [departure(record) for record in records]
    seen = {_question(record) for record, reason in zip(records, reasons, strict=True) if reason is None}
    return [
        record
        for record, reason in zip(records, reasons, strict=True)
        if reason is None or (_is_blind(record) and _question(record) in seen)
    ]


def _is_blind(record: Record) -> bool:
    """Swapped pictures, and no other departure."""
    return dict(record.task.changed) == _BLIND and not (record.frozen and not record.frozen.ok)


def _question(record: Record) -> tuple[str, str, int, str]:
    """Benchmark, protocol, version and data."""
    task = record.task
    return task.name, task.protocol, task.version, record.dataset.fingerprint if record.dataset else ""


def _off(records: Iterable[Record]) -> Iterable[str]:
    for record in records:
        if reason := departure(record):
            end = "" if record.status == "success" else f" ({_word(record)})"
            yield f"{_name(record.encoder)}: {record.task.name}@{record.task.protocol}, {reason}{end}"


def _rows(records: Sequence[Record]) -> tuple[Row, ...]:
    """One row an encoder, ranked rows first. Any record that calls the weights random makes the row a floor."""
    cards: dict[tuple[str, ...], EncoderCard] = {}
    for record in records:
        mine = _who(record)
        if mine not in cards or record.encoder.random:
            cards[mine] = record.encoder
    known = list(cards.values())
    blind = [bool(mine[-1]) for mine in cards]
    labels = [_name(card) + ", pictures swapped" * swapped for card, swapped in zip(known, blind, strict=True)]
    for details in ([card.weights_sha256[:8] for card in known], [card.global_feature for card in known]):
        often = Counter(labels)
        labels = [f"{a} ({b})" if often[a] > 1 else a for a, b in zip(labels, details, strict=True)]
    rows = [
        Row(label, card, swapped or _floor(card), swapped)
        for label, card, swapped in zip(labels, known, blind, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: row.floor))


def _identity(card: EncoderCard) -> tuple[str, ...]:
    """What two records must share to stand in one row."""
    spec = json.dumps(dict(card.spec), sort_keys=True)
    return card.name, card.source, card.model, card.weights_sha256, card.global_feature, spec


def _who(record: Record) -> tuple[str, ...]:
    """What the records of one row share."""
    return (*_identity(record.encoder), "blind" if _is_blind(record) else "")


def _floor(card: EncoderCard) -> bool:
    return card.random or "pixels" in (card.source, card.global_feature)


def _name(card: EncoderCard) -> str:
    return f"{card.name}, random weights" if card.random else card.name


def _cells(records: Sequence[Record], rows: Sequence[Row], heads: Sequence[Column]) -> pd.DataFrame:
    row_of = {(*_identity(row.card), "blind" if row.blind else ""): at for at, row in enumerate(rows)}
    blank = [(row, at, -1, "", Cell(_NOT_RUN)) for row in range(len(rows)) for at in range(len(heads))]
    said = [
        (row_of[_who(record)], at, int(record.status == "success"), record.created, cell)
        for record in records
        for at, column in enumerate(heads)
        if (cell := _cell(record, column.key))
    ]
    long = pd.DataFrame([*blank, *said], columns=["row", "column", "success", "created", "cell"])
    long = long.sort_values(["success", "created"], kind="stable").drop_duplicates(["row", "column"], keep="last")
    return long.pivot(index="row", columns="column", values="cell")


def _cell(record: Record, key: Key) -> Cell | None:
    """What a record says about a column; None: nothing."""
    if not matches(record, key):
        return None
    if record.status != "success":
        return Cell(_word(record))
    score = score_of(record, key)
    if score is None or score.value is None or not math.isfinite(score.value):
        return Cell("no value")
    return Cell(f"{score.value:.{decimals(score)}f}", score)


def _word(record: Record) -> str:
    words = {"error": "failed", "skipped": record.reason or "skipped", "running": "running", "planned": _NOT_RUN}
    return words.get(record.status, f"no {record.reason or 'data'}")


def _compared(cells: Sequence[Cell], ranked: int, lower_is_better: bool) -> list[Cell]:
    """Mark the best of the ranked cells, ties of the printed value included, and those it is not clear of."""
    scores = [(float(cell.text), cell.score) for cell in cells[:ranked] if cell.score]
    if not scores:
        return list(cells)
    printed = [value for value, _ in scores]
    best = min(printed) if lower_is_better else max(printed)
    leaders = [score for value, score in scores if value == best]

    def marked(cell: Cell) -> Cell:
        score = cell.score
        if score is None or float(cell.text) == best:
            return replace(cell, best=score is not None)
        return replace(cell, overlaps=any(_overlap(score, leader) for leader in leaders))

    return [*map(marked, cells[:ranked]), *cells[ranked:]]


def _overlap(one: Score, other: Score) -> bool:
    return one.ci is not None and other.ci is not None and one.ci.low <= other.ci.high and other.ci.low <= one.ci.high


def _counts(data: DatasetCard) -> str:
    return ", ".join(f"{split} {n} of {data.n_original.get(split, n)}" for split, n in data.n_effective.items())


def plain(value: Any) -> str:
    """A constant as text; a file by its name alone."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    text = str(value).replace("\\", "/")
    return text.rsplit("/", 1)[-1] if text.startswith(("/", "~", ".")) or text[1:3] == ":/" else text
