"""TextVQA v0.5.1, validation: questions about text in pictures, ten answers each."""

from pathlib import Path

from evals.datasets.layout import Report, stop
from evals.datasets.vlm.find import Part, Source, absent, files_of, folder_of
from evals.datasets.vlm.table import KEY, TEXT, TEXTS, Entry, Kind, QuestionSplit, entries_of, lines, question_split
from evals.files import DigestMemo

SPLIT = "validation"
PUBLISHED = {SPLIT: 5_000}
ANSWERS = 10
"""References of a question; the metric leaves each out in turn."""
SOURCE = Source("TextVQA", "textvqa", (Part(SPLIT, ("data", "default", ".")),))
KINDS = {
    "question_id": KEY,
    "question": TEXT,
    "answers": Kind(f"{ANSWERS} texts", lambda value: TEXTS.holds(value) and len(value) == ANSWERS),
    "ocr_tokens": TEXTS,
}


def load(root: Path, digests: DigestMemo) -> QuestionSplit:
    """The split; a question's id is its question_id. Raises UnavailableError or DataError."""
    entries, files = survey(root, stop)
    return question_split("textvqa", SPLIT, entries, files, digests)


def survey(root: Path, report: Report, *, fetch: bool = True) -> tuple[list[Entry], list[Path]]:
    """Sound questions and the files they are from; every problem goes to `report`."""
    base = folder_of(root, SOURCE, fetch=fetch)
    files = files_of(base, SOURCE.parts[0])
    if not files:
        raise absent(root, SOURCE, base)
    return entries_of(lines(files, KINDS, report), lambda line: str(line.row["question_id"]), report), files
