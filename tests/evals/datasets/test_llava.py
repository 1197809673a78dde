"""The training sets of LLaVA-1.5: records, pictures, what is missing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evals.context import Bar
from evals.datasets import llava
from evals.datasets.llava import Turn, read_talks
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo

EditTalk = Callable[..., Path]


def test_captions(llava_root: Path, digests: DigestMemo) -> None:
    """Records of the alignment stage, in order, with pictures below LLaVA-Pretrain/images."""
    found = read_talks(llava_root, "alignment", digests)
    assert [talk.id for talk in found.talks] == ["000000", "000001", "000002"]
    assert found.talks[1].image == llava_root / "LLaVA-Pretrain" / "images" / "00001" / "1.jpg"
    assert found.talks[1].turns == (Turn("human", "What is shown?\n<image>"), Turn("gpt", "thing 1"))
    assert (found.stage, found.skipped) == ("alignment", ())


def test_captions_in_a_folder_of_their_own(llava_root: Path, digests: DigestMemo) -> None:
    """The folder LLaVA-Pretrain itself is a root too, with the same fingerprint."""
    inner = read_talks(llava_root / "LLaVA-Pretrain", "alignment", digests)
    assert inner == read_talks(llava_root, "alignment", digests)


def test_conversations(llava_root: Path, digests: DigestMemo) -> None:
    """Records of the instruction stage: a missing key `image` means text alone; a picture is one path everywhere."""
    talks = read_talks(llava_root, "instruction", digests).talks
    assert [talk.id for talk in talks] == ["t0", "t1", "wNBG8Gp_0", "t2", "t3"]
    assert [talk.image is None for talk in talks] == [False, False, True, False, False]
    assert talks[2].turns == (Turn("human", "Hello"), Turn("gpt", "Grüß dich"))
    assert [turn.text for turn in talks[0].turns] == ["<image>\nWhat?", "Red", "Why?", "Paint"]
    assert talks[0].image == llava_root / "coco" / "train2017" / "7.jpg"
    assert talks[0].image is talks[4].image


def test_ids_may_be_numbers(llava_root: Path, edit_talk: EditTalk, digests: DigestMemo) -> None:
    """A whole number is taken as its digits."""
    edit_talk(0, id=4711)
    assert read_talks(llava_root, "instruction", digests).talks[0].id == "4711"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"id": None}, "record 1, key id: the key is missing"),
        ({"id": True}, r"record 1 \(id True\), key id: expected text or a whole number, got True"),
        ({"image": 7}, r"record 1 \(id 't1'\), key image: expected text, got 7"),
        ({"image": ""}, "key image: expected a path below"),
        ({"image": "/etc/x.jpg"}, "key image: expected a path below"),
        ({"image": "coco/../../x.jpg"}, "key image: expected a path below"),
        ({"conversations": None}, "key conversations: expected a list of turns"),
        ({"conversations": []}, "key conversations: expected a list of turns"),
        ({"conversations": ["hello"]}, r"key conversations\[0\]: expected an object with from and value, got 'hello'"),
        ({"conversations": [{"value": "a"}]}, r"key conversations\[0\].from: expected human or gpt, got None"),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "bot", "value": "a"}]},
            r"key conversations\[1\].from: expected human or gpt, got 'bot'",
        ),
        ({"conversations": [{"from": ["human"], "value": "a"}]}, r"\[0\].from: expected human or gpt"),
        ({"conversations": [{"from": "gpt"}]}, r"key conversations\[0\].value: the key is missing"),
        ({"conversations": [{"from": "gpt", "value": None}]}, r"\[0\].value: expected text, got None"),
        ({"conversations": [{"from": "gpt", "value": "\ud800"}]}, r"\[0\].value: the text has half a character"),
    ],
)
def test_records_of_another_form_are_named(
    llava_root: Path, edit_talk: EditTalk, digests: DigestMemo, changes: dict[str, Any], what: str
) -> None:
    """One error with the file, the record, its id and the key."""
    path = edit_talk(1, **changes)
    with pytest.raises(DataError, match=what) as caught:
        read_talks(llava_root, "instruction", digests)
    assert str(caught.value).startswith(f"{path}, record 1")


def test_captions_must_have_pictures(llava_root: Path, edit_talk: EditTalk, digests: DigestMemo) -> None:
    """The alignment stage has no text alone."""
    edit_talk(2, "LLaVA-Pretrain/blip_laion_cc_sbu_558k.json", image=None)
    with pytest.raises(DataError, match=r"record 2 \(id '000002'\), key image: the key is missing"):
        read_talks(llava_root, "alignment", digests)


@pytest.mark.parametrize("stage", llava.STAGES)
def test_a_stage_that_is_not_there(tmp_path: Path, digests: DigestMemo, stage: llava.Stage) -> None:
    """The error shows the expected tree and where to obtain it."""
    with pytest.raises(UnavailableError, match=llava.FILES[stage]) as caught:
        read_talks(tmp_path, stage, digests)
    assert "liuhaotian/LLaVA-Pretrain" in str(caught.value)


def test_all_missing_and_unreadable_pictures_are_told_at_once(llava_root: Path, digests: DigestMemo) -> None:
    """One error counts records and pictures and lists the first; a folder may be missing too."""
    (llava_root / "gqa" / "images" / "7.jpg").unlink()
    (llava_root / "gqa" / "images").rmdir()
    (llava_root / "coco" / "train2017" / "7.jpg").unlink()
    (llava_root / "ocr_vqa" / "images" / "7.jpg").write_bytes(b"<html>gone</html>")
    with pytest.raises(DataError) as caught:
        read_talks(llava_root, "instruction", digests)
    text = str(caught.value)
    assert "4 of 5 records cannot be used" in text
    assert f"2 pictures are missing, the first: {llava_root}/coco/train2017/7.jpg, {llava_root}/gqa" in text
    assert f"1 pictures cannot be decoded, the first: {llava_root}/ocr_vqa/images/7.jpg" in text
    assert "on_missing" in text


def test_only_the_first_missing_pictures_are_listed(
    llava_root: Path, digests: DigestMemo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count is of all."""
    for path in (llava_root / "LLaVA-Pretrain" / "images").rglob("*.jpg"):
        path.unlink()
    monkeypatch.setattr(llava, "FEW", 2)
    with pytest.raises(DataError, match="3 pictures are missing") as caught:
        read_talks(llava_root, "alignment", digests)
    assert str(caught.value).count(".jpg") == 2


