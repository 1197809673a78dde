"""Tables of questions about pictures."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from evals.datasets.base import Images, Split, evenly_by_group, sub_fingerprint
from evals.datasets.layout import Problem, Report
from evals.datasets.vlm.files import IMAGE, Place, groups, picture_at
from evals.files import DigestMemo

_RESTORE = "Obtain the set again, or restore the file"


@dataclass(frozen=True, slots=True)
class Line:
    """A sound row of a table."""

    where: str
    """File and row, for messages."""
    number: int
    """Of the row in its table, over all files, from 0."""
    row: Mapping[str, Any]
    """Every field but the picture, as plain values."""
    place: Place | None
    """None: the row has no picture."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A question whose picture is not yet read."""

    id: str
    row: Mapping[str, Any]
    place: Place
    where: str


@dataclass(frozen=True, slots=True)
class Question:
    """A row and its picture."""

    id: str
    """Unique in the split."""
    picture: bytes
    """The encoded image file."""
    row: Mapping[str, Any]
    """Every other field of the row, as plain values."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field must be."""

    expected: str
    holds: Callable[[Any], bool]


TEXT = Kind("text that is not empty", lambda value: isinstance(value, str) and bool(value.strip()))
HINT = Kind("text, which may be empty or null", lambda value: value is None or isinstance(value, str))
KEY = Kind("text or a whole number", lambda v: v != "" and isinstance(v, str | int) and not isinstance(v, bool))
TEXTS = Kind("a list of texts", lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value))
YES_NO = Kind("yes or no", lambda value: isinstance(value, str) and value.strip().lower() in ("yes", "no"))


@dataclass(frozen=True, slots=True)
class QuestionSplit(Split):
    """Questions in the order of their table. `images` has no paths: pictures lie inside of the tables."""

    entries: tuple[Entry, ...]
    units: tuple[tuple[int, ...], ...]
    """Positions of questions that are scored together: one each, two for MME."""
    groups: tuple[int, ...]
    """Of each unit: its category, 0 where there are none."""

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Question:
        """A question with its picture. Raises DataError naming file and row where the picture cannot be read."""
        entry = self.entries[index]
        return Question(entry.id, picture_at(entry.place), entry.row)

    def limit(self, n: int) -> Self:
        """At most `n` questions in whole units, one at least: categories take turns, and each is spread evenly."""
        if n >= len(self):
            return self
        kept = evenly_by_group(self.groups, max(1, n // max(map(len, self.units))))
        positions = sorted(position for unit in kept for position in self.units[unit])
        place = {position: at for at, position in enumerate(positions)}
        new = sub_fingerprint(self.fingerprint, positions)
        return replace(
            self,
            images=replace(self.images, fingerprint=new),
            fingerprint=new,
            entries=tuple(self.entries[position] for position in positions),
            units=tuple(tuple(place[position] for position in self.units[unit]) for unit in kept),
            groups=tuple(self.groups[unit] for unit in kept),
        )


def question_split(
    dataset: str,
    split: str,
    entries: Sequence[Entry],
    files: Sequence[Path],
    digests: DigestMemo,
    *,
    units: Sequence[tuple[int, ...]] | None = None,
    group_of: Callable[[Entry], str] = lambda entry: "",
) -> QuestionSplit:
    """The split, with a fingerprint of the contents of `files` whatever their names are."""
    if not entries:
        raise Problem(str(files[0].parent), f"holds no question of {dataset}", _RESTORE).error()
    units = units or [(position,) for position in range(len(entries))]
    names = [group_of(entries[unit[0]]) for unit in units]
    order = {name: at for at, name in enumerate(sorted(set(names)))}
    total = sha256("\0".join([dataset, split, *map(digests.digest, files)]).encode()).hexdigest()
    return QuestionSplit(
        dataset=dataset,
        split=split,
        images=Images(f"{dataset}/{split}", (), total),
        fingerprint=total,
        n_original=len(entries),
        entries=tuple(entries),
        units=tuple(units),
        groups=tuple(order[name] for name in names),
    )


def lines(files: Sequence[Path], kinds: Mapping[str, Kind], report: Report, *, pictures: bool = True) -> list[Line]:
    """The sound rows of a table; each field that `kinds` names and that is otherwise goes to `report`.

    Raises DataError naming file and field for a column that is not there.
    """
    found: list[Line] = []
    number = -1
    for path in files:
        start = number + 1
        for group, rows, shown in groups(path, kinds, pictures=pictures):
            for at, row in enumerate(rows):
                number += 1
                where = f"{path}, row {number - start}"
                wrong = [(name, kind) for name, kind in kinds.items() if not kind.holds(row[name])]
                for name, kind in wrong:
                    what = f"expected {kind.expected}, got {repr(row[name])[:60]}"
                    report(Problem(f"{where}, field {name}", what, _RESTORE))
                if not wrong:
                    found.append(Line(where, number, row, Place(path, group, at) if shown[at] else None))
    return found


def entries_of(found: Iterable[Line], name: Callable[[Line], str], report: Report) -> list[Entry]:
    """Questions with their ids. A row without a picture goes to `report`, and so does an id that occurs again."""
    entries = []
    for line in found:
        if line.place is None:
            report(Problem(f"{line.where}, field {IMAGE}", "the row has no picture", _RESTORE))
        else:
            entries.append(Entry(name(line), line.row, line.place, line.where))
    times = Counter(entry.id for entry in entries)
    for entry in entries:
        if times[entry.id] > 1:
            report(Problem(entry.where, f"{times[entry.id]} rows have the id {entry.id}; expected one", _RESTORE))
            times[entry.id] = 1
    return entries
