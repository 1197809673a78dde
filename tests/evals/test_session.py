"""Worlds around a run: a damaged one is found and rendered again, another one is not taken for the one asked for."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from evals import compose
from evals.errors import DataError, UnavailableError, UsageError
from evals.miniature import world
from evals.session import check_data, make_context, make_world


@pytest.fixture
def damaged(tmp_path: Path, tiny_world: Path) -> Path:
    """A copy of the tiny world in a cache of its own that lacks one validation image."""
    copy = tmp_path / "cache" / "miniature" / tiny_world.name
    shutil.copytree(tiny_world, copy)
    next((copy / "imagenet" / "val").rglob("*.JPEG")).unlink()
    return copy


def test_a_check_finds_the_damage_and_mends_nothing(damaged: Path, tmp_path: Path) -> None:
    """The missing image is an error; the world stays as it is."""
    settings = compose.compose(flags={"data": "miniature-tiny", "cache": str(tmp_path / "cache")})
    found = check_data(settings, decode=False, quiet=True)
    assert any(finding.severity == "error" and "imagenet" in finding.dataset for finding in found)
    assert not world.is_whole(damaged)


def test_a_run_renders_a_damaged_world_again(damaged: Path, tmp_path: Path, tiny_world: Path) -> None:
    """In the cache the world is ours to mend: the same identity comes back, whole."""
    settings = compose.compose(flags={"data": "miniature-tiny", "cache": str(tmp_path / "cache")})
    context = make_context(settings, quiet=True)
    assert context.roots.world == world.world_name("tiny", 0)
    assert world.is_whole(damaged)
    assert world.read_identity(damaged) == world.read_identity(tiny_world)


def test_a_damaged_world_of_the_user_is_refused(damaged: Path, tmp_path: Path) -> None:
    """A folder that the user named is not ours to delete."""
    settings = compose.compose(flags={"data": str(damaged), "cache": str(tmp_path / "other")})
    with pytest.raises(DataError, match="is a damaged world"):
        make_context(settings, quiet=True)


def test_what_needs_no_talks_runs_without_the_packages_of_talks(
    tmp_path: Path, tiny_world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The missing package is told; the world of images is there, that of the vision-language sets is not."""
    target = tmp_path / "cache" / "miniature"
    target.mkdir(parents=True)
    (target / tiny_world.name).symlink_to(tiny_world)
    made = world.make

    def lacking(folder: Path, *, size: str, **options: Any) -> Path:
        if size.startswith("talks"):
            raise UnavailableError("package", "the tables need pyarrow: pip install 'eupe-eval[vlm]'")
        return made(folder, size=size, **options)

    monkeypatch.setattr(world, "make", lacking)
    settings = compose.compose(
        chosen_suites=("all",), flags={"data": "miniature-tiny", "cache": str(tmp_path / "cache")}
    )
    context = make_context(settings, quiet=True)
    assert "imagenet" in context.roots.folders
    assert "vlm" not in context.roots.folders
    assert "pip install 'eupe-eval[vlm]'" in capsys.readouterr().err


def test_another_world_in_the_folder_is_refused(tmp_path: Path, tiny_world: Path) -> None:
    """`data make --seed 7 --to FOLDER` does not take the world of seed 0 for the one asked for."""
    with pytest.raises(UsageError):
        make_world(tmp_path, "tiny", 7, to=tiny_world, quiet=True)