def test_records_may_be_skipped(llava_root: Path, digests: DigestMemo) -> None:
    """Opt-in: the ids of left-out records are kept, and the fingerprint is another one."""
    whole = read_talks(llava_root, "instruction", digests)
    (llava_root / "coco" / "train2017" / "7.jpg").unlink()
    (llava_root / "gqa" / "images" / "7.jpg").write_bytes(b"")
    left = read_talks(llava_root, "instruction", digests, on_missing="skip")
    assert left.skipped == ("t0", "t1", "t3")
    assert [talk.id for talk in left.talks] == ["wNBG8Gp_0", "t2"]
    assert left.fingerprint != whole.fingerprint


def test_nothing_left_is_an_error_even_when_skipping(llava_root: Path, digests: DigestMemo) -> None:
    """A training on nothing never starts."""
    for path in (llava_root / "LLaVA-Pretrain" / "images").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match="3 of 3 records cannot be used"):
        read_talks(llava_root, "alignment", digests, on_missing="skip")


def test_what_the_extension_says_does_not_matter(llava_root: Path, digests: DigestMemo) -> None:
    """OCR-VQA has GIF files under names of JPEG files."""
    from PIL import Image

    Image.new("P", (3, 3)).save(llava_root / "ocr_vqa" / "images" / "7.jpg", format="GIF")
    assert read_talks(llava_root, "instruction", digests).skipped == ()


def test_several_processes_find_the_same(llava_root: Path, digests: DigestMemo) -> None:
    """Worker processes decode headers; the result does not depend on them."""
    (llava_root / "gqa" / "images" / "7.jpg").write_bytes(b"no picture")
    found = [read_talks(llava_root, "instruction", digests, on_missing="skip", workers=n) for n in (0, 2)]
    assert found[0] == found[1]
    assert found[0].skipped == ("t1",)


def test_the_bar_counts_every_picture_once(llava_root: Path, digests: DigestMemo) -> None:
    """Three pictures serve four records."""
    told: list[int] = []

    class Counter:
        def update(self, n: int = 1) -> None:
            told[-1] += n

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Bar]:
        told.extend([total, 0])
        yield Counter()

    read_talks(llava_root, "instruction", digests, bar=bar)
    assert told == [3, 3]


def test_fingerprints_follow_contents(
    llava_root: Path, edit_talk: EditTalk, picture: Callable[..., Path], tmp_path: Path
) -> None:
    """A changed text and a changed picture give another fingerprint, another place of the same files does not."""
    first = read_talks(llava_root, "instruction", DigestMemo(None)).fingerprint
    moved = llava_root.rename(tmp_path / "elsewhere")
    assert read_talks(moved, "instruction", DigestMemo(None)).fingerprint == first
    moved.rename(llava_root)
    edit_talk(0, conversations=[{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "Blue"}])
    second = read_talks(llava_root, "instruction", DigestMemo(None)).fingerprint
    picture(llava_root / "gqa" / "images" / "7.jpg")
    third = read_talks(llava_root, "instruction", DigestMemo(None)).fingerprint
    assert len({first, second, third}) == 3


def test_counts_of_the_facts_agree() -> None:
    """The mix adds up to the published number of records, 624,610 of them with a picture."""
    assert sum(llava.PUBLISHED_MIX.values()) == llava.PUBLISHED["instruction"] == 665_298
    assert llava.PUBLISHED["instruction"] - llava.PUBLISHED_MIX[llava.TEXT_ALONE] == 624_610
