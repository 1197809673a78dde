"""POPE: is an object in the picture? Three splits, which name absent objects at random, by frequency, or by context."""

from pathlib import Path

from evals.datasets.layout import Problem, Report, stop
from evals.datasets.vlm.find import Part, Source, absent, files_of, folder_of
from evals.datasets.vlm.table import (
    KEY,
    TEXT,
    YES_NO,
    Entry,
    Kind,
    Line,
    QuestionSplit,
    entries_of,
    lines,
    question_split,
)
from evals.files import DigestMemo

SPLIT = "test"
CATEGORIES = ("adversarial", "popular", "random")
PUBLISHED = {SPLIT: 9_000}
PUBLISHED_CATEGORY = 3_000
OLD_RANDOM = 2_910
"""Questions in the first version of the random split."""
FULL = {name: Part(name, ("Full", ".")) for name in CATEGORIES}
"""The same questions as in the whole table, one table for each category."""
SOURCE = Source("POPE", "POPE", (Part(SPLIT, ("data", "default", ".")),), instead=tuple(FULL.values()))
KINDS = {"question_id": KEY, "question": TEXT, "answer": YES_NO}
CATEGORY = Kind(" or ".join(CATEGORIES), lambda value: value in CATEGORIES)


def load(root: Path, digests: DigestMemo) -> QuestionSplit:
    """All three splits in one; a question's id is `category/question_id`. Raises UnavailableError or DataError."""
    entries, files = survey(root, stop)
    return question_split("pope", SPLIT, entries, files, digests, group_of=lambda entry: str(entry.row["category"]))


def survey(root: Path, report: Report, *, fetch: bool = True) -> tuple[list[Entry], list[Path]]:
    """Sound questions and the files they are from: the table with a column `category`, else one table a category.

    Every problem goes to `report`. Where both forms are there, `differences` compares them.
    """
    base = folder_of(root, SOURCE, fetch=fetch)
    files = files_of(base, SOURCE.parts[0])
    if files:
        return entries_of(lines(files, {**KINDS, "category": CATEGORY}, report), _name, report), files
    tables = {name: files_of(base, part) for name, part in FULL.items()}
    for name, found in tables.items():
        if not found:
            raise absent(root, SOURCE, base / "Full" / f"{name}-*.parquet" if any(tables.values()) else base)
    rows = [row for name, found in tables.items() for row in _rows(name, found, report)]
    return entries_of(rows, _name, report), [path for found in tables.values() for path in found]


def differences(root: Path, entries: list[Entry], report: Report) -> None:
    """Reports rows of the tables of single categories that say otherwise than the whole table, joined by id."""
    base = folder_of(root, SOURCE, fetch=False)
    whole = {entry.id: entry for entry in entries} if files_of(base, SOURCE.parts[0]) else {}
    for name, part in FULL.items():
        for line in _rows(name, files_of(base, part), report) if whole else ():
            other = whole.get(_name(line))
            fields = [key for key in ("question", "answer") if other and line.row[key] != other.row[key]]
            if other is None or fields:
                what = f"differs in {' and '.join(fields)} from {other.where}" if other else "is in no row of the whole"
                report(Problem(f"{line.where}, id {_name(line)}", what, "Obtain the set again"))


def _rows(name: str, files: list[Path], report: Report) -> list[Line]:
    """The rows of one category; a column `category` may be there, and must then say so."""
    found = []
    for line in lines(files, KINDS, report):
        said = line.row.get("category", name)
        if said != name:
            report(Problem(f"{line.where}, field category", f"expected {name}, got {said!r}", "Obtain the set again"))
        else:
            found.append(Line(line.where, line.number, {**line.row, "category": name}, line.place))
    return found


def _name(line: Line) -> str:
    return f"{line.row['category']}/{line.row['question_id']}"
