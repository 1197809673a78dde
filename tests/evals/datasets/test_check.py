"""The check: what it finds, where, what it does to the score, how to mend it."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.context import Bar, Roots
from evals.datasets import ade20k, imagenet, spair
from evals.datasets.check import SHOWN, Finding, check
from evals.errors import UsageError


def _found(findings: tuple[Finding, ...], what: str) -> Finding:
    """The only finding that says `what`."""
    hits = [finding for finding in findings if what in finding.what]
    assert len(hits) == 1, [finding.what for finding in findings]
    assert hits[0].effect
    assert hits[0].mend
    return hits[0]


def _set_labels(root: Path, split: str, values: list[int]) -> None:
    for path in (root / "annotations" / split).glob("*.png"):
        label = np.resize(np.array(values, dtype=np.uint8), (8, 8))
        Image.fromarray(label).save(path)


def _set_depths(root: Path, values: np.ndarray) -> None:
    for path in root.rglob("sync_depth_*.png"):
        Image.fromarray(values).save(path)


def test_a_sound_world_is_ok(roots: Roots) -> None:
    """Every split that a benchmark reads has one line that says ok and what was read."""
    findings = check(roots)
    assert [(finding.dataset, finding.severity) for finding in findings] == [
        ("imagenet", "ok"), ("imagenet", "ok"), ("ade20k", "ok"), ("ade20k", "ok"),
        ("nyu", "ok"), ("nyu", "ok"), ("SPair-71k", "ok"),
    ]  # fmt: skip
    assert findings[0].what == "8 images in 3 classes; every pixel read"
    assert findings[6].what == "5 pairs of 5 images in 2 categories; every pixel read"


def test_several_processes_find_the_same(roots: Roots, nyu_root: Path) -> None:
    """Processes that read images change no finding."""
    (nyu_root / "kitchen" / "rgb_5.jpg").write_bytes(b"no picture")
    assert check(roots, ["nyu"], workers=2) == check(roots, ["nyu"])


def test_the_bar_counts_every_image(roots: Roots) -> None:
    """Progress is told for each set and split, an image at a time."""
    told: dict[str, list[int]] = {}

    class Counter:
        def __init__(self, title: str) -> None:
            self._title = title

        def update(self, n: int = 1) -> None:
            told[self._title][1] += n

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Bar]:
        told[title] = [total, 0]
        yield Counter(title)

    check(roots, ["imagenet", "nyu"], bar=bar)
    assert told == {"imagenet train": [8, 8], "imagenet val": [6, 6], "nyu train": [3, 3], "nyu test": [2, 2]}


def test_unknown_and_absent_sets(roots: Roots, nyu_root: Path) -> None:
    """An unknown name is a usage error; an absent set is an error when named and a warning otherwise."""
    with pytest.raises(UsageError, match="imagenet"):
        check(roots, ["imagent"])
    shutil.rmtree(nyu_root)
    partly = Roots({"nyu": nyu_root}, world="tiny")
    besides = Roots({**partly.folders, "imagenet": roots.of("imagenet")}, world="tiny")
    assert [f.severity for f in check(besides)] == ["ok", "ok", "warning", "warning", "warning"]
    named = check(partly, ["nyu", "ade20k"])
    assert [finding.severity for finding in named] == ["error", "error"]
    assert (named[0].where, named[0].what) == (str(nyu_root), "the folder is not there")
    assert "Monocular Depth Estimation Toolbox" in named[0].mend
    assert (named[1].where, named[1].what) == ("paths.ade20k", "no folder is configured for 'ade20k'")
    assert all("unavailable" in finding.effect for finding in named)


def test_data_roots_without_any_set(tmp_path: Path) -> None:
    """Where no set is found at all, one error says what was expected; an empty folder is no set."""
    (tmp_path / "nyu").mkdir()
    (tmp_path / "nyu" / ".DS_Store").write_bytes(b"")
    for roots in (Roots({}), Roots({name: tmp_path / name for name in ("imagenet", "ade20k", "nyu", "SPair-71k")})):
        findings = check(roots)
        assert [finding.severity for finding in findings] == ["error"] + ["warning"] * 6
        wanted = "expected at least one of the folders imagenet, ade20k, nyu, SPair-71k, llava, vlm"
        assert wanted in findings[0].what
    assert findings[3].what == "the folder is empty"


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("imagenet", "train"),
        ("ade20k", "annotations/validation"),
        ("nyu", "nyu_test.txt"),
        ("SPair-71k", "PairAnnotation/test"),
    ],
)
def test_a_set_of_which_a_part_is_missing(roots: Roots, name: str, gone: str) -> None:
    """A folder that holds the rest of a set is no absent set: what lacks is an error, named once."""
    part = roots.of(name) / gone
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink()
    findings = check(roots)
    errors = [finding for finding in findings if finding.severity == "error"]
    assert [finding.dataset for finding in errors] == [name]
    assert errors[0].where.startswith(str(part))
    assert errors[0].what == "is not there, though its data folder is"
    assert errors[0].mend.startswith("Expected tree:\n")


COUNTS = {"imagenet": 14, "ade20k": 5, "nyu": 5, "spair": 5}
"""Pictures of the fixtures, counted by hand."""


@pytest.fixture
def layouts(spair_root: Path) -> None:
    """Lists of pairs as a world has them."""
    (spair_root / "Layout" / "large").mkdir(parents=True)
    stems = sorted(path.stem for path in (spair_root / "PairAnnotation" / "test").iterdir())
    (spair_root / "Layout" / "large" / "test.txt").write_text("".join(f"{stem}\n" for stem in stems))


@pytest.mark.usefixtures("layouts")
@pytest.mark.parametrize(
    ("gone", "what"),
    [
        ("imagenet/val/n01/ILSVRC2012_val_n010.JPEG", "13 images, 14 were rendered"),
        ("spair/SPair-71k/PairAnnotation/test/000002-2008_1-2008_0:cat.json", "4 pairs, 5 were rendered"),
        ("spair/SPair-71k/JPEGImages/cat/2008_0.jpg", "4 images, 5 were rendered"),
        ("ade20k/ADEChallengeData2016/images/training/ADE_train_00000001.jpg", "4 images, 5 were rendered"),
        ("nyu/kitchen/rgb_5.jpg", "4 images, 5 were rendered"),
    ],
)
def test_a_damaged_world_is_told(roots: Roots, tmp_path: Path, gone: str, what: str) -> None:
    """One picture or pair less than was rendered is an error that says how to get it back."""
    assert {finding.severity for finding in check(roots, world_counts=COUNTS)} == {"ok"}
    (tmp_path / gone).unlink()
    finding = _found(check(roots, decode=False, world_counts=COUNTS), what)
    assert finding.severity == "error"
    assert finding.mend == "The world is damaged: delete its folder, it is rendered again"


@pytest.mark.usefixtures("layouts")
def test_a_world_without_a_line_or_a_set(roots: Roots, nyu_root: Path, ade_root: Path) -> None:
    """A frame taken out of a list is missed as its picture would be; a whole set that is gone is an error too."""
    path = nyu_root / "nyu_test.txt"
    path.write_text(path.read_text().splitlines()[0])
    shutil.rmtree(ade_root)
    findings = check(roots, world_counts=COUNTS)
    assert _found(findings, "4 lines in nyu_train.txt and nyu_test.txt, 5 were rendered").severity == "error"
    assert _found(findings, "is not there").severity == "error"
    assert {f.mend for f in findings if f.severity == "error"} == {
        "The world is damaged: delete its folder, it is rendered again"
    }


def test_a_rendered_world_is_whole(tiny_roots: Roots, tiny_world: Path) -> None:
    """What the world says of itself is what the check counts."""
    counts = json.loads((tiny_world / "miniature.json").read_text())["counts"]
    findings = check(tiny_roots, decode=False, world_counts=counts)
    assert [(finding.severity, finding.what) for finding in findings if finding.severity != "ok"] == []


def test_names_that_are_no_utf8_are_findings(roots: Roots, imagenet_root: Path, ade_root: Path) -> None:
    """Files and class folders in another encoding are named in plain letters, in every part that is listed."""
    for folder in (imagenet_root / "train" / "n01", ade_root / "images" / "training"):
        (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
    (imagenet_root / "val" / os.fsdecode(b"n\xff")).mkdir()
    told = [f for f in check(roots, ["imagenet", "ade20k"]) if f.severity == "error"]
    assert len(told) == 3
    assert all(r"\udcff" in finding.what and "no UTF-8" in finding.what for finding in told)
    for finding in told:
        f"{finding.where}{finding.what}{finding.mend}".encode()


def test_pair_annotations_that_spell_impossible_names(roots: Roots, edit_pair: Callable[..., Path]) -> None:
    """JSON can spell lone surrogates; the annotation is named, and the words can be printed."""
    path = edit_pair(src_imname="\udcff.jpg")
    finding = _found(check(roots, ["SPair-71k"]), "this is no pair annotation")
    assert finding.where == str(path)
    finding.what.encode()


def test_class_names_that_are_not_there(roots: Roots, ade_root: Path) -> None:
    """Without objectInfo150.txt real data have a warning; a world cannot count its classes and has an error."""
    (ade_root / "objectInfo150.txt").unlink()
    for world, severity in ((None, "warning"), ("tiny", "error")):
        told = [f for f in check(replace(roots, world=world), ["ade20k"]) if f.where.endswith("objectInfo150.txt")]
        assert [finding.severity for finding in told] == [severity]
    assert "beside the folders images and annotations" in told[0].mend


def test_no_finding_repeats_itself(roots: Roots, imagenet_root: Path, ade_root: Path, spair_root: Path) -> None:
    """A damaged file is named once, and one sentence says how to mend it."""
    broken = [
        imagenet_root / "val" / "n01" / "ILSVRC2012_val_n010.JPEG",
        ade_root / "annotations" / "training" / "ADE_train_00000001.png",
        spair_root / "JPEGImages" / "cat" / "2008_0.jpg",
    ]
    for path in broken:
        path.write_bytes(b"no picture")
    (imagenet_root / "val" / "n02" / "ILSVRC2012_val_n020.JPEG").unlink()
    (imagenet_root / "val" / "n02" / "ILSVRC2012_val_n020.JPEG").symlink_to("nowhere.JPEG")
    told = [finding for finding in check(roots) if finding.severity == "error"]
    assert {str(path) for path in broken} < {finding.where for finding in told}
    for finding in told:
        words = f"{finding.where}: {finding.what}. {finding.mend}"
        assert words.count(finding.where) == 1
        assert words.lower().count("restore") == 1


def test_real_data_have_published_counts(roots: Roots) -> None:
    """The same small folders, said to be the real sets, differ from the published counts and sizes."""
    findings = check(replace(roots, world=None))
    assert _found(findings, "8 images, published are 1,281,167").severity == "error"
    assert "not comparable" in _found(findings, "6 images, published are 50,000").effect
    assert _found(findings, "3 images with a label map, published are 2,000").dataset == "ade20k"
    assert _found(findings, "2 frames, published are 654").dataset == "nyu"
    assert _found(findings, "5 pairs, published are 12,234").dataset == "SPair-71k"
    assert _found(findings, "0 pairs of aeroplane, published are 690").dataset == "SPair-71k"
    assert len([f for f in findings if "published frames have 640 x 480" in f.what]) == 5
    assert not [f for f in findings if f.severity == "ok"]


def test_counts_of_the_facts_agree() -> None:
    """Test pairs of the categories add up to the published total, and the three splits to 70,958."""
    assert sum(spair.PUBLISHED_TEST.values()) == spair.PUBLISHED["test"] == 12_234
    assert len(spair.PUBLISHED_TEST) == 18
    assert sum(spair.PUBLISHED.values()) == 70_958


def test_val_images_in_wrong_folders(roots: Roots, imagenet_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right total with unequal classes means that val was sorted wrongly."""
    monkeypatch.setitem(imagenet.PUBLISHED, "val", 6)
    monkeypatch.setattr(imagenet, "PUBLISHED_VAL_PER_CLASS", 2)
    monkeypatch.setattr(imagenet, "PUBLISHED_CLASSES", 3)
    real = replace(roots, world=None)
    assert check(real, ["imagenet"])[-1].severity == "ok"
    moved = next((imagenet_root / "val" / "n03").iterdir())
    moved.rename(imagenet_root / "val" / "n01" / moved.name)
    assert "wrong answers" in _found(check(real, ["imagenet"]), "2 classes have not 2 images, the first is n01").effect


