"""The check of the vision-language sets: counts, mix, joins, pictures."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from huggingface_hub import constants

from evals.context import Roots
from evals.datasets import examine_vlm, llava
from evals.datasets.check import Finding, check
from evals.datasets.vlm import files, gqa, mme, pope, realworldqa, sqa, textvqa
from evals.errors import UnavailableError, UsageError
from tests.evals.datasets.vlm.rows import mme_rows, pope_rows, realworldqa_rows, sqa_rows, table, write_parquet


def _found(findings: tuple[Finding, ...], what: str) -> Finding:
    """The only finding that says `what`."""
    hits = [finding for finding in findings if what in finding.what]
    assert len(hits) == 1, [finding.what for finding in findings]
    assert hits[0].effect
    assert hits[0].mend
    return hits[0]


def _errors(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.what for finding in findings if finding.severity != "ok"]


@pytest.fixture
def world(llava_root: Path, vlm_root: Path) -> Roots:
    """Both sets as an embedded world would be given, so that published counts do not apply."""
    return Roots({"llava": llava_root, "vlm": vlm_root}, world="talks")


@pytest.fixture
def real(world: Roots) -> Roots:
    """The same files, said to be the published sets."""
    return Roots(world.folders)


def test_sound_sets_are_ok(world: Roots) -> None:
    """A line for each stage and each question set says what was found and read."""
    findings = check(world, ["llava", "vlm"])
    assert [(finding.dataset, finding.severity) for finding in findings] == [("llava", "ok")] * 2 + [("vlm", "ok")] * 6
    assert [finding.what for finding in findings] == [
        "3 records, 0 of them text alone, with 3 pictures; every pixel read",
        "5 records, 1 of them text alone, with 3 pictures; every pixel read",
        "5 questions with 5 pictures; every pixel read",
        "3 questions with 3 pictures; every pixel read",
        "3 questions with 3 pictures; every pixel read",
        "12 questions with 12 pictures; every pixel read",
        "5 questions with 2 pictures; every pixel read",
        "12 questions with 12 pictures; every pixel read",
    ]


def test_worlds_have_them_or_not(world: Roots) -> None:
    """A world is asked for the sets that it was rendered with; without its counts, for the four sets of images."""
    others = {"imagenet", "ade20k", "nyu", "SPair-71k"}
    assert {finding.dataset for finding in check(Roots({}, world="tiny"))} == {"data", *others}
    assert [finding.severity for finding in check(world, world_counts={"talks": 5})] == ["ok"] * 8
    shutil.rmtree(world.folders["vlm"])
    for roots in (world, Roots({"llava": world.folders["llava"]}, world="talks")):
        told = [finding for finding in check(roots, world_counts={"talks": 5}) if finding.severity != "ok"]
        assert [(finding.dataset, finding.severity) for finding in told] == [("vlm", "error")]


def test_real_data_are_told_what_is_not_there(llava_root: Path) -> None:
    """A set that nobody named and that is not configured is a warning."""
    warned = [finding for finding in check(Roots({"llava": llava_root})) if finding.dataset == "vlm"]
    assert [(finding.severity, finding.what) for finding in warned] == [
        ("warning", "no folder is configured for 'vlm'")
    ]


def test_real_data_have_published_counts(real: Roots) -> None:
    """Small folders, said to be the published sets, differ in every count."""
    findings = check(real, ["llava", "vlm"], decode=False)
    assert "other data than the published" in _found(findings, "3 records, published are 558,128").effect
    assert _found(findings, "5 records, published are 665,298").where.endswith("llava_v1_5_mix665k.json")
    mix = _found(findings, "the mix of records is not the published one").what
    assert "coco: 2 in place of 364,100; gqa: 1 in place of 72,140; ocr_vqa: 1 in place of 80,000" in mix
    assert "text alone: 1 in place of 40,688; textvqa: 0 in place of 21,953; vg: 0 in place of 86,417)" in mix
    assert _found(findings, "5 questions, published are 5,000").where.endswith("textvqa/data")
    assert _found(findings, "3 questions, published are 2,017").where.endswith("ScienceQA-IMG")
    assert _found(findings, "3 questions, published are 765")
    assert _found(findings, "4 questions of random, published are 3,000")
    assert _found(findings, "5 questions, published are 12,578")
    assert _found(findings, "2 pictures with questions, published are 398")
    assert _found(findings, "12 questions, published are 2,374")
    subtasks = _found(findings, "the mix of subtasks is not the published one")
    assert "OCR: 4 in place of 40; artwork: 0 in place of 400;" in subtasks.what
    assert "not comparable" in subtasks.effect
    assert not [finding for finding in findings if finding.severity == "ok"]


def test_sets_of_the_published_counts_are_ok(real: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the counts are as published, nothing is found."""
    mix = {"coco": 2, "gqa": 1, "ocr_vqa": 1, llava.TEXT_ALONE: 1}
    monkeypatch.setattr(llava, "PUBLISHED", {"alignment": 3, "instruction": 5})
    monkeypatch.setattr(llava, "PUBLISHED_MIX", mix)
    for module, count in ((textvqa, 5), (sqa, 3), (realworldqa, 3), (gqa, 5), (mme, 12)):
        monkeypatch.setitem(module.PUBLISHED, module.SPLIT, count)
    monkeypatch.setattr(gqa, "PUBLISHED_PICTURES", 2)
    monkeypatch.setattr(pope, "PUBLISHED_CATEGORY", 4)
    monkeypatch.setattr(mme, "PUBLISHED_PERCEPTION", {"existence": 4, "OCR": 4})
    monkeypatch.setattr(mme, "PUBLISHED_COGNITION", {"code_reasoning": 4})
    assert _errors(check(real, ["llava", "vlm"])) == []
    monkeypatch.setattr(llava, "PUBLISHED_MIX", {name: n for name, n in mix.items() if name != "gqa"})
    assert _errors(check(real, ["llava"])) == ["the mix of records is not the published one (gqa: 1 in place of 0)"]


