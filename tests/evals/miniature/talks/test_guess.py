"""How much of each set a guesser gets right who sees no picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from evals.miniature import world
from evals.miniature.talks import gqa, mme, pope, realworldqa, scienceqa, textvqa
from evals.miniature.talks.conversations import about
from evals.miniature.talks.shelf import Stock
from tests.evals.miniature.talks.guess import Pair, best, constant, fitted, learnt, lessons, lines, plain

Rows = list[dict[str, Any]]

BOUNDS = {"textvqa": 0.08, "scienceqa": 0.38, "realworldqa": 0.48, "pope": 0.57, "gqa": 0.38, "mme": 0.58}
"""Most that any guess may get right. Of GQA, half of the kinds of questions have two answers and the others about five
to twelve, ScienceQA has two or four choices, RealWorldQA some of all these."""


def _options(row: dict[str, Any]) -> str:
    return " ".join([row["question"], row["hint"], *row["choices"]])


PAIRS: dict[str, Callable[[dict[str, Any]], Pair]] = {
    "textvqa": lambda row: (row["question"], max(row["answers"], key=row["answers"].count)),
    "scienceqa": lambda row: (_options(row), "abcd"[row["answer"]]),
    "realworldqa": lambda row: (row["question"], row["answer"].lower()),
    "pope": lambda row: (row["question"], row["answer"]),
    "gqa": lambda row: (row["question"], row["answer"]),
    "mme": lambda row: (plain(row["question"]), row["answer"].lower()),
}


def test_the_guesser_finds_what_there_is_to_find() -> None:
    """Answers that hang on the words are found, by lessons and by the fit; without any, the commonest is left."""
    rng = np.random.default_rng(0)
    pairs = [(f"Is the {name} red?", "yes" if name == "mug" else "no") for name in rng.choice(["mug", "car"], 90)]
    assert fitted(pairs) == 1.0
    assert learnt(pairs, pairs) == 1.0
    assert constant([("a", "x"), ("b", "x"), ("c", "y"), ("d", "z")]) == 0.5
    coin = [("Is the mug red?", str(answer)) for answer in rng.permutation(["yes", "no"] * 100)]
    assert best(coin, coin) < 0.55


@pytest.fixture(scope="module")
def told_rows(told: tuple[Path, list[Stock]]) -> dict[str, Rows]:
    """The six sets about sights that are only told."""
    root, shelf = told
    known = pope.statistics(stock.sight for stock in shelf)

    def draw() -> np.random.Generator:
        return np.random.default_rng(9)

    return {
        "textvqa": textvqa.write(root, shelf, 160, draw()),
        "scienceqa": scienceqa.write(root, shelf, 200, draw()),
        "realworldqa": realworldqa.write(root, shelf, 200, draw()),
        "pope": pope.write(root, [s for s in shelf if s.sight.kind != "board"], known, 300, draw()),
        "gqa": gqa.write(root, shelf, 400, draw()),
        "mme": mme.write(root, shelf, 30, draw()),
    }


@pytest.fixture(scope="module")
def told_lessons(told: tuple[Path, list[Stock]]) -> list[Pair]:
    """What conversations about other sights of the same kind teach."""
    rng = np.random.default_rng(2)
    records = [r for stock in told[1] for r in about(stock, "x/0.jpg", rng)]
    return lines(records)


@pytest.mark.parametrize("name", BOUNDS)
def test_text_alone_does_not_tell(name: str, told_rows: dict[str, Rows], told_lessons: list[Pair]) -> None:
    """Neither the lessons, nor the commonest answer, nor a classifier of the words does better than it should."""
    asked = [PAIRS[name](row) for row in told_rows[name]]
    assert len(asked) > 100
    assert best(told_lessons, asked) <= BOUNDS[name]


def test_what_readers_of_signs_find_does_not_tell_all(told_rows: dict[str, Rows]) -> None:
    """The first word that was found is right in some of the questions; in a good part of all none is."""
    rows = [(PAIRS["textvqa"](row)[1], row["ocr_tokens"]) for row in told_rows["textvqa"]]
    first = np.mean([bool(tokens) and tokens[0] == word for word, tokens in rows])
    found = np.mean([word in tokens for word, tokens in rows])
    assert 0.3 < first < 0.7 < found < 0.9


@pytest.mark.slow
def test_text_alone_does_not_tell_in_the_whole_world(tmp_path: Path) -> None:
    """The same of the size that is used, whose pictures are rendered."""
    root = world.make(tmp_path / "world", size="talks")
    files = {
        "textvqa": textvqa.FILE,
        "scienceqa": scienceqa.FILE,
        "realworldqa": realworldqa.FILE,
        "pope": pope.FILE,
        "gqa": gqa.FILES[0],
        "mme": mme.FILE,
    }
    taught = lessons(root)
    for name, file in files.items():
        asked = [PAIRS[name](row) for row in pq.read_table(root / file).to_pylist()]
        assert len(asked) >= 100
        assert best(taught, asked) <= BOUNDS[name], name
