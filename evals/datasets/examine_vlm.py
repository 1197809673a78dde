"""What a check looks at in the vision-language sets: counts, mix, joins and pictures."""

import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from evals.datasets import llava
from evals.datasets.examine import Desk, look_at_image
from evals.datasets.layout import Problem, ProblemError, Report
from evals.datasets.vlm import gqa, mme, pope, realworldqa, sqa, textvqa
from evals.datasets.vlm.files import Place, picture_at
from evals.datasets.vlm.table import Entry

_OTHER_DATA = "scores are those of another data set and not comparable with published ones"
_OTHER_TRAINING = "the model is trained on other data than the published one, and all its scores are others"
_STOPS = "the training stops, unless it is told to skip: then it goes on without the records of this picture"
_AGAIN = "Obtain the set again"


class Survey(Protocol):
    """Sound questions of a set, and its files."""

    def __call__(self, root: Path, report: Report, *, fetch: bool = True) -> tuple[list[Entry], list[Path]]:
        """Every problem goes to `report`."""
        ...


class Asked(NamedTuple):
    """A set of questions as a check sees it."""

    survey: Survey
    compare: Callable[[Desk, str, list[Entry]], None]
    """Compares counts with the published ones."""


def examine_llava(desk: Desk, stage: str) -> str:
    """Records, the mix of their sources, and their pictures."""
    talks = llava.survey(desk.root, stage, desk.report)
    path = llava.file_of(desk.root, stage)
    _published(desk, str(path), "records", len(talks), llava.PUBLISHED[stage], _OTHER_TRAINING)
    if stage == "instruction":
        sources = Counter(_source(talk, path.parent) for talk in talks)
        _mix(desk, str(path), "records", sources, llava.PUBLISHED_MIX, _OTHER_TRAINING)
    pictures = llava.pictures_of(talks)
    missing = llava.absent(pictures)
    for picture in sorted(missing):
        desk.report(Problem(str(picture), "the picture is not there", "Obtain the pictures of its source", _STOPS))
    if desk.decode:
        for look in desk.each(f"llava {stage}", look_at_image, sorted(pictures - missing)):
            if look.problem is not None:
                desk.report(Problem(look.problem.where, look.problem.what, "Restore the file", _STOPS))
    alone = sum(talk.image is None for talk in talks)
    return f"{len(talks):,} records, {alone:,} of them text alone, with {len(pictures):,} pictures"


def examine_questions(desk: Desk, name: str) -> str:
    """Rows, joins, counts and pictures of one of the six sets. Nothing is downloaded."""
    entries, files = SETS[name].survey(desk.root, desk.report, fetch=False)
    where = str(files[0].parent)
    if not entries:
        desk.report(Problem(where, "holds no sound question", _AGAIN))
    if desk.real:
        SETS[name].compare(desk, where, entries)
    if name == "pope":
        pope.differences(desk.root, entries, desk.report)
    places = {entry.place: entry.where for entry in reversed(entries)}
    if desk.decode:
        items = [(place, places[place]) for place in sorted(places)]
        for problem in desk.each(f"vlm {name}", look_at_picture, items):
            if problem is not None:
                desk.report(problem)
    return f"{len(entries):,} questions with {len(places):,} pictures"


def look_at_picture(item: tuple[Place, str]) -> Problem | None:
    """Decode a picture of a table, which belongs to the row named in `item`."""
    place, where = item
    try:
        content = picture_at(place)
    except ProblemError as error:
        return error.problem
    try:
        with warnings.catch_warnings():
            # As for pictures in files: broken EXIF blocks and large photographs are no damage.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Problem(f"{where}, field image", "the picture cannot be decoded: it is damaged or no image", _AGAIN)
    return None


def _source(talk: llava.Talk, base: Path) -> str:
    """The first folder of its picture, or what stands for none."""
    return (
        llava.TEXT_ALONE if talk.image is None else str(talk.image).removeprefix(f"{base}{os.sep}").split(os.sep, 1)[0]
    )


def _published(desk: Desk, where: str, kind: str, found: int, published: int, effect: str = _OTHER_DATA) -> None:
    if desk.real and found != published:
        desk.report(Problem(where, f"{found:,} {kind}, published are {published:,}", _AGAIN, effect))


def _mix(
    desk: Desk, where: str, kind: str, found: Mapping[str, int], published: Mapping[str, int], effect: str = _OTHER_DATA
) -> None:
    """One problem for all parts of a set that have other counts than the published ones."""
    names = [name for name in sorted(found.keys() | published.keys()) if found.get(name, 0) != published.get(name, 0)]
    if desk.real and names:
        parts = (f"{name}: {found.get(name, 0):,} in place of {published.get(name, 0):,}" for name in names)
        desk.report(Problem(where, f"the mix of {kind} is not the published one ({'; '.join(parts)})", _AGAIN, effect))


def _total(published: Mapping[str, int]) -> Callable[[Desk, str, list[Entry]], None]:
    """Compares the number of questions."""

    def count(desk: Desk, where: str, entries: Sequence[Entry]) -> None:
        _published(desk, where, "questions", len(entries), next(iter(published.values())))

    return count


def _count_pope(desk: Desk, where: str, entries: list[Entry]) -> None:
    each = Counter(str(entry.row["category"]) for entry in entries)
    for name in pope.CATEGORIES:
        if name == "random" and each[name] == pope.OLD_RANDOM:
            what = f"{each[name]:,} questions of random: this is the first version of that split"
            effect = "its F1 differs a little from that of today's 3,000 questions, and the result is not standard"
            desk.report(Problem(where, what, _AGAIN, effect, "warning"))
        else:
            _published(desk, where, f"questions of {name}", each[name], pope.PUBLISHED_CATEGORY)


def _count_gqa(desk: Desk, where: str, entries: list[Entry]) -> None:
    _published(desk, where, "questions", len(entries), gqa.PUBLISHED[gqa.SPLIT])
    pictures = len({entry.place for entry in entries})
    _published(desk, where, "pictures with questions", pictures, gqa.PUBLISHED_PICTURES)


def _count_mme(desk: Desk, where: str, entries: list[Entry]) -> None:
    each = Counter(str(entry.row["category"]) for entry in entries)
    _published(desk, where, "questions", len(entries), mme.PUBLISHED[mme.SPLIT])
    _mix(desk, where, "subtasks", each, mme.PUBLISHED_PERCEPTION | mme.PUBLISHED_COGNITION)


SETS: dict[str, Asked] = {
    "textvqa": Asked(textvqa.survey, _total(textvqa.PUBLISHED)),
    "sqa": Asked(sqa.survey, _total(sqa.PUBLISHED)),
    "realworldqa": Asked(realworldqa.survey, _total(realworldqa.PUBLISHED)),
    "pope": Asked(pope.survey, _count_pope),
    "gqa": Asked(gqa.survey, _count_gqa),
    "mme": Asked(mme.survey, _count_mme),
}
"""The six sets, by the names of their benchmarks."""
