"""Records survive the trip to disk, and say clearly when they cannot be read."""

import dataclasses
import json
from pathlib import Path

import pytest

from evals.errors import NewerRecordError, ResultsError
from evals.record import (
    SCHEMA_VERSION,
    Artifact,
    DatasetCard,
    EncoderCard,
    Frozen,
    Interval,
    Parameters,
    Record,
    Score,
    Task,
    read_record,
    read_records,
    record_path,
    safe_name,
    write_record,
)

CARD = EncoderCard("timm:vit/x", "timm", "vit_x", "random", "ab" * 32, "MIT", 16, 224, "cls", text=False, random=True)
TASK = Task("in1k-knn", 1, "paper", {"k": (10,), "vote": "majority"})
DATA = DatasetCard("imagenet-1k", None, ("train", "val"), "cd" * 32, {"train": 4, "val": 2}, {"train": 4, "val": 2})


def record() -> Record:
    """A record with every part filled."""
    return Record(
        status="success",
        created="2026-01-01T00:00:00Z",
        encoder=CARD,
        task=TASK,
        standard=True,
        dataset=DATA,
        metrics=(
            Score("top1", 50.0, "percent", True, True, Interval(40.0, 60.0, 0.95, "cluster-bootstrap", 1000, "image")),
        ),
        frozen=Frozen("a", "a", ok=True),
        artifacts=(Artifact("predictions/x.npz", "ef"),),
    )


def test_round_trip(tmp_path: Path) -> None:
    """What was written is what is read (tuples inside params become lists, as JSON has no tuples)."""
    path = tmp_path / "e" / "w" / "in1k-knn@paper.json"
    write_record(path, record())
    read = read_record(path)
    assert read == dataclasses.replace(record(), task=dataclasses.replace(TASK, params={"k": [10], "vote": "majority"}))
    assert read.primary is not None
    assert read.primary.value == 50.0
    assert [found for found, _ in read_records(tmp_path)] == [path]


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file from the future names both numbers and the mend."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(json.loads(record().to_json()) | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(NewerRecordError, match=r"schema 2; this version reads up to 1\. Upgrade"):
        read_record(path)


def test_unknown_keys_of_later_additions_are_ignored(tmp_path: Path) -> None:
    """The schema grows by addition only, so an extra key is no error."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(json.loads(record().to_json()) | {"added_later": 1}))
    assert read_record(path).status == "success"


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"schema_version": 1}', '{"schema_version": "2"}', "null", "[" * 100_000]
)
def test_broken_record_is_named(tmp_path: Path, text: str) -> None:
    """A file that is no record names itself and the mend, and is not taken for one of a later version."""
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=r"a\.json is not a result record .* again replaces it") as caught:
        read_record(path)
    assert not isinstance(caught.value, NewerRecordError)


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("status", "done", "record.status: expected planned or running"),
        ("created", 5, "record.created: expected str, got 5"),
        ("standard", 1, "record.standard: expected bool, got 1"),
        ("environment", [], "record.environment: expected"),
        ("notes", None, "record.notes: expected"),
        ("encoder", {"name": "x"}, "record.encoder: source, model"),
        ("encoder.patch", True, "record.encoder.patch: expected int, got True"),
        ("dataset.n_effective", {"val": "2"}, "record.dataset.n_effective.val: expected int"),
        ("dataset.splits", "train", "record.dataset.splits: expected"),
        ("metrics.0.value", "50", r"record.metrics\[0\].value: expected float, got '50'"),
        ("metrics.0.value", float("nan"), "NaN is no score"),
        ("metrics.0.value", 10**400, "int too large"),
        ("metrics.0.ci.low", None, r"record.metrics\[0\].ci.low: expected float, got None"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(tmp_path: Path, place: str, value: object, named: str) -> None:
    """What no record can hold is found where it is read, not where it is drawn or compared."""
    raw = json.loads(record().to_json())
    *way, last = place.split(".")
    inner = raw
    for key in way:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = value
    path = tmp_path / "a.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(ResultsError, match=named):
        read_record(path)


def test_one_unreadable_record_hides_no_other(tmp_path: Path) -> None:
    """Each file of a folder gives its record, or the reason why it has none."""
    write_record(tmp_path / "e" / "w" / "b@paper.json", record())
    (tmp_path / "e" / "w" / "a@paper.json").write_text("{")
    (_, broken), (_, good) = read_records(tmp_path)
    assert isinstance(broken, ResultsError)
    assert isinstance(good, Record)


def test_not_a_number_cannot_be_written() -> None:
    """NaN is not a score: records refuse it."""
    bad = dataclasses.replace(record(), metrics=(Score("top1", float("nan"), "percent", True),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        bad.to_json()


def test_path_separates_every_departure() -> None:
    """Standard results have the plain name; changed constants and other data get a hash of their own."""
    root = Path("results")
    plain = record_path(root, CARD, TASK, standard=True, dataset=DATA)
    assert plain == root / "timm-vit-x" / ("ab" * 6) / "in1k-knn@paper.json"
    changed = record_path(root, CARD, dataclasses.replace(TASK, params={"k": (20,)}), standard=False, dataset=DATA)
    other = record_path(root, CARD, TASK, standard=False, dataset=dataclasses.replace(DATA, fingerprint="00"))
    assert len({plain, changed, other}) == 3
    assert changed.name.startswith("in1k-knn@paper-")
    assert len(changed.stem) == len("in1k-knn@paper-") + 8


def test_a_very_long_name_is_still_a_folder() -> None:
    """It is cut, and what was cut off still tells two names apart; short names stay as they are."""
    one, other = (safe_name(f"file:/{'folder/' * 60}{end}.pt") for end in "ab")
    assert len(one) < 140
    assert one != other
    assert safe_name("timm:vit_tiny") == "timm-vit_tiny"


def test_the_text_side_goes_to_disk_and_back(tmp_path: Path) -> None:
    """Which tower and tokenizer a zero-shot score is of stands in its record; records without say nothing of it."""
    side = {"tower": "a", "model": "b", "weights_sha256": "c", "tokenizer": None}
    whole = dataclasses.replace(record(), encoder=dataclasses.replace(CARD, text=True, text_side=side))
    path = tmp_path / "a.json"
    write_record(path, whole)
    assert read_record(path).encoder == whole.encoder
    raw = json.loads(path.read_text())
    del raw["encoder"]["text_side"]
    path.write_text(json.dumps(raw))
    assert read_record(path).encoder.text_side == {}


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        ({}, {}, True),
        ({"tower": "a", "tokenizer": "1"}, {"tower": "a", "tokenizer": "1"}, True),
        ({"tower": "a", "tokenizer": "1"}, {"tower": "a", "tokenizer": None}, True),
        ({"tower": "a", "tokenizer": None}, {"tower": "a", "tokenizer": "1"}, False),
        ({"tower": "a", "tokenizer": "1"}, {"tower": "a", "tokenizer": "2"}, False),
        ({"tower": "a", "tokenizer": "1"}, {"tower": "b", "tokenizer": "1"}, False),
        ({}, {"tower": "a"}, False),
    ],
)
def test_text_sides_differ_where_both_are_known(mine: Parameters, theirs: Parameters, same: bool) -> None:
    """What is not on this machine is not said to differ; what an older record does not tell is. Features never do."""
    one, other = (dataclasses.replace(CARD, text=True, text_side=side) for side in (mine, theirs))
    assert one.same_text(other) is same
    assert one.same_features(other)
    assert not one.same_text(dataclasses.replace(other, text=False))