def test_unreadable_images_are_all_named(roots: Roots, imagenet_root: Path, spair_root: Path) -> None:
    """Each damaged image is a finding of its own; without decoding it goes unnoticed and the line says so."""
    broken = [imagenet_root / "val" / "n01" / "ILSVRC2012_val_n010.JPEG", spair_root / "JPEGImages/dog/2008_1.jpg"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:-30])
    errors = [finding for finding in check(roots) if finding.severity == "error"]
    assert [finding.where for finding in errors] == [str(path) for path in broken]
    assert all("cannot be decoded" in finding.what for finding in errors)
    quick = check(roots, decode=False)
    assert {finding.severity for finding in quick} == {"ok"}
    assert quick[0].what.endswith("no pixels")


def test_many_findings_of_one_kind_are_counted(roots: Roots, imagenet_root: Path) -> None:
    """Eight damaged images: some are listed, the others counted."""
    for path in (imagenet_root / "train").rglob("*.JPEG"):
        path.write_bytes(b"no picture")
    errors = [finding for finding in check(roots, ["imagenet"]) if finding.severity == "error"]
    assert len(errors) == SHOWN + 1
    assert errors[-1].what.startswith("and 3 more of this kind")


def test_all_problems_of_a_folder_are_collected(roots: Roots, ade_root: Path, nyu_root: Path) -> None:
    """A loader stops at the first problem, the check goes on."""
    for path in (ade_root / "annotations" / "validation").glob("*.png"):
        path.unlink()
    (nyu_root / "kitchen" / "rgb_5.jpg").unlink()
    (nyu_root / "bath_2" / "sync_depth_7.png").unlink()
    findings = check(roots)
    assert len([f for f in findings if "its label map" in f.what]) == 3
    assert _found(findings, "kitchen/rgb_5.jpg does not exist").where.endswith("nyu_test.txt, line 1")
    assert _found(findings, "bath_2/sync_depth_7.png does not exist").where.endswith("nyu_test.txt, line 2")


