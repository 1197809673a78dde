"""RealWorldQA: questions about scenes of the real world; the text of each holds its options and an instruction."""

from pathlib import Path

from evals.datasets.layout import Report, stop
from evals.datasets.vlm.find import Part, Source, absent, files_of, folder_of
from evals.datasets.vlm.table import TEXT, Entry, QuestionSplit, entries_of, lines, question_split
from evals.files import DigestMemo

SPLIT = "test"
PUBLISHED = {SPLIT: 765}
SOURCE = Source("RealWorldQA", "RealWorldQA", (Part(SPLIT, ("data", "default", ".")),))
KINDS = {"question": TEXT, "answer": TEXT}


def load(root: Path, digests: DigestMemo) -> QuestionSplit:
    """The split; a question's id is the number of its row. Raises UnavailableError or DataError."""
    entries, files = survey(root, stop)
    return question_split("realworldqa", SPLIT, entries, files, digests)


def survey(root: Path, report: Report, *, fetch: bool = True) -> tuple[list[Entry], list[Path]]:
    """Sound questions and the files they are from; every problem goes to `report`."""
    base = folder_of(root, SOURCE, fetch=fetch)
    files = files_of(base, SOURCE.parts[0])
    if not files:
        raise absent(root, SOURCE, base)
    return entries_of(lines(files, KINDS, report), lambda line: str(line.number), report), files
