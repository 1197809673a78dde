"""ScienceQA, test: questions with choices, of which only those with a picture are read."""

from pathlib import Path

from evals.datasets.layout import Problem, Report, stop
from evals.datasets.vlm.find import Part, Source, absent, files_of, folder_of
from evals.datasets.vlm.table import HINT, TEXT, TEXTS, Entry, Kind, QuestionSplit, entries_of, lines, question_split
from evals.files import DigestMemo

SPLIT = "test"
PUBLISHED = {SPLIT: 2_017}
"""Questions with a picture, of 4,241."""
SOURCE = Source(
    "ScienceQA", "ScienceQA", (Part(SPLIT, ("ScienceQA-IMG", "ScienceQA-FULL", "data", "default", ".")),), alias="sqa"
)
KINDS = {
    "question": TEXT,
    "choices": Kind("two texts or more", lambda value: TEXTS.holds(value) and len(value) > 1),
    "answer": Kind("the number of a choice", lambda value: isinstance(value, int) and value >= 0),
    "hint": HINT,
}


def load(root: Path, digests: DigestMemo) -> QuestionSplit:
    """The split; a question's id is the number of its row in the table. Raises UnavailableError or DataError."""
    entries, files = survey(root, stop)
    return question_split("scienceqa", SPLIT, entries, files, digests)


def survey(root: Path, report: Report, *, fetch: bool = True) -> tuple[list[Entry], list[Path]]:
    """Sound questions with a picture and the files they are from; every problem goes to `report`."""
    base = folder_of(root, SOURCE, fetch=fetch)
    files = files_of(base, SOURCE.parts[0])
    if not files:
        raise absent(root, SOURCE, base)
    shown = []
    for line in lines(files, KINDS, report):
        if line.row["answer"] >= len(line.row["choices"]):
            what = f"is {line.row['answer']}, but the row has {len(line.row['choices'])} choices, counted from 0"
            report(Problem(f"{line.where}, field answer", what, "Obtain the set again"))
        elif line.place is not None:
            shown.append(line)
    return entries_of(shown, lambda line: str(line.number), report), files
