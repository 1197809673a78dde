"""MME: two yes-or-no questions about each picture, in fourteen subtasks."""

from collections import defaultdict
from pathlib import Path

from evals.datasets.layout import Problem, Report, stop
from evals.datasets.vlm.find import Part, Source, absent, files_of, folder_of
from evals.datasets.vlm.table import KEY, TEXT, YES_NO, Entry, QuestionSplit, entries_of, lines, question_split
from evals.files import DigestMemo

SPLIT = "test"
PUBLISHED = {SPLIT: 2_374}
PUBLISHED_PERCEPTION = {
    "existence": 60, "count": 60, "position": 60, "color": 60, "posters": 294, "celebrity": 340, "scene": 400,
    "landmark": 400, "artwork": 400, "OCR": 40,
}  # fmt: skip
"""Questions of each perception subtask (MME, arXiv 2306.13394)."""
PUBLISHED_COGNITION = {
    "commonsense_reasoning": 140, "numerical_calculation": 40, "text_translation": 40, "code_reasoning": 40,
}  # fmt: skip
PER_PICTURE = 2
SOURCE = Source("MME", "MME", (Part(SPLIT, ("data", "default", ".")),))
KINDS = {"question_id": KEY, "category": TEXT, "question": TEXT, "answer": YES_NO}


def load(root: Path, digests: DigestMemo) -> QuestionSplit:
    """The split, limited only by whole pairs; a question's id is `category/question_id#n`, n its number in the pair.

    Raises UnavailableError or DataError.
    """
    entries, files = survey(root, stop)
    units = pairs(entries).values()
    return question_split(
        "mme",
        SPLIT,
        entries,
        files,
        digests,
        units=[tuple(unit) for unit in units],
        group_of=lambda entry: str(entry.row["category"]),
    )


def survey(root: Path, report: Report, *, fetch: bool = True) -> tuple[list[Entry], list[Path]]:
    """Questions and the files they are from; every problem goes to `report`, a pair that is none among them."""
    base = folder_of(root, SOURCE, fetch=fetch)
    files = files_of(base, SOURCE.parts[0])
    if not files:
        raise absent(root, SOURCE, base)
    found = lines(files, KINDS, report)
    times: dict[tuple[str, str], int] = defaultdict(int)
    names = {}
    for line in found:
        key = line.row["category"], str(line.row["question_id"])
        times[key] += 1
        names[line.number] = f"{key[0]}/{key[1]}#{times[key]}"
    entries = entries_of(found, lambda line: names[line.number], report)
    for (category, picture), unit in pairs(entries).items():
        if len(unit) != PER_PICTURE:
            where = entries[unit[0]].where
            what = f"question_id {picture} of category {category} has {len(unit)} rows; expected exactly {PER_PICTURE}"
            report(Problem(where, what, "Obtain the set again"))
    return entries, files


def pairs(entries: list[Entry]) -> dict[tuple[str, str], list[int]]:
    """Positions of the questions of each category and question_id."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, entry in enumerate(entries):
        found[entry.row["category"], str(entry.row["question_id"])].append(position)
    return found
