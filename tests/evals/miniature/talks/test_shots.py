"""The pictures to learn from and those to be asked about."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.miniature.render import render
from evals.miniature.sizes import SIZES
from evals.miniature.talks.boards import draw_boards
from evals.miniature.talks.gatherings import COMPANIES, draw_gathering, draw_labels
from evals.miniature.talks.shots import count, shot_at, tones, write

TINY = SIZES["talks-tiny"]


def test_places() -> None:
    """First all of training in LLaVA's folders, then all to be asked about, by kind."""
    assert count(TINY) == 53
    paths = [shot_at(TINY, index).path for index in range(53)]
    assert len(set(paths)) == 53
    assert paths[0] == "llava/coco/train2017/000000000000.jpg"
    assert paths[4] == "llava/gqa/images/000000000004.jpg"
    assert paths[14:16] == ["llava/vg/VG_100K/000000000014.jpg", "llava/vg/VG_100K_2/000000000015.jpg"]
    assert paths[17] == "llava/textvqa/train_images/000000000017.jpg"
    assert paths[25] == "talks/pictures/portrait/000000.jpg"
    assert paths[52] == "talks/pictures/board/000005.jpg"
    assert shot_at(TINY, 4).twin == "llava/LLaVA-Pretrain/images/00000/000000004.jpg"
    assert shot_at(SIZES["talks"], 1234).twin == "llava/LLaVA-Pretrain/images/00001/000001234.jpg"
    with pytest.raises(IndexError):
        shot_at(TINY, 53)
    assert count(SIZES["small"]) == 0


def test_no_picture_is_both_learnt_and_asked_about(tmp_path: Path) -> None:
    """The first portrait of either part shows the same class, drawn otherwise; both copies for training are equal."""
    learnt, asked = (write(tmp_path, TINY, 0, index) for index in (0, 25))
    assert learnt["objects"][0]["name"] == asked["objects"][0]["name"] == "striped mug"
    assert learnt["camera"] != asked["camera"]
    assert (learnt["part"], asked["part"]) == ("train", "questions")
    twin = tmp_path / shot_at(TINY, 0).twin
    assert twin.read_bytes() == (tmp_path / learnt["image"]).read_bytes()
    assert (tmp_path / asked["image"]).read_bytes() != twin.read_bytes()
    with Image.open(twin) as picture:
        assert min(picture.size) == TINY.short


def test_tones_by_hand() -> None:
    """Pixels have the name of the nearest colour, in the shade too; outside of the mask they do not count."""
    rgb = np.zeros((2, 4, 3), np.uint8)
    rgb[0] = (209, 33, 31)
    rgb[1, :2] = (126, 20, 19)
    rgb[1, 2:] = (242, 242, 237)
    mask = np.ones((2, 4), bool)
    assert tones(rgb, mask) == [["red", 0.75], ["white", 0.25]]
    mask[0] = False
    assert tones(rgb, mask) == [["red", 0.5], ["white", 0.5]]
    assert tones(rgb, np.zeros((2, 4), bool)) == []


def test_boards_stand_one_above_the_other() -> None:
    """The first word is above, both boards are large, in different colours, and hardly hidden."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        scene, camera = draw_boards(rng, ("HOTEL", "ZOO"), (128, 144))
        buffers = render(scene, camera, rng)
        rows = [np.flatnonzero((buffers.body == body).any(1))[0] for body in (0, 1)]
        columns = [np.flatnonzero((buffers.body == body).any(0)) for body in (0, 1)]
        assert [body.text for body in scene.bodies] == ["HOTEL", "ZOO"]
        assert rows[0] + 10 < rows[1]
        assert all(len(found) > 60 for found in columns)
        assert scene.bodies[0].colours[0] != scene.bodies[1].colours[0]


def test_gatherings_show_what_they_hold() -> None:
    """Things are within the picture and seen, nearly always."""
    seen = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        scene, camera = draw_gathering(rng, (64, 72))
        buffers = render(scene, camera, rng)
        seen += [buffers.seen(body) > 20 for body in range(len(scene.bodies))]
    assert np.mean(seen) > 0.85


def test_company() -> None:
    """What belongs together is found together more often than by chance: three in four, and some of the others."""
    rng = np.random.default_rng(0)
    same = []
    for _ in range(300):
        labels = draw_labels(rng, 4)
        same.append(max(np.mean([label in company for label in labels]) for company in COMPANIES.values()))
    assert 0.75 < np.mean(same) < 0.95
