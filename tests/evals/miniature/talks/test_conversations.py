"""Conversations about pictures."""

from collections import Counter
from pathlib import Path

import numpy as np

from evals.miniature.sizes import Talks
from evals.miniature.talks.asking import Ask
from evals.miniature.talks.conversations import about, alignment, alone, pick
from evals.miniature.talks.phrases import SHORT
from evals.miniature.talks.shelf import Stock


def test_yes_is_as_frequent_as_no() -> None:
    """Where a sight has many more of one, both are drawn equally often, the first and the others."""
    rng = np.random.default_rng(0)
    asks = [Ask("exists", f"q{k}", "no" if k else "yes", "", ("yes", "no")) for k in range(20)]
    counts = Counter(ask.answer for _ in range(400) for ask in pick(asks, 1, rng))
    assert 0.4 < counts["yes"] / (counts["yes"] + counts["no"]) < 0.6
    for _ in range(20):
        answers = Counter(ask.answer for ask in pick(asks, 4, rng))
        assert answers["yes"] == 1 and answers["no"] in (1, 2)


def test_groups_take_turns() -> None:
    """One question of each kind comes before a second of any."""
    rng = np.random.default_rng(0)
    asks = [Ask(kind, f"{kind}{k}", "red", "") for kind in ("colour", "pattern", "sign") for k in range(5)]
    assert Counter(ask.kind for ask in pick(asks, 3, rng)) == {"colour": 1, "pattern": 1, "sign": 1}
    assert len(pick(asks, 8, rng)) == 8


def test_records(told: tuple[Path, list[Stock]]) -> None:
    """Short questions first, then another form, then reading where there is something to read."""
    rng = np.random.default_rng(0)
    for stock in told[1][:40]:
        records = about(stock, "gqa/images/000000000007.jpg", rng)
        reads = any(item.text for item in stock.sight.items)
        assert len(records) == 2 + reads
        assert {record["id"] for record in records} == {"000000000007"}
        first = records[0]["conversations"]
        assert first[0]["value"].startswith("<image>\n") and first[0]["value"].endswith(SHORT)
        assert all("<image>" not in turn["value"] for turn in first[1:])
        if reads:
            assert "Reference OCR token: " in records[2]["conversations"][0]["value"]


def test_alignment_and_text_alone(told: tuple[Path, list[Stock]]) -> None:
    """As many of each kind as wanted, the marker first or last; none where there is no picture."""
    rng, counts = np.random.default_rng(0), Talks(captions=1, maps=2, lists=1, looks=1)
    records = [record for stock in told[1][:20] for record in alignment(stock, "00000/000000007.jpg", counts, rng)]
    assert len(records) == 100
    asked = [record["conversations"][0]["value"] for record in records]
    assert all(text.startswith("<image>\n") or text.endswith("\n<image>") for text in asked)
    assert len({text.startswith("<image>") for text in asked}) == 2
    for number in range(6):
        record = alone(number, rng)
        assert record["model"] == "" and "image" not in record
        assert "<image>" not in str(record)
