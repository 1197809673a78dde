"""GQA, balanced questions of testdev: compositional questions about 398 pictures, which lie in a table of their own."""

from pathlib import Path

from evals.datasets.layout import Problem, Report, stop
from evals.datasets.vlm.files import Place
from evals.datasets.vlm.find import Part, Source, absent, files_of, folder_of
from evals.datasets.vlm.table import KEY, TEXT, Entry, Line, QuestionSplit, entries_of, lines, question_split
from evals.files import DigestMemo

SPLIT = "testdev_balanced"
PUBLISHED = {SPLIT: 12_578}
PUBLISHED_PICTURES = 398
QUESTIONS = Part("testdev", ("testdev_balanced_instructions",))
PICTURES = Part("testdev", ("testdev_balanced_images",))
SOURCE = Source("GQA", "GQA", (QUESTIONS, PICTURES))
KINDS = {"id": KEY, "imageId": KEY, "question": TEXT, "answer": TEXT}


def load(root: Path, digests: DigestMemo) -> QuestionSplit:
    """The split; questions about one picture share its place. Raises UnavailableError or DataError."""
    entries, files = survey(root, stop)
    return question_split("gqa", SPLIT, entries, files, digests)


def survey(root: Path, report: Report, *, fetch: bool = True) -> tuple[list[Entry], list[Path]]:
    """Sound questions, joined with their pictures by imageId, and the files; every problem goes to `report`."""
    base = folder_of(root, SOURCE, fetch=fetch)
    asked, shown = files_of(base, QUESTIONS), files_of(base, PICTURES)
    for part, files in ((QUESTIONS, asked), (PICTURES, shown)):
        if not files:
            raise absent(root, SOURCE, base / part.folders[0])
    pictures = entries_of(lines(shown, {"id": KEY}, report), lambda line: str(line.row["id"]), report)
    places = {entry.id: entry.place for entry in pictures}
    joined = []
    for line in lines(asked, KINDS, report, pictures=False):
        place = _place(line, places, shown, report)
        if place is not None:
            joined.append(Line(line.where, line.number, line.row, place))
    return entries_of(joined, lambda line: str(line.row["id"]), report), [*asked, *shown]


def _place(line: Line, places: dict[str, Place], shown: list[Path], report: Report) -> Place | None:
    place = places.get(str(line.row["imageId"]))
    if place is None:
        what = f"{line.row['imageId']} is no id in {shown[0].parent}, where the pictures lie"
        report(Problem(f"{line.where}, field imageId", what, "Obtain both tables again"))
    return place
