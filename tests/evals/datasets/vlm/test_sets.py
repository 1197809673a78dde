"""What each of the six sets asks of its rows."""

from pathlib import Path
from typing import Any

import pytest

from evals.datasets.layout import Problem
from evals.datasets.vlm import gqa, mme, pope, sqa, textvqa
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo
from tests.evals.datasets.vlm.rows import (
    Rows,
    gqa_rows,
    mme_rows,
    png,
    pope_rows,
    sqa_rows,
    textvqa_rows,
    write_parquet,
    write_saved,
)


def _changed(rows: Rows, at: int, **changes: Any) -> Rows:
    return [{**row, **changes} if number == at else row for number, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"answers": ["stop"] * 9}, "row 2, field answers: expected 10 texts, got"),
        ({"answers": None}, "row 2, field answers: expected 10 texts, got None"),
        ({"ocr_tokens": None}, "row 2, field ocr_tokens: expected a list of texts, got None"),
        ({"question_id": None}, "row 2, field question_id: expected text or a whole number, got None"),
    ],
)
def test_textvqa_rows(tmp_path: Path, digests: DigestMemo, changes: dict[str, Any], what: str) -> None:
    """Ten references, and a list of OCR tokens, which may be empty."""
    write_parquet(tmp_path / "textvqa", "validation", _changed(textvqa_rows(), 2, **changes))
    with pytest.raises(DataError, match=what):
        textvqa.load(tmp_path, digests)


@pytest.mark.parametrize("layout", ["parquet", "arrow"])
def test_scienceqa_keeps_rows_with_a_picture(tmp_path: Path, digests: DigestMemo, layout: str) -> None:
    """Rows without one are left out; ids are numbers of rows of the whole table."""
    if layout == "parquet":
        write_parquet(tmp_path / "ScienceQA" / "ScienceQA-FULL", "test", sqa_rows(), 2)
    else:
        write_saved(tmp_path / "ScienceQA" / "test", "test", sqa_rows())
    split = sqa.load(tmp_path, digests)
    assert [split[at].id for at in range(len(split))] == ["0", "2", "3"]
    assert [split[at].picture for at in range(3)] == [png(number)["bytes"] for number in (100, 102, 103)]
    assert split[0].row["hint"] == "Look at the map."
    assert split.n_original == 3


def test_scienceqa_prefers_the_table_with_pictures(vlm_root: Path, digests: DigestMemo) -> None:
    """Of a repository with both tables, the one of the published task is read."""
    write_parquet(vlm_root / "ScienceQA" / "ScienceQA-FULL", "test", sqa_rows([True] * 9))
    assert len(sqa.load(vlm_root, digests)) == 3


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"answer": 3}, "row 2, field answer: is 3, but the row has 3 choices"),
        ({"answer": -1}, "row 2, field answer: expected the number of a choice, got -1"),
        ({"choices": ["a"]}, r"row 2, field choices: expected two texts or more, got \['a'\]"),
        ({"choices": None}, "row 2, field choices: expected two texts or more, got None"),
    ],
)
def test_scienceqa_rows(tmp_path: Path, digests: DigestMemo, changes: dict[str, Any], what: str) -> None:
    """The answer is the number of one of the choices."""
    write_parquet(tmp_path / "ScienceQA", "test", _changed(sqa_rows(), 2, **changes))
    with pytest.raises(DataError, match=what):
        sqa.load(tmp_path, digests)


def test_scienceqa_hints_may_be_null(tmp_path: Path, digests: DigestMemo) -> None:
    """Most questions have none."""
    write_parquet(tmp_path / "ScienceQA", "test", _changed(sqa_rows(), 2, hint=None))
    assert sqa.load(tmp_path, digests)[1].row["hint"] is None


