"""The world on disk: identity, layouts, ranges."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.errors import ResultsError, UsageError
from evals.miniature.sizes import SIZES
from evals.miniature.things import LABELS
from evals.miniature.world import VERSION, is_whole, make, read_identity, world_name

TINY = SIZES["tiny"]


def pixels(path: Path, mode: str) -> np.ndarray:
    """Pixels of a picture that must have the given mode."""
    with Image.open(path) as picture:
        assert picture.mode == mode
        return np.asarray(picture)


def contents(root: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every file."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_same_bytes_for_any_number_of_workers(tiny_world: Path, tmp_path: Path) -> None:
    """Two processes write what one writes."""
    other = make(tmp_path / "other", size="tiny", workers=2)
    assert contents(other) == contents(tiny_world)
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_identity(tiny_world: Path) -> None:
    """The card says version, seed, size, and counts that sum to all images."""
    identity = read_identity(tiny_world)
    assert identity is not None
    assert (identity.version, identity.seed, identity.size) == (VERSION, 0, "tiny")
    assert identity.counts == {"imagenet": 45, "ade20k": 9, "nyu": 9, "spair": 12}
    assert len(identity.fingerprint) == 64
    assert world_name("tiny", 0) == f"v{VERSION}-tiny-s0"


def test_a_world_that_is_there_is_not_made_again(tiny_world: Path) -> None:
    """A second call touches nothing and reports no progress."""
    before = (tiny_world / "miniature.json").stat().st_mtime_ns
    calls: list[tuple[int, int]] = []
    assert make(tiny_world, size="tiny", progress=lambda done, total: calls.append((done, total))) == tiny_world
    assert calls == []
    assert (tiny_world / "miniature.json").stat().st_mtime_ns == before


def test_another_world_or_foreign_files_are_refused(tiny_world: Path, tmp_path: Path) -> None:
    """Neither another seed's world nor a folder with other files is overwritten."""
    with pytest.raises(UsageError, match=f"v{VERSION}-tiny-s0, wanted v{VERSION}-tiny-s1"):
        make(tiny_world, size="tiny", seed=1)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="no embedded world"):
        make(tmp_path, size="tiny")
    with pytest.raises(UsageError, match="Nearest: tiny"):
        make(tmp_path / "new", size="tinny")
    with pytest.raises(UsageError, match="seed"):
        make(tmp_path / "new", size="tiny", seed=-1)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A root below a file gives one clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot write the embedded world to"):
        make(tmp_path / "file" / "world", size="tiny")


GONE = (
    "miniature.json",
    "scenes.jsonl",
    "imagenet/labels.txt",
    "imagenet/val/n90000001/*.JPEG",
    "ade20k/ADEChallengeData2016/images/validation/*.jpg",
    "ade20k/ADEChallengeData2016/annotations/training/*.png",
    "ade20k/ADEChallengeData2016/objectInfo150.txt",
    "nyu/nyu_test.txt",
    "nyu/*/rgb_*.jpg",
    "nyu/*/sync_depth_*.png",
    "SPair-71k/JPEGImages/*/*.jpg",
    "SPair-71k/ImageAnnotation/*/*.json",
    "SPair-71k/Segmentation/*/*.png",
    "SPair-71k/PairAnnotation/test/*.json",
    "SPair-71k/Layout/large/test.txt",
)


def test_a_world_that_lost_a_file_is_not_whole(tiny_world: Path, tmp_path: Path) -> None:
    """Without any one file of any kind the world is not whole; with it again, it is."""
    root = tmp_path / "world"
    shutil.copytree(tiny_world, root)
    for pattern in GONE:
        path = min(root.glob(pattern))
        content = path.read_bytes()
        path.unlink()
        assert not is_whole(root), path
        path.write_bytes(content)
        assert is_whole(root)


def test_more_or_less_than_was_rendered_is_not_whole(tiny_world: Path, tmp_path: Path) -> None:
    """Nothing, an unlisted frame, a shortened list of frames, an image too many: none is the world."""
    assert not is_whole(tmp_path / "absent")
    root = tmp_path / "world"
    shutil.copytree(tiny_world, root)
    frames = root / "nyu" / "nyu_train.txt"
    lines = frames.read_text()
    frames.write_text("".join(lines.splitlines(keepends=True)[1:]))
    assert not is_whole(root)
    frames.write_text(lines)
    assert is_whole(root)
    shutil.copy(min(root.glob("imagenet/val/*/*.JPEG")), root / "imagenet" / "val" / "n90000001" / "more.JPEG")
    assert not is_whole(root)


