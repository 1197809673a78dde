"""What is printed, against tables written by hand."""

import dataclasses
import io
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from evals.record import Interval, Record, Score
from leaderboard.render import csv, markdown
from leaderboard.table import build

if TYPE_CHECKING:
    from conftest import Make

BOARD = """\
## Real data, protocol paper

|                       |          image |          |    dense |            |                |
|:----------------------|---------------:|---------:|---------:|-----------:|---------------:|
| encoder               |       IN1k-KNN |  IN1k-ZS |   ADE20k |    NYUv2 ↓ |          SPair |
| a                     | **84.1** ± 0.3 |   no txt | **52.4** |      0.391 |    50.3 ± 1.5† |
| b                     |     83.0 ± 0.3 |   failed | **52.4** |  **0.373** | **51.9** ± 1.0 |
| c                     |         no cls | **78.2** |  no data | no weights |        not run |
| *floors (not ranked)* |                |          |          |            |                |
| pixels                |           99.0 |  not run |  not run |    not run |        not run |
| a, random weights     |            1.5 |  not run |  not run |      0.100 |        not run |

Bold: best of the ranked rows. ↓: lower is better. ±: half the width of the 95 % confidence interval. \
†: its 95 % interval overlaps that of the best, so the two are not separated.

- IN1k-KNN: in1k-knn@paper version 1; top1 in percent; toy (train 40, val 20), fingerprint ab0000000000
- IN1k-ZS: in1k-zeroshot@paper version 1; top1 in percent; toy (train 40, val 20), fingerprint ab0000000000
- ADE20k: ade20k-linear@paper version 1; miou in percent; toy (train 40, val 20), fingerprint ab0000000000
- NYUv2: nyuv2-linear@paper version 1; rmse in m; toy (train 40, val 20), fingerprint ab0000000000
- SPair: spair-pck@paper version 1; pck in percent; toy (train 40, val 20), fingerprint ab0000000000

| encoder           | global feature | weights | digest       | licence |
|:------------------|:---------------|:--------|:-------------|:--------|
| a                 | cls            | hub     | 687562000000 | MIT     |
| b                 | attn_pool      | hub     | 687562000000 | MIT     |
| c                 | none           | hub     | 687562000000 | MIT     |
| pixels            | pixels         | none    | 6e6f6e650000 | MIT     |
| a, random weights | cls            | random  | 72616e646f6d | MIT     |

Not in the table (not standard):

- a: in1k-knn@paper, k = [20], model = vicuna-7b
- b: in1k-knn@paper, limited to train 10 of 40, val 5 of 20
"""


def records(make: "Make") -> list[Record]:
    """Everything a board can hold."""
    b, c = make.encoder("b", feature="attn_pool"), make.encoder("c", feature="none")
    pixels = make.encoder("pixels", weights="none", feature="pixels")
    random = make.encoder("a", weights="random", random=True)
    return [
        make.scored(pixels, "in1k-knn", 99.0),
        make.scored("a", "in1k-knn", 84.14, half=0.31),
        make.missing("a", "in1k-zeroshot", "skipped", "no txt"),
        make.scored("a", "ade20k-linear", 52.36),
        make.scored("a", "nyuv2-linear", 0.391),
        make.scored("a", "spair-pck", 50.3, half=1.5),
        make.scored(random, "in1k-knn", 1.5),
        make.scored(random, "nyuv2-linear", 0.1),
        make.scored(b, "in1k-knn", 83.0, half=0.29),
        make.missing(b, "in1k-zeroshot", "error"),
        make.scored(b, "ade20k-linear", 52.44),
        make.scored(b, "nyuv2-linear", 0.373),
        make.scored(b, "spair-pck", 51.9, half=1.0),
        make.missing(c, "in1k-knn", "skipped", "no cls"),
        make.scored(c, "in1k-zeroshot", 78.2),
        make.missing(c, "ade20k-linear", "unavailable", "data"),
        make.missing(c, "nyuv2-linear", "unavailable", "weights", dataset=make.data()),
        make.scored("a", "in1k-knn", 99.9, changed={"k": [20], "model": "/somewhere/vicuna-7b"}),
        make.scored(b, "in1k-knn", 99.9, dataset=make.data(limited=True), standard=False),
    ]


def table_lines(text: str) -> list[str]:
    """The lines of the first table, single-spaced."""
    return [" ".join(line.split()) for line in text.split("\n\n")[1].splitlines()]


def test_whole_board(make: "Make") -> None:
    """Bold with ties, both directions, every word for a missing score, floors, intervals, notes: the whole text."""
    assert markdown(build(records(make))) == BOARD


def test_no_records() -> None:
    """Without results the user reads how to get some."""
    assert markdown(build([])) == (
        "No results yet. To score an encoder without any data: "
        "eupe-eval run --encoder eupe-vit-t --suite quick --data miniature\n"
    )


