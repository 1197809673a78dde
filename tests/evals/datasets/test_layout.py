"""What the loaders share."""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.datasets.base import read_rgb
from evals.datasets.layout import Problem, ProblemError, home, image_size, names, read_map, shown, stop
from evals.errors import DataError


def test_a_problem_says_where_what_and_how_to_mend_it() -> None:
    """The error of a problem is one line of three parts."""
    with pytest.raises(DataError) as caught:
        stop(Problem("a/b.json, key c", "got 3, expected 4", "Restore it"))
    assert str(caught.value) == "a/b.json, key c: got 3, expected 4. Restore it."


def test_home(tmp_path: Path) -> None:
    """The root itself comes first; then the folder in it that holds the marker; errors name the root."""
    assert home(tmp_path, "SPair-71k", "PairAnnotation") == tmp_path
    (tmp_path / "SPair-71k" / "PairAnnotation").mkdir(parents=True)
    assert home(tmp_path, "SPair-71k", "PairAnnotation") == tmp_path / "SPair-71k"
    (tmp_path / "PairAnnotation").mkdir()
    assert home(tmp_path, "SPair-71k", "PairAnnotation") == tmp_path


def test_names_reports_folders_and_broken_links(tmp_path: Path) -> None:
    """A folder named like an image, and a link to nothing, are strangers; endings count in any case."""
    (tmp_path / "b.JPG").write_bytes(b"")
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "c.jpg").mkdir()
    (tmp_path / "d.jpg").symlink_to(tmp_path / "nowhere")
    found: list[Problem] = []
    assert names(tmp_path, (".jpg",), found.append) == ["a.jpg", "b.JPG"]
    assert sorted(Path(problem.where).name for problem in found) == ["c.jpg", "d.jpg"]


def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    """The operating system's reason stands in the error of the data set."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file: the folder cannot be listed \(Not a directory\)"):
        shown(tmp_path / "file", stop)


def test_names_that_are_no_utf8_are_reported(tmp_path: Path) -> None:
    """A file of another encoding is a problem in plain letters, and is left out; its neighbours stay."""
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    found: list[Problem] = []
    assert names(tmp_path, (".jpg",), found.append) == ["a.jpg"]
    assert [problem.what for problem in found] == [r"the name 'caf\udce9.jpg' is no UTF-8"]
    f"{found[0].error()}".encode()


def test_pictures_with_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above twice Pillow's limit the file is named in an error; above the limit itself it is read without a word."""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "big.png")
    for limit, refused in ((31, True), (40, False)):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for read in (image_size, lambda path: read_map(path, "label map"), lambda path: read_rgb(path).size):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                if refused:
                    with pytest.raises(DataError, match=r"big\.png cannot be decoded: .*64 pixels"):
                        read(tmp_path / "big.png")
                else:
                    read(tmp_path / "big.png")


def test_an_error_of_another_process_keeps_its_words() -> None:
    """The error can be sent between processes, and made again from its text alone."""
    error = Problem("a.png", "is broken", "Restore it").error()
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problem) == (str(error), error.problem)
    assert str(ProblemError(str(error))) == "a.png: is broken. Restore it."
