"""The check of data folders: which file or count is off, and what that does to the score."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from evals.context import BarFactory, Roots, silent_bar
from evals.datasets import ade20k, examine, imagenet, nyuv2
from evals.datasets.layout import Problem
from evals.errors import DataError, UnavailableError, unknown

T = TypeVar("T")
R = TypeVar("R")

SHOWN = 5
"""Findings of one kind that are listed one by one; the rest are counted."""
_CHUNK = 64

_SETS: dict[str, tuple[Callable[[examine.Desk, str], str], tuple[str, ...]]] = {
    "imagenet": (examine.examine_imagenet, imagenet.PARTS),
    "ade20k": (examine.examine_ade20k, ade20k.PARTS),
    "nyu": (examine.examine_nyuv2, nyuv2.PARTS),
    # The benchmark reads the test pairs alone.
    "SPair-71k": (examine.examine_spair, ("test",)),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check."""

    dataset: str
    """Name of the data folder."""
    severity: Literal["ok", "warning", "error"]
    where: str
    what: str
    effect: str
    """What it does to the score, in plain words."""
    mend: str


def check(
    roots: Roots,
    names: Sequence[str] | None = None,
    *,
    decode: bool = True,
    workers: int = 0,
    bar: BarFactory = silent_bar,
) -> tuple[Finding, ...]:
    """Findings on the named data sets (None: all), at least one for every split that a benchmark reads.

    Published counts, classes and sizes apply to real data alone. Without `decode` no pixel is read. `workers`
    processes read images; 0 reads them in this one. A set that is not there is an error when it was named, else a
    warning. Raises UsageError for a name that is no data set.
    """
    for name in names or ():
        if name not in _SETS:
            raise unknown("data set", name, list(_SETS))
    each = _each(workers, bar)
    findings: list[Finding] = []
    for name in names if names is not None else _SETS:
        try:
            root = roots.of(name)
        except UnavailableError as error:
            findings.append(_absent(name, error, names is not None))
            continue
        for split in _SETS[name][1]:
            problems: list[Problem] = []
            desk = examine.Desk(root, roots.world is None, decode, each, problems.append)
            findings += _split(name, split, desk, problems, names is not None)
    return tuple(findings)


def _split(name: str, split: str, desk: examine.Desk, problems: list[Problem], named: bool) -> list[Finding]:
    where = f"{desk.root}, split {split}"
    try:
        summary = _SETS[name][0](desk, split)
    except UnavailableError as error:
        return [_absent(name, error, named)]
    except DataError as error:
        problems.append(Problem(where, str(error).rstrip("."), "Mend it, then check again"))
    if problems:
        return [Finding(name, p.severity, p.where, p.what, p.effect, p.mend) for p in _condense(problems)]
    read = "every pixel read" if desk.decode else "names and annotations read, no pixels"
    return [Finding(name, "ok", where, f"{summary}; {read}", "none", "nothing to do")]


def _absent(name: str, error: UnavailableError, named: bool) -> Finding:
    what, _, mend = str(error).partition("\n" if "\n" in str(error) else ": ")
    effect = "the benchmarks on it are unavailable; other scores do not change"
    return Finding(name, "error" if named else "warning", name, what, effect, mend)


def _each(workers: int, bar: BarFactory) -> examine.Each:
    def each(title: str, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        with bar(title, len(items)) as progress:
            for result in _map(function, items, workers):
                progress.update()
                yield result

    return each


def _map(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    if not workers:
        yield from map(function, items)
        return
    # Fresh processes: forking one that runs threads can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, items, chunksize=_CHUNK)


def _condense(problems: Iterable[Problem]) -> list[Problem]:
    """The first few problems of each kind, and one line that counts the rest."""
    kinds: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.severity, problem.effect, problem.mend), []).append(problem)
    shown = []
    for kind in kinds.values():
        shown += kind[:SHOWN]
        if len(kind) > SHOWN:
            first = kind[SHOWN]
            what = f"and {len(kind) - SHOWN:,} more of this kind, from here on: {first.what}"
            shown.append(Problem(first.where, what, first.mend, first.effect, first.severity))
    return shown