def test_the_first_random_split_of_pope_is_a_warning(real: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its 2,910 questions are known; any other number is an error."""
    folder = real.folders["vlm"] / "POPE" / "data"
    monkeypatch.setattr(pope, "PUBLISHED_CATEGORY", 4)
    monkeypatch.setattr(pope, "OLD_RANDOM", 3)
    for left, severity in ((3, "warning"), (2, "error")):
        shutil.rmtree(folder)
        write_parquet(folder, "test", pope_rows()[: 8 + left])
        finding = _found(check(real, ["vlm"], decode=False), f"{left} questions of random")
        assert finding.severity == severity
    assert pope.OLD_RANDOM == 3


def test_missing_and_damaged_pictures_are_all_findings(world: Roots) -> None:
    """Each with its path, and with what it does to the training."""
    root = world.folders["llava"]
    (root / "gqa" / "images" / "7.jpg").unlink()
    broken = root / "LLaVA-Pretrain" / "images" / "00001" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    findings = check(world, ["llava"])
    lost = _found(findings, "the picture is not there")
    assert lost.where == str(root / "gqa" / "images" / "7.jpg")
    assert "unless it is told to skip" in lost.effect
    assert _found(findings, "cannot be decoded").where == str(broken)
    assert _errors(check(world, ["llava"], decode=False)) == ["the picture is not there"]


def test_all_records_of_another_form_are_findings(world: Roots, edit_talk: Callable[..., Path]) -> None:
    """A check does not stop at the first."""
    edit_talk(0, conversations=[])
    path = edit_talk(3, id=None)
    findings = check(world, ["llava"])
    assert [finding.where for finding in findings if finding.severity == "error"] == [
        f"{path}, record 0 (id 't0'), key conversations", f"{path}, record 3, key id",
    ]  # fmt: skip
    path.write_text(json.dumps([]))
    assert _found(check(world, ["llava"]), "holds no sound record").severity == "error"
    path.unlink()
    assert "liuhaotian" in _found(check(world, ["llava"]), "is not there, though its data folder is").mend


def test_all_problems_of_tables_are_findings(world: Roots) -> None:
    """Wrong fields, pairs that are none and pictures that cannot be decoded, each with file and row."""
    root = world.folders["vlm"]
    rows = realworldqa_rows(4)
    rows[0]["image"]["bytes"] = rows[0]["image"]["bytes"][:60]
    rows[1]["answer"] = ""
    rows[2]["image"]["bytes"] = b""
    rows[3]["image"] = None
    shutil.rmtree(root / "RealWorldQA")
    write_parquet(root / "RealWorldQA", "test", rows)
    write_parquet(root / "MME" / "data", "test", mme_rows()[:-1], 2)
    answers = sqa_rows()
    answers[0]["answer"] = 9
    write_parquet(root / "ScienceQA" / "ScienceQA-IMG", "test", answers)
    findings = check(world, ["vlm"])
    path = root / "RealWorldQA" / "test-00000-of-00001.parquet"
    assert _found(findings, "the picture cannot be decoded").where == f"{path}, row 0, field image"
    assert _found(findings, "expected text that is not empty").where == f"{path}, row 1, field answer"
    assert _found(findings, "the picture is empty").where == f"{path}, row 0 of group 1, field image"
    assert _found(findings, "the row has no picture").where == f"{path}, row 3, field image"
    assert _found(findings, "has 1 rows; expected exactly 2").severity == "error"
    assert _found(findings, "is 9, but the row has 3 choices").severity == "error"


def test_both_forms_of_pope_are_compared(world: Roots) -> None:
    """A row that differs between them is an error with its id."""
    for name in pope.CATEGORIES:
        rows = pope_rows([name])
        rows[0]["answer"] = "no" if name == "popular" else "yes"
        write_parquet(world.folders["vlm"] / "POPE" / "Full", name, rows)
    finding = _found(check(world, ["vlm"]), "differs in answer from")
    assert finding.where.endswith("row 0, id popular/1")


def test_several_processes_find_the_same(world: Roots) -> None:
    """Processes that decode pictures of tables change no finding."""
    rows = realworldqa_rows(4)
    rows[2]["image"]["bytes"] = b"no picture"
    write_parquet(world.folders["vlm"] / "RealWorldQA" / "data", "test", rows, 2)
    findings = check(world, ["vlm"], workers=2)
    assert findings == check(world, ["vlm"])
    assert _found(findings, "the picture cannot be decoded").where.endswith(
        "00001-of-00002.parquet, row 0, field image"
    )


def test_sets_of_which_some_are_there(world: Roots) -> None:
    """A question set that is missing is an error of its own; the others are checked."""
    shutil.rmtree(world.folders["vlm"] / "GQA")
    findings = check(world, ["vlm"])
    assert [finding.severity for finding in findings] == ["ok"] * 4 + ["error", "ok"]
    assert "hf download --repo-type dataset lmms-lab-encoder/GQA" in findings[4].mend


def test_sets_without_any_sound_question(world: Roots) -> None:
    """An empty table is an error in a world too."""
    path = world.folders["vlm"] / "RealWorldQA" / "data" / "test-00000-of-00002.parquet"
    for shard in path.parent.iterdir():
        shard.unlink()
    files.arrow().parquet.write_table(table(realworldqa_rows()).slice(0, 0), path.with_name("test.parquet"))
    assert _found(check(world, ["vlm"]), "holds no sound question").severity == "error"


def test_a_hub_root_is_looked_up_in_the_cache_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check downloads nothing: what is not in the cache is told; a wrong organisation is a usage error."""
    folder = tmp_path / "datasets--lmms-lab--RealWorldQA" / "snapshots" / "abc"
    write_parquet(folder / "data", "test", realworldqa_rows())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(realworldqa.PUBLISHED, "test", 3)
    findings = check(Roots({"vlm": Path("hub:lmms-lab-encoder")}), ["vlm"])
    assert [finding.severity for finding in findings] == ["error", "error", "ok", "error", "error", "error"]
    assert {finding.what for finding in findings if finding.severity == "error"} == {"is not in the Hugging Face cache"}
    with pytest.raises(UsageError, match="hub:lmms-lab"):
        check(Roots({"vlm": Path("hub:somebody")}), ["vlm"])


def test_without_the_reading_library(world: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check goes on: each set says which extra it needs."""

    def none() -> Mapping[str, object]:
        raise UnavailableError("package", "the tables need pyarrow: pip install 'eupe-eval[vlm]'.")

    monkeypatch.setattr(files, "arrow", none)
    findings = check(world)
    told = [finding for finding in findings if "eupe-eval[vlm]" in finding.what]
    assert len(told) == len(examine_vlm.SETS) == 6
    assert [finding.severity for finding in findings if finding.dataset == "llava"] == ["ok", "ok"]
