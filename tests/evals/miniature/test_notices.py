"""Pictures of signs: what they say is there, large enough to be read, and where its letters stand is known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.miniature import notices
from evals.miniature.render import render
from evals.miniature.signs import WORDS, draw_text, letter_centres
from evals.miniature.sizes import SIZES

LESSONS = SIZES["lessons"]


@pytest.mark.parametrize("word", ["HOTEL", "ZOO", "CINEMA", "MILK"])
def test_letters_stand_where_their_ink_is(word: str) -> None:
    """The middle of each letter is the middle of its stretch of inked columns, which gaps part from the others."""
    ink = draw_text(word).max(0) > 0.3
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ink, [False]]).astype(int))).reshape(-1, 2)
    assert len(edges) == len(word)
    found = [x for x, _ in letter_centres(word)]
    np.testing.assert_allclose(found, edges.mean(1) / len(ink), atol=0.03)


def test_signs_are_near() -> None:
    """Every word in turn; the board takes a good part of the picture, and hardly ever leaves it."""
    shares, inside = [], 0
    for index in range(12):
        draws = np.random.default_rng(index)
        scene, camera = notices.draw_notice(draws, WORDS[index], (128, 144))
        buffers = render(scene, camera, draws)
        columns = np.flatnonzero((buffers.body == 0).any(0))
        shares.append(len(columns) / 144)
        inside += columns[0] > 0 and columns[-1] < 143
        assert scene.bodies[0].text == WORDS[index]
    assert min(shares) > 0.3
    assert np.mean(shares) > 0.5
    assert inside >= 10


def test_a_folder_a_word(tmp_path: Path) -> None:
    """Named by the word, numbered within it; the same seed gives the same bytes, another seed others."""
    described = notices.write(tmp_path / "a", LESSONS, 1, len(WORDS) + 2)
    assert described["image"] == f"notices/{WORDS[2]}/000001.jpg"
    assert described["objects"][0]["text"] == WORDS[2]
    with Image.open(tmp_path / "a" / described["image"]) as picture:
        assert min(picture.size) == LESSONS.short
    again = notices.write(tmp_path / "b", LESSONS, 1, len(WORDS) + 2)
    other = notices.write(tmp_path / "c", LESSONS, 2, len(WORDS) + 2)
    first = (tmp_path / "a" / described["image"]).read_bytes()
    assert (tmp_path / "b" / again["image"]).read_bytes() == first
    assert (tmp_path / "c" / other["image"]).read_bytes() != first