def test_class_folders_and_names(roots: Roots, imagenet_root: Path) -> None:
    """Differing classes and lacking names say what they do to the score."""
    shutil.rmtree(imagenet_root / "val" / "n02")
    (imagenet_root / "labels.txt").write_text("n01,tench\nn02,goldfish\n")
    findings = check(roots, ["imagenet"])
    assert "every class after" in _found(findings, "it lacks n02 (1 in all)").effect
    assert "no prompt" in _found(findings, "no name for n03 (1 of 3 classes)").effect


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([0, 1, 149, 255], "the labels were already reduced (255 = ignore)"),
    ],
)
def test_labels_that_were_reduced(roots: Roots, ade_root: Path, values: list[int], what: str) -> None:
    """A whole set without the last class and with 255 is told once, for its folder."""
    _set_labels(ade_root, "validation", values)
    finding = _found(check(roots, ["ade20k"]), what)
    assert finding.severity == "error"
    assert finding.where.endswith("annotations/validation")


@pytest.mark.parametrize("largest", [151, 255])
def test_labels_out_of_range_name_their_files(roots: Roots, ade_root: Path, largest: int) -> None:
    """Every label map with a value above the classes is a finding of its own; sound ones are none."""
    files = [ade_root / "annotations" / "validation" / f"ADE_val_0000000{number}.png" for number in (1, 3)]
    for path in files:
        Image.fromarray(np.resize(np.array([0, 150, largest], np.uint8), (8, 8))).save(path)
    told = [finding for finding in check(roots, ["ade20k"]) if finding.severity == "error"]
    assert [finding.where for finding in told] == [str(path) for path in files]
    assert all(f"the largest value is {largest}, expected 0 (unlabelled) and 1..150" in f.what for f in told)


