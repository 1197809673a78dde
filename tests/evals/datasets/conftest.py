"""Tiny data sets in the real on-disk layouts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.context import Roots
from evals.files import DigestMemo
from tests.evals.datasets.vlm.rows import (
    gqa_rows,
    mme_rows,
    pope_rows,
    realworldqa_rows,
    sqa_rows,
    textvqa_rows,
    write_parquet,
)

WritePicture = Callable[..., Path]


@pytest.fixture
def digests() -> DigestMemo:
    """A memory of digests that lives for one test."""
    return DigestMemo(None)


@pytest.fixture
def picture() -> WritePicture:
    """Writes a small picture of its own colours."""
    written = 0

    def write(path: Path, size: tuple[int, int] = (8, 8)) -> Path:
        nonlocal written
        written += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(written).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, format="JPEG")
        return path

    return write


@pytest.fixture
def imagenet_root(tmp_path: Path, picture: WritePicture) -> Path:
    """Three classes with 4, 3 and 1 training images and 2 validation images each; names in labels.txt."""
    root = tmp_path / "imagenet"
    for wnid, count in (("n01", 4), ("n02", 3), ("n03", 1)):
        for index in range(count):
            picture(root / "train" / wnid / f"{wnid}_{index}.JPEG")
        for index in range(2):
            picture(root / "val" / wnid / f"ILSVRC2012_val_{wnid}{index}.JPEG")
    (root / "labels.txt").write_text('n03,"kite, bird"\nn01,tench\nn02, goldfish\n')
    return root


@pytest.fixture
def ade_root(tmp_path: Path, picture: WritePicture) -> Path:
    """Two training and three validation images with labels 0, 1, 2 and 150; class names as in the release."""
    root = tmp_path / "ade20k" / "ADEChallengeData2016"
    for split, short, count in (("training", "train", 2), ("validation", "val", 3)):
        (root / "annotations" / split).mkdir(parents=True)
        for index in range(1, count + 1):
            stem = f"ADE_{short}_{index:08d}"
            picture(root / "images" / split / f"{stem}.jpg")
            label = np.full((8, 8), index, dtype=np.uint8)
            label[0], label[1, 0] = 0, 150
            Image.fromarray(label).save(root / "annotations" / split / f"{stem}.png")
    lines = [f"{index}\t0.1\t10\t5\t\tthing{index}, synonym" for index in range(1, 151)]
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "\n".join(lines) + "\n")
    return root


@pytest.fixture
def nyu_root(tmp_path: Path, picture: WritePicture) -> Path:
    """Lists whose lines are not sorted; three training frames with a leading slash, two test frames without."""
    root = tmp_path / "nyu"
    lists = {"train": ["/office_1/2", "/bath_1/9", "/office_1/1"], "test": ["kitchen/5", "bath_2/7"]}
    for split, frames in lists.items():
        lines = []
        for frame in frames:
            scene, number = frame.lstrip("/").split("/")
            picture(root / scene / f"rgb_{number}.jpg")
            depth = np.arange(64, dtype=np.uint16).reshape(8, 8) * 100
            Image.fromarray(depth).save(root / scene / f"sync_depth_{number}.png")
            slash = "/" if frame.startswith("/") else ""
            lines.append(f"{slash}{scene}/rgb_{number}.jpg {slash}{scene}/sync_depth_{number}.png 518.8579")
        (root / f"nyu_{split}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def spair_root(tmp_path: Path, picture: WritePicture) -> Path:
    """Two categories of two and three 8 x 10 images; test: two pairs of cats, three of dogs."""
    root = tmp_path / "spair" / "SPair-71k"
    for category, count in (("dog", 3), ("cat", 2)):
        for index in range(count):
            picture(root / "JPEGImages" / category / f"2008_{index}.jpg", (8, 10))
    (root / "PairAnnotation" / "test").mkdir(parents=True)
    pairs = [("dog", 2, 0), ("cat", 1, 0), ("dog", 0, 1), ("cat", 0, 1), ("dog", 1, 2)]
    for number, (category, source, target) in enumerate(pairs, start=1):
        annotation = {
            "src_imname": f"2008_{source}.jpg",
            "trg_imname": f"2008_{target}.jpg",
            "src_imsize": [8, 10, 3],
            "trg_imsize": [8, 10, 3],
            "src_bndbox": [0, 0, 7, 9],
            "trg_bndbox": [1, 2, 6, 9],
            "category": category,
            "src_kps": [[1, 2], [3, 4 + number / 2]],
            "trg_kps": [[5, 6], [7, 8]],
            "kps_ids": ["0", "4"],
            "mirror": 0,
        }
        name = f"{number:06d}-2008_{source}-2008_{target}:{category}.json"
        (root / "PairAnnotation" / "test" / name).write_text(json.dumps(annotation))
    return root


@pytest.fixture
def edit_pair(spair_root: Path) -> Callable[..., Path]:
    """Changes keys of the first pair annotation (None removes the key) and returns its path."""

    def edit(**changes: Any) -> Path:
        path = min((spair_root / "PairAnnotation" / "test").iterdir())
        raw = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))
        return path

    return edit


@pytest.fixture
def roots(imagenet_root: Path, ade_root: Path, nyu_root: Path, spair_root: Path) -> Roots:
    """All four data sets as an embedded world would be given, so that published counts do not apply."""
    folders = {"imagenet": imagenet_root, "ade20k": ade_root, "nyu": nyu_root, "SPair-71k": spair_root}
    return Roots(folders, world="tiny")


@pytest.fixture
def vlm_root(tmp_path: Path) -> Path:
    """All six sets in the layout of the hub."""
    root = tmp_path / "vlm"
    write_parquet(root / "textvqa" / "data", "validation", textvqa_rows(), 3)
    write_parquet(root / "ScienceQA" / "ScienceQA-IMG", "test", sqa_rows())
    write_parquet(root / "RealWorldQA" / "data", "test", realworldqa_rows(), 2)
    write_parquet(root / "POPE" / "data", "test", pope_rows(), 3)
    asked, shown = gqa_rows()
    write_parquet(root / "GQA" / "testdev_balanced_instructions", "testdev", asked)
    write_parquet(root / "GQA" / "testdev_balanced_images", "testdev", shown)
    write_parquet(root / "MME" / "data", "test", mme_rows(), 2)
    return root


def _record(name: str, image: str | None, *said: str) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(said)]
    shown = {"image": image} if image else {"model": ""}
    return {"id": name, **shown, "conversations": turns}


@pytest.fixture
def llava_root(tmp_path: Path, picture: WritePicture) -> Path:
    """Three captions; five conversations of all kinds of sources but Visual Genome, one of them text alone."""
    root = tmp_path / "llava"
    captions = [
        _record(f"00000{at}", f"0000{at}/{at}.jpg", "What is shown?\n<image>", f"thing {at}") for at in range(3)
    ]
    names = ["coco/train2017/7.jpg", "gqa/images/7.jpg", "ocr_vqa/images/7.jpg", "coco/train2017/7.jpg"]
    talks = [_record(f"t{at}", name, "<image>\nWhat?", "Red", "Why?", "Paint") for at, name in enumerate(names)]
    talks.insert(2, _record("wNBG8Gp_0", None, "Hello", "Grüß dich"))
    for folder, name, records in (
        (root / "LLaVA-Pretrain", "blip_laion_cc_sbu_558k.json", captions),
        (root, "llava_v1_5_mix665k.json", talks),
    ):
        folder.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(json.dumps(records, indent=1), encoding="utf-8")
    for record in captions:
        picture(root / "LLaVA-Pretrain" / "images" / record["image"])
    for image in sorted(set(names)):
        picture(root / image)
    return root


@pytest.fixture
def edit_talk(llava_root: Path) -> Callable[..., Path]:
    """Changes keys of a record (None removes the key) and returns the path of its file."""

    def edit(index: int, file: str = "llava_v1_5_mix665k.json", **changes: Any) -> Path:
        path = llava_root / file
        records = json.loads(path.read_text())
        changed = records[index] | changes
        records[index] = {key: value for key, value in changed.items() if value is not None}
        path.write_text(json.dumps(records))
        return path

    return edit