def test_nothing_standard(make: "Make") -> None:
    """A board of departures alone has no table, and says which they are."""
    record = make.scored("a", "in1k-knn", 9.0, dataset=make.data(world="w2"), protocol="miniature", standard=False)
    assert markdown(build([record])) == (
        "## Embedded world w2\n\nNo standard result yet: nothing here may stand in a table.\n\n"
        "Not in the table (not standard):\n\n"
        "- a: in1k-knn@miniature, not this protocol's own data (embedded world w2)\n"
    )


def test_two_protocols_are_two_columns(make: "Make") -> None:
    """Scores of two protocols never meet, not even for the best."""
    rows = [
        make.scored("a", "in1k-knn", 84.0, protocol="official"),
        make.scored("a", "in1k-knn", 80.0),
        make.scored("b", "in1k-knn", 83.0),
    ]
    assert table_lines(markdown(build(rows)))[2:] == [
        "| encoder | IN1k-KNN@official | IN1k-KNN@paper |",
        "| a | **84.0** | 80.0 |",
        "| b | not run | **83.0** |",
    ]


def test_latency_names_its_machine(make: "Make") -> None:
    """Latencies of two machines are two columns; counts do not depend on the machine."""
    one = {"gflops@256": 17.62, "params": 85.66, "latency@256": 35.0}
    rows = [make.cost("a", one, "CPU, 2 threads"), make.cost("b", {**one, "latency@256": 3.04}, "GPU")]
    text = markdown(build(rows))
    assert table_lines(text) == [
        "| | cost | | | |",
        "|:--------|-----------:|-------------:|------------------:|------------------:|",
        "| encoder | params M ↓ | GFLOPs@256 ↓ | latency@256 ms ↓¹ | latency@256 ms ↓² |",
        "| a | **85.7** | **17.6** | **35.0** | not run |",
        "| b | **85.7** | **17.6** | not run | **3.0** |",
    ]
    assert "\n¹ measured on CPU, 2 threads; ² measured on GPU\n" in text
    assert "\n- params M, GFLOPs@256, latency@256 ms: cost@paper version 1\n" in text


def test_interval_is_never_printed_as_nothing(make: "Make") -> None:
    """A narrow interval prints one unit of the last decimal; one without width prints zero."""
    narrow, none = make.scored("a", "nyuv2-linear", 0.5, half=0.0001), make.scored("b", "nyuv2-linear", 0.6, half=0.0)
    lines = table_lines(markdown(build([narrow, none])))
    assert lines[3:] == ["| a | **0.500** ± 0.001 |", "| b | 0.600 ± 0.000 |"]


def test_bar_in_a_name_keeps_the_table_whole(make: "Make") -> None:
    """A vertical bar is escaped, so that every line has the same cells."""
    assert table_lines(markdown(build([make.scored("a|b", "in1k-knn", 1.0)])))[3] == r"| a\|b | **1.0** |"


def test_csv_has_one_line_a_record(make: "Make") -> None:
    """Every record, the departures too, with its primary metric and empty fields where there is nothing."""
    costs = make.cost("b", {"gflops@256": 17.5, "params": 85.5}, "GPU")
    given = [*records(make), costs]
    frame = pd.read_csv(io.StringIO(csv(given)), keep_default_na=False, dtype=str)
    assert len(frame) == len(given)
    first = frame.iloc[1]
    assert (first["encoder"], first["benchmark"], first["value"], first["top1"]) == ("a", "in1k-knn", "84.14", "84.14")
    assert (float(first["low"]), float(first["high"])) == pytest.approx((83.83, 84.45))
    assert frame["value"][2] == ""
    assert frame["reason"][2] == "no txt"
    assert frame["changed"][17] == "k=[20]; model=vicuna-7b"
    assert list(frame["standard"][-4:]) == ["True", "False", "False", "True"]
    assert frame["limited"][18] == "True"
    assert tuple(frame.iloc[-1][["metric", "value", "params", "hardware"]]) == ("gflops@256", "17.5", "85.5", "GPU")


def test_csv_of_nothing_has_the_header() -> None:
    """Programs that read it find the columns."""
    assert csv([]).startswith("encoder,source,model,weights,")
    assert csv([]).count("\n") == 1


def test_levels_are_those_of_the_records(make: "Make") -> None:
    """The key names the level that the intervals have."""
    record = make.scored("a", "in1k-knn", 50.0)
    wide = Score("top1", 50.0, "percent", True, True, Interval(40.0, 60.0, 0.9, "cluster-bootstrap", 100, "image"))
    assert "±: half the width of the 90 % confidence interval." in markdown(
        build([dataclasses.replace(record, metrics=(wide,))])
    )
