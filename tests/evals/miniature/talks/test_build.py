"""The world on disk: LLaVA's two files, the six sets as their readers see them, and nothing of it in other sizes."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from evals.datasets.llava import read_talks
from evals.datasets.vlm import gqa as gqa_reader
from evals.datasets.vlm import mme as mme_reader
from evals.datasets.vlm import pope as pope_reader
from evals.datasets.vlm import realworldqa as realworldqa_reader
from evals.datasets.vlm import sqa as sqa_reader
from evals.datasets.vlm import textvqa as textvqa_reader
from evals.files import DigestMemo
from evals.miniature import world
from evals.miniature.talks import build, gqa, mme, pope, realworldqa, scienceqa, textvqa
from evals.miniature.talks.phrases import SHORT
from evals.miniature.talks.sights import sight_of

Records = list[dict[str, Any]]


def rows(root: Path, name: str) -> Records:
    """The rows of a table."""
    found: Records = pq.read_table(root / name).to_pylist()
    return found


def test_identity_and_wholeness(tiny_talks: Path) -> None:
    """The card counts the pictures; without any one file the world is not whole."""
    identity = world.read_identity(tiny_talks)
    assert identity is not None
    assert identity.counts == {"talks": 53}
    assert world.is_whole(tiny_talks)
    lost = (
        *(build.FILES[0], build.FILES[-1], world.SCENES, "talks/pictures/room/000001.jpg"),
        *("llava/gqa/images/000000000004.jpg", "llava/LLaVA-Pretrain/images/00000/000000004.jpg"),
    )
    for name in lost:
        path = tiny_talks / name
        content = path.read_bytes()
        path.unlink()
        assert not world.is_whole(tiny_talks), name
        path.write_bytes(content)
    assert world.is_whole(tiny_talks)


def test_same_bytes_again_and_others_under_another_seed(tiny_talks: Path, tmp_path: Path) -> None:
    """The fingerprint follows from the seed, for any number of workers."""
    again, other = (world.make(tmp_path / str(s), size="talks-tiny", seed=s, workers=2 - s) for s in (0, 1))
    cards = [world.read_identity(root) for root in (tiny_talks, again, other)]
    prints = [card.fingerprint for card in cards if card is not None]
    assert prints[0] == prints[1] != prints[2]


def test_other_sizes_have_nothing_of_it(tiny_world: Path) -> None:
    """Neither files nor a count."""
    identity = world.read_identity(tiny_world)
    assert identity is not None and "talks" not in identity.counts
    assert not (tiny_world / "talks").exists() and not (tiny_world / "llava").exists()


def test_both_stages_are_read(tiny_talks: Path, tmp_path: Path) -> None:
    """The reader of LLaVA's files takes them; every training picture is in both stages."""
    digests = DigestMemo(tmp_path / "digests.json")
    first, second = (read_talks(tiny_talks / "llava", stage, digests) for stage in ("alignment", "instruction"))
    assert len(first.talks) == 3 * 25 and not first.skipped and not second.skipped
    names = [{talk.image.stem.lstrip("0") for talk in stage.talks if talk.image} for stage in (first, second)]
    assert names[0] == names[1] and len(names[0]) == 25
    alone = [talk for talk in second.talks if talk.image is None]
    assert len(alone) == 3
    for talk in first.talks:
        assert [turn.speaker for turn in talk.turns] == ["human", "gpt"]
        assert "\n" not in talk.turns[1].text
    shorts = [turn.text for talk in second.talks for turn in talk.turns if turn.text.endswith(SHORT)]
    assert len(shorts) > len(second.talks) / 2