def test_pope_in_both_forms(vlm_root: Path, tmp_path: Path, digests: DigestMemo) -> None:
    """One table with a column of categories, and a table for each category, give the same questions."""
    whole = pope.load(vlm_root, digests)
    for layout, write in (("p", write_parquet), ("a", write_saved)):
        for name in ("random", "popular", "adversarial"):
            rows = pope_rows([name])
            if layout == "a":
                rows = [{key: value for key, value in row.items() if key != "category"} for row in rows]
            write(tmp_path / layout / "POPE" / "Full" / (name if layout == "a" else ""), name, rows)
        split = pope.load(tmp_path / layout, digests)
        assert [split[at] for at in range(12)] == [whole[at] for at in range(12)]
    assert [whole[at].id for at in (0, 3, 11)] == ["adversarial/1", "adversarial/4", "random/4"]


def test_pope_limits_go_round_the_categories(vlm_root: Path, digests: DigestMemo) -> None:
    """Six of twelve questions are two of each category, the first and the third of its four."""
    part = pope.load(vlm_root, digests).limit(6)
    wanted = [f"{name}/{number}" for name in ("adversarial", "popular", "random") for number in (1, 3)]
    assert [part[at].id for at in range(len(part))] == wanted


def test_pope_without_one_of_its_splits(tmp_path: Path, digests: DigestMemo) -> None:
    """Two of three tables are no set: the third is named."""
    for name in ("adversarial", "random"):
        write_parquet(tmp_path / "POPE" / "Full", name, pope_rows([name]))
    with pytest.raises(UnavailableError, match=r"Full/popular-\*.parquet is not there"):
        pope.load(tmp_path, digests)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"answer": "maybe"}, "row 5, field answer: expected yes or no, got 'maybe'"),
        ({"category": "hard"}, "row 5, field category: expected adversarial or popular or random, got 'hard'"),
        ({"question_id": "1"}, "row 4: 2 rows have the id popular/1; expected one"),
    ],
)
def test_pope_rows(tmp_path: Path, digests: DigestMemo, changes: dict[str, Any], what: str) -> None:
    """Ids are unique in a category, answers are yes or no."""
    write_parquet(tmp_path / "POPE" / "data", "test", _changed(pope_rows(), 5, **changes))
    with pytest.raises(DataError, match=what):
        pope.load(tmp_path, digests)


def test_pope_categories_that_contradict_their_table(tmp_path: Path, digests: DigestMemo) -> None:
    """A row of another category in the table of one is named."""
    for name in ("adversarial", "popular", "random"):
        write_parquet(tmp_path / "POPE" / "Full", name, pope_rows(["random" if name == "popular" else name]))
    with pytest.raises(DataError, match="row 0, field category: expected popular, got 'random'"):
        pope.load(tmp_path, digests)


def test_pope_forms_are_joined_by_id(vlm_root: Path) -> None:
    """Where both forms are there, rows of one id must agree, in whatever order they stand."""
    for name in ("adversarial", "popular", "random"):
        rows = list(reversed(pope_rows([name])))
        if name == "popular":
            rows = _changed(rows, 1, answer="no", question="Is there a cat?")
        if name == "random":
            rows[0]["question_id"] = "77"
        write_parquet(vlm_root / "POPE" / "Full", name, rows)
    problems: list[Problem] = []
    entries, _ = pope.survey(vlm_root, problems.append)
    assert problems == []
    pope.differences(vlm_root, entries, problems.append)
    assert [problem.where.rsplit(", ", 1)[1] for problem in problems] == ["id popular/3", "id random/77"]
    assert "differs in question and answer from" in problems[0].what
    assert "is in no row of the whole" in problems[1].what


def test_gqa_is_joined_by_image_id(vlm_root: Path, digests: DigestMemo) -> None:
    """Pictures stand in another order and once each; questions about one share its place."""
    split = gqa.load(vlm_root, digests)
    assert [split[at].id for at in range(5)] == ["200", "201", "202", "203", "204"]
    assert [split[at].picture for at in range(2)] == [png(401)["bytes"], png(402)["bytes"]]
    assert split.entries[0].place == split.entries[2].place == split.entries[4].place
    assert split[0].row["semantic"] == [{"operation": "select", "dependencies": [0]}]


