"""The check of data folders: which file or count is off, and what that does to the score."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from evals.context import BarFactory, Roots, silent_bar
from evals.datasets import ade20k, census, examine, examine_vlm, imagenet, llava, nyuv2
from evals.datasets.layout import AbsentError, Problem, ProblemError, stop
from evals.datasets.pool import mapped
from evals.datasets.vlm.find import is_hub
from evals.errors import UnavailableError, unknown

T = TypeVar("T")
R = TypeVar("R")

SHOWN = 5
"""Findings of one kind that are listed one by one; the rest are counted."""
_UNAVAILABLE = "the benchmarks on it are unavailable; other scores do not change"

_SETS: dict[str, tuple[Callable[[examine.Desk, str], str], tuple[str, ...]]] = {
    "imagenet": (examine.examine_imagenet, imagenet.PARTS),
    "ade20k": (examine.examine_ade20k, ade20k.PARTS),
    "nyu": (examine.examine_nyuv2, nyuv2.PARTS),
    # The benchmark reads the test pairs alone.
    "SPair-71k": (examine.examine_spair, ("test",)),
    "llava": (examine_vlm.examine_llava, llava.STAGES),
    "vlm": (examine_vlm.examine_questions, tuple(examine_vlm.SETS)),
}
_NOT_IN_EVERY_WORLD = ("llava", "vlm")


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
    world_counts: Mapping[str, int] | None = None,
) -> tuple[Finding, ...]:
    """Findings on the named data sets (None: all), at least one for every set and every split that a benchmark reads.

    Published counts, classes and sizes apply to real data alone; an embedded world must hold what its identity counts
    (`world_counts`: imagenet, ade20k, nyu, spair). Without `decode` no pixel is read. `workers` processes read images;
    0 reads them in this one. A set that is not there is an error when it was named or is the last hope, else a
    warning; one of which a part is there is an error. Raises UsageError for a name that is no data set.
    """
    for name in names or ():
        if name not in _SETS:
            raise unknown("data set", name, list(_SETS))
    each = _each(workers, bar)
    findings: list[Finding] = []
    absent = 0
    must = names is not None or world_counts is not None
    chosen = _chosen(roots, world_counts) if names is None else names
    for name in chosen:
        try:
            root = roots.of(name)
        except UnavailableError as error:
            absent += 1
            what, _, mend = str(error).partition(": ")
            findings.append(_absent(name, f"paths.{name}", what, mend, must))
            continue
        desk = examine.Desk(root, roots.world is None, decode, each, stop)
        if not is_hub(root) and _is_empty(root):
            absent += 1
            findings.append(_missing_root(name, desk, must))
            continue
        for split in _SETS[name][1]:
            findings += _split(name, split, desk)
        if world_counts is not None:
            findings += _losses(name, root, world_counts)
    if names is None and absent == len(chosen):
        findings.insert(0, _nothing(roots))
    if world_counts is not None:
        # No archive holds the files of a world.
        findings = [replace(f, mend=census.WORLD_MEND) if f.severity == "error" else f for f in findings]
    return tuple(findings)


def _chosen(roots: Roots, world_counts: Mapping[str, int] | None) -> list[str]:
    """Every data set; of a world those that are there or were rendered, by its counts where they are known."""
    if roots.world is None:
        return list(_SETS)
    if world_counts is None:
        return [name for name in _SETS if name in roots.folders or name not in _NOT_IN_EVERY_WORLD]
    return [name for name in _SETS if name in roots.folders or census.rendered(name, world_counts)]


def _is_empty(root: Path) -> bool:
    """There is no such folder, or it holds nothing but what file browsers hide in it."""
    try:
        return not any(not path.name.startswith(".") for path in root.iterdir())
    except FileNotFoundError:
        return True
    except OSError:
        # A file, or a folder that cannot be listed: there is something, and the reading of its parts says what.
        return False


def _split(name: str, split: str, desk: examine.Desk) -> list[Finding]:
    where = f"{desk.root}, split {split}"
    problems: list[Problem] = []
    try:
        summary = _SETS[name][0](replace(desk, report=problems.append), split)
    except AbsentError as error:
        what = "is not in the Hugging Face cache" if is_hub(desk.root) else "is not there, though its data folder is"
        problems.append(Problem(str(error.lacking), what, error.advice, _UNAVAILABLE))
    except UnavailableError as error:
        problems.append(Problem(where, str(error).rstrip("."), "Install it, then check again", _UNAVAILABLE))
    except ProblemError as error:
        problems.append(error.problem or Problem(where, str(error).rstrip("."), "Mend it, then check again"))
    if problems:
        return _findings(name, _condense(problems))
    read = "every pixel read" if desk.decode else "names and annotations read, no pixels"
    return [Finding(name, "ok", where, f"{summary}; {read}", "none", "nothing to do")]


def _losses(name: str, root: Path, world_counts: Mapping[str, int]) -> list[Finding]:
    try:
        return _findings(name, census.losses(name, root, world_counts))
    except ProblemError as error:
        return _findings(name, [error.problem] if error.problem else [])


def _findings(name: str, problems: Iterable[Problem]) -> list[Finding]:
    return [Finding(name, p.severity, p.where, p.what, p.effect, p.mend) for p in problems]


def _missing_root(name: str, desk: examine.Desk, must: bool) -> Finding:
    """What the set itself says of a folder that is empty or not there."""
    what, advice = "the folder is empty" if desk.root.exists() else "the folder is not there", ""
    try:
        _SETS[name][0](desk, _SETS[name][1][0])
    except AbsentError as error:
        advice = error.advice
    return _absent(name, str(desk.root), what, advice, must)


def _absent(name: str, where: str, what: str, mend: str, must: bool) -> Finding:
    return Finding(name, "error" if must else "warning", where, what, _UNAVAILABLE, mend)


def _nothing(roots: Roots) -> Finding:
    folders = (
        ", ".join(str(roots.folders[name]) for name in _SETS if name in roots.folders) or "no folder is configured"
    )
    what = f"no data set was found: expected at least one of the folders {', '.join(_SETS)} in a data root"
    mend = "Give the folder that holds them with --data or EUPE_EVAL_DATA, or try everything with --data miniature"
    return Finding("data", "error", folders, what, "nothing can be scored", mend)


def _each(workers: int, bar: BarFactory) -> examine.Each:
    def each(title: str, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        with bar(title, len(items)) as progress:
            for result in mapped(function, items, workers):
                progress.update()
                yield result

    return each


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
