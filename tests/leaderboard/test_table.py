"""Which record stands where."""

import dataclasses
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from evals.record import EncoderCard, Frozen, Status
from leaderboard.table import Board, build

if TYPE_CHECKING:
    from conftest import Make


def texts(board: Board) -> dict[str, list[str]]:
    """The printed value of every cell, by the label of the row."""
    return {
        row.label: [board.cell(at, column).text for column in range(len(board.columns))]
        for at, row in enumerate(board.rows)
    }


def titles(board: Board) -> list[str]:
    """The titles of the columns."""
    return [column.title for column in board.columns]


def test_import_is_light() -> None:
    """Tables need neither torch nor timm."""
    code = (
        "import sys, leaderboard.render, leaderboard.table; print([m for m in ('torch', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_two_worlds_are_two_boards(make: "Make") -> None:
    """Real data first, then each world; no score crosses over."""
    rows = [
        make.scored("a", "in1k-knn", 3.0, protocol="miniature", dataset=make.data(world="v2")),
        make.scored("a", "in1k-knn", 2.0, protocol="miniature", dataset=make.data(world="v1")),
        make.scored("a", "in1k-knn", 1.0),
    ]
    boards = build(rows)
    assert [board.world for board in boards] == [None, "v1", "v2"]
    assert [texts(board) for board in boards] == [{"a": ["1.0"]}, {"a": ["2.0"]}, {"a": ["3.0"]}]


def test_result_without_data_follows_its_protocol(make: "Make") -> None:
    """A skipped benchmark of the embedded world stands in the worlds where its encoder was scored, and only there."""
    rows = [
        make.scored("a", "in1k-knn", 2.0, protocol="miniature", dataset=make.data(world="v1")),
        make.scored("b", "in1k-knn", 3.0, protocol="miniature", dataset=make.data(world="v2")),
        make.missing("a", "in1k-zeroshot", "skipped", "no txt", protocol="miniature"),
        make.missing("b", "in1k-zeroshot", "skipped", "no txt"),
    ]
    boards = {board.world: texts(board) for board in build(rows)}
    assert boards == {None: {"b": ["no txt"]}, "v1": {"a": ["2.0", "no txt"]}, "v2": {"b": ["3.0"]}}


def test_world_is_unknown_while_nothing_was_scored(make: "Make") -> None:
    """Only skipped results of the embedded world: one board that names no world."""
    (board,) = build([make.missing("a", "in1k-zeroshot", "skipped", "no txt", protocol="miniature")])
    assert board.world == ""
    assert texts(board) == {"a": ["no txt"]}


def test_columns_stand_in_the_order_of_the_families(make: "Make") -> None:
    """Image, dense, vision-language, cost, then what the table does not know, whatever the order of the records."""
    names = ["other-bench", "cost", "gqa", "spair-pck", "textvqa", "in1k-zeroshot", "nyuv2-linear", "in1k-knn"]
    (board,) = build([make.scored("a", name, 1.0) for name in names])
    assert titles(board) == ["IN1k-KNN", "IN1k-ZS", "NYUv2", "SPair", "TextVQA", "GQA", "cost", "other-bench"]
    assert [column.family for column in board.columns] == [
        *2 * ["image"],
        *2 * ["dense"],
        *2 * ["vlm"],
        "cost",
        "other",
    ]


def test_other_data_and_versions_are_other_columns(make: "Make") -> None:
    """Scores on two copies of the data, or of two versions of a benchmark, are never compared."""
    rows = [
        make.scored("a", "in1k-knn", 1.0),
        make.scored("b", "in1k-knn", 2.0, dataset=make.data(fingerprint="cd")),
        make.scored("a", "spair-pck", 3.0),
        make.scored("b", "spair-pck", 4.0, version=2),
        make.missing("c", "in1k-knn", "skipped", "no cls"),
    ]
    (board,) = build(rows)
    assert titles(board) == ["IN1k-KNN data ab0000", "IN1k-KNN data cd0000", "SPair v1", "SPair v2"]
    assert texts(board) == {
        "a": ["1.0", "not run", "3.0", "not run"],
        "b": ["not run", "2.0", "not run", "4.0"],
        "c": ["no cls", "no cls", "not run", "not run"],
    }
    assert all(board.cell(0, at).best != board.cell(1, at).best for at in range(4))


def test_protocol_of_cost_is_its_own_matter(make: "Make") -> None:
    """One protocol of `cost` beside two of the other benchmarks needs no name in the title."""
    rows = [
        make.scored("a", "in1k-knn", 1.0, protocol="official"),
        make.scored("a", "spair-pck", 1.0),
        make.cost("a", {"params": 5.0}, "CPU"),
    ]
    assert titles(build(rows)[0]) == ["IN1k-KNN@official", "SPair@paper", "params M"]


@pytest.mark.parametrize(
    ("status", "reason", "word"),
    [
        ("skipped", "no cls", "no cls"),
        ("error", None, "failed"),
        ("unavailable", "data", "no data"),
        ("unavailable", "weights", "no weights"),
        ("unavailable", "tokenizer", "no tokenizer"),
        ("unavailable", "licence", "no licence"),
        ("running", None, "running"),
        ("planned", None, "not run"),
    ],
)
def test_missing_score_is_a_word(make: "Make", status: Status, reason: str | None, word: str) -> None:
    """No status prints a number."""
    (board,) = build([make.missing("a", "in1k-knn", status, reason)])
    assert texts(board) == {"a": [word]}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_value_that_is_no_number(make: "Make", value: float | None) -> None:
    """It is shown as missing and is never the best."""
    (board,) = build([make.scored("a", "in1k-knn", value), make.scored("b", "in1k-knn", 1.0)])
    assert texts(board) == {"a": ["no value"], "b": ["1.0"]}
    assert [board.cell(at, 0).best for at in range(2)] == [False, True]


def test_zero_is_a_score(make: "Make") -> None:
    """A measured zero stands as 0.0."""
    assert texts(build([make.scored("a", "in1k-knn", 0.0)])[0]) == {"a": ["0.0"]}


def test_floors_come_last_and_are_never_best(make: "Make") -> None:
    """Untrained weights and raw pixels are shown below, whatever their score."""
    random = make.encoder("r", weights="random", random=True)
    pooled = make.encoder("p", feature="pixels")
    given = [make.scored(who, "in1k-knn", 99.0) for who in (random, pooled, "pixels")]
    (board,) = build([*given, make.scored("a", "in1k-knn", 1.0)])
    assert [(row.label, row.floor) for row in board.rows] == [
        ("a", False),
        ("r, random weights", True),
        ("p", True),
        ("pixels", True),
    ]
    assert [board.cell(at, 0).best for at in range(4)] == [True, False, False, False]


def test_swapped_pictures_are_a_floor_of_the_same_questions(make: "Make") -> None:
    """Shown below what it is the floor of, on the same questions alone; with another change it stays off."""
    swapped = {"pictures": "swapped"}
    rows = [
        make.scored("a", "pope", 80.0),
        make.scored("a", "pope", 90.0, changed=swapped, standard=False),
        make.scored("a", "gqa", 30.0, changed=swapped, standard=False),
        make.scored("a", "pope", 95.0, changed={**swapped, "limit": 5}, standard=False),
    ]
    (board,) = build(rows)
    assert texts(board) == {"a": ["80.0"], "a, pictures swapped": ["90.0"]}
    assert [(row.floor, row.blind) for row in board.rows] == [(False, False), (True, True)]
    assert board.cell(0, 0).best
    assert board.off == ("a: gqa@paper, pictures = swapped", "a: pope@paper, limit = 5, pictures = swapped")


def test_floors_alone_have_no_best(make: "Make") -> None:
    """A board without a ranked row has no winner."""
    (board,) = build([make.scored("pixels", "in1k-knn", 9.0)])
    assert not board.cell(0, 0).best


def test_one_record_that_calls_the_weights_random_is_enough(make: "Make") -> None:
    """Weights are found to be untrained when they are loaded; a record made before that does not rank them."""
    card = make.encoder("a")
    unloaded = make.missing(card, "in1k-zeroshot", "skipped", "no txt")
    (board,) = build([unloaded, make.scored(dataclasses.replace(card, random=True), "in1k-knn", 9.0)])
    assert [(row.label, row.floor) for row in board.rows] == [("a, random weights", True)]


def test_labels_tell_weights_and_features_apart(make: "Make") -> None:
    """A name alone where it is enough, then the digest, then the global feature."""
    cards: list[EncoderCard] = [
        make.encoder("a", weights="one"),
        make.encoder("a", weights="two"),
        make.encoder("b"),
        make.encoder("c", feature="cls"),
        make.encoder("c", feature="attn_pool"),
    ]
    (board,) = build([make.scored(card, "in1k-knn", 1.0) for card in cards])
    assert [row.label for row in board.rows] == [
        "a (6f6e6500)",
        "a (74776f00)",
        "b",
        "c (68756200) (cls)",
        "c (68756200) (attn_pool)",
    ]


def test_ties_are_those_of_the_printed_value(make: "Make") -> None:
    """84.06 and 84.14 both print 84.1, so both are best; 84.04 is not."""
    values = {"a": 84.06, "b": 84.14, "c": 84.04}
    (board,) = build([make.scored(name, "in1k-knn", value) for name, value in values.items()])
    assert [board.cell(at, 0).best for at in range(3)] == [True, True, False]


def test_overlap_needs_both_intervals(make: "Make") -> None:
    """The mark goes to scores whose interval meets the best one's, touching included; never to a floor."""
    rows = [
        make.scored("best", "in1k-knn", 80.0, half=1.0),
        make.scored("near", "in1k-knn", 78.0, half=1.0),
        make.scored("far", "in1k-knn", 77.5, half=1.0),
        make.scored("bare", "in1k-knn", 79.5),
        make.scored("pixels", "in1k-knn", 79.9, half=1.0),
    ]
    (board,) = build(rows)
    assert [board.cell(at, 0).overlaps for at in range(5)] == [False, True, False, False, False]


def test_departures_stay_off(make: "Make") -> None:
    """Changed constants, limited or foreign data and an encoder that moved: named, never ranked."""
    rows = [
        make.scored("a", "in1k-knn", 10.0),
        make.scored("b", "in1k-knn", 99.0, changed={"k": 20, "dtype": "bf16"}),
        make.scored("b", "in1k-knn", 99.0, changed={"limit": 5}, dataset=make.data(limited=True)),
        make.scored("b", "in1k-knn", 99.0, dataset=make.data(limited=True)),
        make.scored("b", "in1k-knn", 99.0, standard=False),
        make.scored("b", "in1k-knn", 99.0, frozen=Frozen("a", "b", ok=False)),
        make.scored("b", "in1k-knn", None, changed={"k": 20}, status="error", metrics=()),
    ]
    (board,) = build(rows)
    assert texts(board) == {"a": ["10.0"]}
    assert board.off == (
        "b: in1k-knn@paper, dtype = bf16, k = 20",
        "b: in1k-knn@paper, limit = 5",
        "b: in1k-knn@paper, limited to train 10 of 40, val 5 of 20",
        "b: in1k-knn@paper, not this protocol's own data (train 40 of 40, val 20 of 20)",
        "b: in1k-knn@paper, the encoder changed while it was scored",
        "b: in1k-knn@paper, k = 20 (failed)",
    )


def test_success_then_the_latest_stands(make: "Make") -> None:
    """Two folders may hold the same result: a later failure hides no score, a later score replaces an earlier one."""
    first = make.scored("a", "in1k-knn", 1.0, created="2026-01-01T00:00:00Z")
    second = make.scored("a", "in1k-knn", 2.0, created="2026-01-02T00:00:00Z")
    failed = dataclasses.replace(make.missing("a", "in1k-knn", "error"), created="2026-01-03T00:00:00Z")
    for given in ([first, second, failed], [failed, second, first]):
        assert texts(build(given)[0]) == {"a": ["2.0"]}


def test_failed_cost_opens_no_column_of_its_own(make: "Make") -> None:
    """It says `failed` under every metric that others have; alone, it has one column."""
    failed = make.missing("b", "cost", "error")
    (board,) = build([make.cost("a", {"params": 5.0, "latency@256": 2.0}, "CPU"), failed])
    assert texts(board) == {"a": ["5.0", "2.0"], "b": ["failed", "failed"]}
    (alone,) = build([failed])
    assert (titles(alone), texts(alone)) == (["cost"], {"b": ["failed"]})


def test_latency_of_an_unnamed_machine_stands_alone(make: "Make") -> None:
    """A record that does not say what it ran on shares no latency column."""
    (board,) = build([make.cost("a", {"latency@256": 1.0}, ""), make.cost("b", {"latency@256": 2.0}, "CPU")])
    assert [column.key.hardware for column in board.columns] == ["CPU", "unnamed hardware"]
    assert texts(board) == {"a": ["not run", "1.0"], "b": ["2.0", "not run"]}