def test_gqa_pictures_that_are_missing_or_twice(tmp_path: Path, digests: DigestMemo) -> None:
    """The row and its imageId stand in the error; so does a picture that is there twice."""
    asked, shown = gqa_rows()
    write_parquet(tmp_path / "a" / "GQA" / "testdev_balanced_instructions", "testdev", asked)
    write_parquet(tmp_path / "a" / "GQA" / "testdev_balanced_images", "testdev", shown[:1])
    with pytest.raises(DataError, match=r"row 0, field imageId: n1 is no id in .*testdev_balanced_images"):
        gqa.load(tmp_path / "a", digests)
    write_parquet(tmp_path / "b" / "GQA" / "testdev_balanced_instructions", "testdev", asked)
    write_parquet(tmp_path / "b" / "GQA" / "testdev_balanced_images", "testdev", [*shown, shown[0]])
    with pytest.raises(DataError, match="2 rows have the id n2"):
        gqa.load(tmp_path / "b", digests)


@pytest.mark.parametrize("gone", ["testdev_balanced_instructions", "testdev_balanced_images"])
def test_gqa_needs_both_tables(vlm_root: Path, digests: DigestMemo, gone: str) -> None:
    """The table that is not there is named."""
    (vlm_root / "GQA" / gone / "testdev-00000-of-00001.parquet").unlink()
    with pytest.raises(UnavailableError, match=f"GQA: .*{gone} is not there"):
        gqa.load(vlm_root, digests)


def test_mme_pairs(vlm_root: Path, digests: DigestMemo) -> None:
    """Two questions a picture have ids of their own, and units of two."""
    split = mme.load(vlm_root, digests)
    assert [split[at].id for at in range(3)] == [
        "existence/existence/0.png#1", "existence/existence/0.png#2", "existence/existence/1.png#1",
    ]  # fmt: skip
    assert split.units == tuple((at, at + 1) for at in range(0, 12, 2))
    assert len(set(split.groups)) == 3


@pytest.mark.parametrize(("n", "pairs"), [(1, 1), (2, 1), (5, 2), (7, 3), (11, 5), (12, 6)])
def test_mme_limits_keep_pairs(vlm_root: Path, digests: DigestMemo, n: int, pairs: int) -> None:
    """An odd number loses one question; a part of a part has whole pairs too."""
    part = mme.load(vlm_root, digests).limit(n)
    assert len(part) == 2 * pairs
    for left in (part, part.limit(2)):
        seen = [left[at].row["question_id"] for at in range(len(left))]
        assert all(seen.count(name) == 2 for name in seen)
    if pairs == 3:
        assert {part[at].row["category"] for at in range(6)} == {"existence", "OCR", "code_reasoning"}


def test_mme_pairs_need_not_be_neighbours(tmp_path: Path, digests: DigestMemo) -> None:
    """First all first questions, then all second ones."""
    rows = mme_rows()
    write_parquet(tmp_path / "MME", "test", rows[::2] + rows[1::2])
    assert mme.load(tmp_path, digests).units == tuple((at, at + 6) for at in range(6))


@pytest.mark.parametrize(("rows", "count"), [(mme_rows()[:-1], 1), ([*mme_rows(), mme_rows()[-1]], 3)])
def test_mme_pairs_that_are_none(tmp_path: Path, digests: DigestMemo, rows: Rows, count: int) -> None:
    """One question, or three, of a picture and category are an error."""
    write_parquet(tmp_path / "MME", "test", rows)
    what = rf"question_id code_reasoning/1.png of category code_reasoning has {count} rows; expected exactly 2"
    with pytest.raises(DataError, match=what):
        mme.load(tmp_path, digests)


def test_counts_of_the_facts_agree() -> None:
    """Ten perception subtasks have 2,114 questions, fourteen subtasks the published 2,374."""
    assert len(mme.PUBLISHED_PERCEPTION) == 10
    assert sum(mme.PUBLISHED_PERCEPTION.values()) == 2_114
    assert sum((mme.PUBLISHED_PERCEPTION | mme.PUBLISHED_COGNITION).values()) == mme.PUBLISHED[mme.SPLIT] == 2_374
    assert len(pope.CATEGORIES) * pope.PUBLISHED_CATEGORY == pope.PUBLISHED[pope.SPLIT] == 9_000