def test_turns(tiny_talks: Path) -> None:
    """Records are as LLaVA's: one marker, in the first question, or no picture and an empty model; turns alternate."""
    records = json.loads((tiny_talks / "llava" / "llava_v1_5_mix665k.json").read_text())
    for record in records:
        said = record["conversations"]
        assert [turn["from"] for turn in said] == ["human", "gpt"] * (len(said) // 2)
        marks = [turn["value"].count("<image>") for turn in said]
        assert sum(marks) == marks[0] == ("image" in record)
        assert record.get("model", "") == "" and ("model" in record) != ("image" in record)
        assert all(turn["value"].strip() for turn in said)
    folders = {record["image"].split("/")[0] for record in records if "image" in record}
    assert folders == {"coco", "gqa", "vg", "textvqa", "ocr_vqa"}
    assert max(len(record["conversations"]) for record in records) >= 12


READERS = {
    "textvqa": (textvqa_reader, textvqa.FILE),
    "scienceqa": (sqa_reader, scienceqa.FILE),
    "realworldqa": (realworldqa_reader, realworldqa.FILE),
    "pope": (pope_reader, pope.FILE),
    "gqa": (gqa_reader, gqa.FILES[0]),
    "mme": (mme_reader, mme.FILE),
}


@pytest.mark.parametrize("name", READERS)
def test_the_readers_of_the_sets_take_them(name: str, tiny_talks: Path, tmp_path: Path) -> None:
    """Every row is read, with the picture that is its own."""
    reader, file = READERS[name]
    split = reader.load(tiny_talks / "vlm", DigestMemo(tmp_path / "digests.json"))
    written = rows(tiny_talks, file)
    assert len(split) == len(written) > 3
    for number, row in enumerate(written):
        assert split[number].row["question"] == row["question"]
        assert split[number].picture[:3] == b"\xff\xd8\xff"
        if "image" in row:
            assert split[number].picture == row["image"]["bytes"]


def test_textvqa_rows(tiny_talks: Path, records: Records) -> None:
    """The word that most people read is on a sign of that picture; ten answers."""
    for row in rows(tiny_talks, textvqa.FILE):
        assert len(row["answers"]) == 10
        word, times = Counter(row["answers"]).most_common(1)[0]
        assert times >= 7
        shown = next(r for r in records if (tiny_talks / r["image"]).read_bytes() == row["image"]["bytes"])
        assert word.upper() in {seen["text"] for seen in shown["objects"]}


def test_scienceqa_rows(tiny_talks: Path) -> None:
    """Choices differ from each other, the answer is one of them."""
    for row in rows(tiny_talks, scienceqa.FILE):
        assert len(set(row["choices"])) == len(row["choices"]) >= 2
        assert row["choices"][row["answer"]] in row["solution"]


def test_realworldqa_rows(tiny_talks: Path) -> None:
    """The text ends with how to answer, and the answer is of that form."""
    for row in rows(tiny_talks, realworldqa.FILE):
        letter = "letter of the correct option" in row["question"].splitlines()[-1]
        assert letter == ("\nA. " in row["question"]) == (row["answer"] in "ABCD")
        assert letter or row["answer"] in ("Yes", "No") or row["answer"].isdigit()


def test_pope_rows(tiny_talks: Path, records: Records) -> None:
    """Yes is clearly there, no is not at all; both equally often in each category; what is frequent is asked for."""
    found = rows(tiny_talks, pope.FILE)
    sights = {(tiny_talks / r["image"]).read_bytes(): sight_of(r) for r in records}
    known = pope.statistics(sights.values())
    names = {f"Is there {pope.a(pope.said(label))} in the image?": label for label in pope.LABELS}
    for row in found:
        sight, label = sights[row["image"]["bytes"]], names[row["question"]]
        assert sight.present(label) if row["answer"] == "yes" else sight.absent(label)
        if row["answer"] == "no" and row["category"] == "popular":
            assert label in known.popular()[:9]
    counts = Counter((row["category"], row["answer"]) for row in found)
    for category in pope.CATEGORIES:
        assert counts[category, "yes"] == counts[category, "no"] > 0
        own = rows(tiny_talks, pope.FULL.format(category=category))
        assert own == [row for row in found if row["category"] == category]


def test_statistics_by_hand(records: Records) -> None:
    """Two pictures: what is in both leads, what is beside a thing is counted with it."""
    one, two = (sight_of({**records[0], "objects": []}) for _ in range(2))
    mug, car = (
        next(item for r in records for item in sight_of(r).items if item.label == label and item.clear)
        for label in ("mug", "car")
    )
    both = type(one)("room", (mug, car))
    only = type(two)("room", (mug,))
    known = pope.statistics([both, only])
    assert (known.single["mug"], known.single["car"], known.pairs["mug", "car"]) == (2, 1, 1)
    assert known.popular()[:2] == ["mug", "car"]
    assert known.beside(["mug"])[0] == "car"


def test_gqa_rows(tiny_talks: Path) -> None:
    """The picture of every question is in the other table, once; full answers hold the answers."""
    questions, pictures = (rows(tiny_talks, name) for name in gqa.FILES)
    assert sorted({row["imageId"] for row in questions}) == sorted(row["id"] for row in pictures)
    assert len({row["id"] for row in questions}) == len(questions)
    assert {row["types"]["structural"] for row in questions} >= {"query", "verify", "choose"}


def test_mme_rows(tiny_talks: Path) -> None:
    """Each picture of a subtask has one question for yes and one for no; official names; a cognition subtask too."""
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows(tiny_talks, mme.FILE):
        assert row["question"].endswith("? Please answer yes or no.")
        pairs[row["category"], row["question_id"]].append(row["answer"])
    assert all(sorted(answers) == ["No", "Yes"] for answers in pairs.values())
    categories = {category for category, _ in pairs}
    assert {"existence", "count", "position", "color", "scene"} <= categories
    assert categories & set(mme.COGNITION)
    assert set(mme.PERCEPTION) <= set(mme_reader.PUBLISHED_PERCEPTION)
    assert set(mme.COGNITION) <= set(mme_reader.PUBLISHED_COGNITION)
