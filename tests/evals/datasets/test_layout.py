"""What the loaders share."""

from pathlib import Path

import pytest

from evals.datasets.layout import Problem, home, names, shown, stop
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
        shown(tmp_path / "file")