@pytest.mark.parametrize(
    ("values", "what"), [([0, 1, 149], "no pixel has the value 150"), ([1, 150], "no pixel has the value 0")]
)
def test_shifted_labels_of_the_complete_set(
    roots: Roots, ade_root: Path, monkeypatch: pytest.MonkeyPatch, values: list[int], what: str
) -> None:
    """In the complete published split both ends of the range occur; in a part of it they need not."""
    _set_labels(ade_root, "validation", values)
    assert {finding.severity for finding in check(roots, ["ade20k"])} == {"ok"}
    monkeypatch.setitem(ade20k.PUBLISHED, "validation", 3)
    assert "mIoU" in _found(check(replace(roots, world=None), ["ade20k"]), what).effect


def test_worlds_count_their_own_classes(roots: Roots, ade_root: Path) -> None:
    """The number of classes of an embedded world is that of its list of names."""
    (ade_root / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n2\tfloor\n")
    _set_labels(ade_root, "training", [0, 1, 2])
    _set_labels(ade_root, "validation", [0, 1, 3])
    told = [finding for finding in check(roots, ["ade20k"]) if finding.severity == "error"]
    assert len(told) == 3
    assert all("the largest value is 3, expected 0 (unlabelled) and 1..2" in finding.what for finding in told)


def test_sizes_of_labels_and_depth_maps(
    roots: Roots, ade_root: Path, nyu_root: Path, picture: Callable[..., Path]
) -> None:
    """A map of another size than its image is named with both sizes."""
    picture(ade_root / "images" / "training" / "ADE_train_00000002.jpg", (6, 4))
    picture(nyu_root / "bath_2" / "rgb_7.jpg", (6, 4))
    findings = check(roots, ["ade20k", "nyu"])
    assert "mIoU" in _found(findings, "the label map has 8 x 8 pixels, its image 6 x 4").effect
    assert _found(findings, "the depth map has 8 x 8 pixels, its image 6 x 4").where.endswith("sync_depth_7.png")


@pytest.mark.parametrize(("largest", "unit"), [(8, "metres"), (700, "centimetres"), (63_000, "tenths of a millimetre")])
def test_depth_units(roots: Roots, nyu_root: Path, largest: int, unit: str) -> None:
    """The largest depth of a typical map gives other units away."""
    _set_depths(nyu_root, np.linspace(0, largest, 64).round().astype(np.uint16).reshape(8, 8))
    findings = check(roots, ["nyu"])
    assert len(findings) == 2
    assert all(f"as if depth were in {unit}; millimetres expected" in finding.what for finding in findings)
    assert all("constant factor" in finding.effect for finding in findings)


def test_depth_maps_that_are_8_bit_empty_or_far(roots: Roots, nyu_root: Path) -> None:
    """An 8-bit map and an empty one are errors; single depths beyond 10 m are a warning."""
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(nyu_root / "bath_1" / "sync_depth_9.png")
    Image.fromarray(np.full((8, 8), 12_000, np.uint16)).save(nyu_root / "office_1" / "sync_depth_2.png")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(nyu_root / "kitchen" / "sync_depth_5.png")
    findings = check(roots, ["nyu"])
    assert _found(findings, "16-bit millimetres expected, got an 8-bit file").severity == "error"
    assert _found(findings, "the largest depth is 12 m").severity == "warning"
    assert _found(findings, "every pixel is missing (0)").severity == "error"


def test_frames_listed_twice(roots: Roots, nyu_root: Path) -> None:
    """A duplicate weighs double."""
    path = nyu_root / "nyu_test.txt"
    path.write_text(path.read_text() + "/kitchen/rgb_5.jpg /kitchen/sync_depth_5.png 518.8579\n")
    finding = _found(check(roots, ["nyu"]), "kitchen/rgb_5.jpg is listed 2 times")
    assert "weighs as much as several" in finding.effect


def test_every_contradiction_of_pairs(roots: Roots, spair_root: Path) -> None:
    """All contradictions of all annotations are findings, each with its key and its effect."""
    first, second, third = sorted((spair_root / "PairAnnotation" / "test").iterdir())[:3]
    first.write_text(
        json.dumps(json.loads(first.read_text()) | {"src_kps": [[1, 2], [9, 3]], "trg_bndbox": [5, 2, 1, 9]})
    )
    second.write_text(json.dumps(json.loads(second.read_text()) | {"trg_imsize": [80, 100, 3]}))
    third.write_text("{")
    findings = check(roots, ["SPair-71k"])
    assert len(findings) == 4
    assert "can never be found" in _found(findings, "key point (9, 3) lies outside").effect
    assert "threshold" in _found(findings, "is inverted or empty").effect
    assert "wrong size" in _found(findings, "says 80 x 100").effect
    assert _found(findings, "this is no pair annotation").where == str(third)


def test_problems_that_stop_a_loader_are_findings(roots: Roots, imagenet_root: Path) -> None:
    """A file that cannot even be read as text is a finding, not a crash."""
    (imagenet_root / "labels.txt").write_bytes(b"\xff\xfe\xff")
    assert len([f for f in check(roots, ["imagenet"]) if "cannot be read as text" in f.what]) == 2