def test_a_killed_make_leaves_no_world_and_is_continued(tiny_world: Path, tmp_path: Path) -> None:
    """After SIGKILL nothing is at the root; the next call keeps the finished chunks and ends with the same bytes."""
    root = tmp_path / "world"
    code = (
        "from pathlib import Path; from evals.miniature.world import make; "
        f"make(Path({str(root)!r}), size='tiny', workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".world*/done/*.jsonl")) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read_identity(root) is None
    assert not root.exists()
    calls: list[tuple[int, int]] = []
    make(root, size="tiny", workers=1, progress=lambda done, total: calls.append((done, total)))
    assert calls[0][0] >= 20
    assert calls[-1] == (75, 75)
    assert contents(root) == contents(tiny_world)


def test_imagenet_layout(tiny_world: Path) -> None:
    """Every class has its images, under names as in the original."""
    root = tiny_world / "imagenet"
    lines = (root / "labels.txt").read_text().splitlines()
    assert lines[0].endswith(",striped mug") and len(lines) == 5
    wnids = [line.split(",")[0] for line in lines]
    assert wnids == sorted(wnids)
    numbers = []
    for wnid in wnids:
        train = sorted(p.name for p in (root / "train" / wnid).iterdir())
        assert train == [f"{wnid}_{n}.JPEG" for n in range(1, 7)]
        numbers += [int(p.stem.removeprefix("ILSVRC2012_val_")) for p in (root / "val" / wnid).iterdir()]
    assert sorted(numbers) == list(range(1, 16))
    shapes = {pixels(p, "RGB").shape[:2] for p in root.rglob("*.JPEG")}
    assert shapes <= set(TINY.shapes) and len(shapes) > 1


def test_ade20k_layout(tiny_world: Path) -> None:
    """Images and 8-bit annotations of equal size, labels in range with some unlabelled pixels, and the class table."""
    root = tiny_world / "ade20k" / "ADEChallengeData2016"
    seen: set[int] = set()
    for split, stem, count in (("training", "train", 6), ("validation", "val", 3)):
        for number in range(1, count + 1):
            image = pixels(root / "images" / split / f"ADE_{stem}_{number:08d}.jpg", "RGB")
            label = pixels(root / "annotations" / split / f"ADE_{stem}_{number:08d}.png", "L")
            assert image.shape[:2] == label.shape
            seen |= set(np.unique(label).tolist())
    assert 0 in seen and max(seen) <= len(LABELS) and len(seen) >= 12
    rows = [line.split("\t") for line in (root / "objectInfo150.txt").read_text().splitlines()]
    assert rows[0] == ["Idx", "Ratio", "Train", "Val", "Stuff", "Name"]
    assert [row[5] for row in rows[1:]] == list(LABELS)
    assert sum(float(row[1]) for row in rows[1:]) == pytest.approx(1, abs=0.2)
    assert len((root / "sceneCategories.txt").read_text().splitlines()) == 9


def test_nyu_layout(tiny_world: Path) -> None:
    """Lists of existing frames with the focal length, 16-bit millimetres in range with missing pixels."""
    root = tiny_world / "nyu"
    for split, count in (("train", 6), ("test", 3)):
        lines = (root / f"nyu_{split}.txt").read_text().splitlines()
        assert len(lines) == count and lines == sorted(lines)
        for line in lines:
            rgb, depth, focal = line.split(" ")
            assert focal == "518.8579" and rgb.startswith("/") and depth.startswith("/")
            values = pixels(root / depth[1:], "I;16")
            assert values.shape == pixels(root / rgb[1:], "RGB").shape[:2] == (60, 80)
            known = values[values > 0]
            assert 0.4 < len(known) / values.size < 1
            assert known.min() >= 700 and known.max() <= 9500


def test_spair_layout(tiny_world: Path) -> None:
    """Pair files, lists and image annotations hang together; key points lie on the mask or its border."""
    root = tiny_world / "SPair-71k"
    keys = [
        *("filename", "pair_id", "category", "kps_ids", "mirror"),
        *(f"{side}_{what}" for side in ("src", "trg") for what in ("imname", "imsize", "bndbox", "kps", "pose")),
        *("viewpoint_variation", "scale_variation", "truncation", "occlusion"),
    ]
    images = {p.stem: json.loads(p.read_text()) for p in root.glob("ImageAnnotation/*/*.json")}
    assert len(images) == 12
    stems = []
    for split in ("trn", "val", "test"):
        names = (root / "Layout" / "large" / f"{split}.txt").read_text().splitlines()
        assert sorted(names) == sorted(p.stem for p in (root / "PairAnnotation" / split).glob("*.json"))
        assert set((root / "Layout" / "small" / f"{split}.txt").read_text().splitlines()) <= set(names)
        stems += [(split, name) for name in names]
    assert stems
    for split, name in stems:
        pair = json.loads((root / "PairAnnotation" / split / f"{name}.json").read_text())
        assert sorted(pair) == sorted(keys)
        head, category = name.split(":")
        _, source, target = head.split("-")
        assert (pair["category"], pair["src_imname"], pair["trg_imname"]) == (
            category,
            f"{source}.jpg",
            f"{target}.jpg",
        )
        assert len(pair["src_kps"]) == len(pair["trg_kps"]) == len(pair["kps_ids"]) >= 4
        assert [images[source]["kps"][i] for i in pair["kps_ids"]] == pair["src_kps"]
        assert [images[target]["kps"][i] for i in pair["kps_ids"]] == pair["trg_kps"]
        height, width, channels = pixels(root / "JPEGImages" / category / f"{source}.jpg", "RGB").shape
        assert pair["src_imsize"] == [width, height, channels]


def test_spair_key_points_lie_on_the_object(tiny_world: Path) -> None:
    """Every annotated key point is inside the picture and on the object's mask or its border."""
    root = tiny_world / "SPair-71k"
    for path in root.glob("ImageAnnotation/*/*.json"):
        told = json.loads(path.read_text())
        mask = pixels(root / "Segmentation" / path.parent.name / f"{path.stem}.png", "L") > 0
        rows, columns = np.nonzero(mask)
        assert told["bndbox"] == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert len(told["kps"]) == 30
        for point in filter(None, told["kps"].values()):
            x, y = point
            assert 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0]
            assert mask[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].any()


def test_descriptions(tiny_world: Path) -> None:
    """One line an image of the three described sets, in a fixed order; the main object of a classification image is
    its class.
    """
    records = [json.loads(line) for line in (tiny_world / "scenes.jsonl").read_text().splitlines()]
    assert len(records) == 45 + 9 + 9
    assert len({record["image"] for record in records}) == len(records)
    assert all((tiny_world / record["image"]).is_file() for record in records)
    for record in records[:45]:
        main = record["objects"][0]
        assert main["id"] == 0 and main["name"] == record["label"]
    assert any(o["text"] for record in records for o in record["objects"])
