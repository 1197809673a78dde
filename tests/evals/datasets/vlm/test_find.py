"""Where question sets are found: folders by any of their names, both layouts, the Hugging Face cache."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from evals.datasets.vlm import gqa, mme, pope, realworldqa, sqa, textvqa
from evals.errors import DataError, UnavailableError, UsageError
from evals.files import DigestMemo
from tests.evals.datasets.vlm.rows import gqa_rows, pope_rows, realworldqa_rows, sqa_rows, write_parquet, write_saved

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache; what would reach for the network fails the test."""

    def never(*_: Any, **__: Any) -> str:
        raise AssertionError("nobody asked for a download")

    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", never)
    return folder


def _hold(cache: Path, organisation: str, name: str, commit: str = COMMIT, *, main: bool = True) -> Path:
    """The snapshot folder of a repository in the cache."""
    repository = cache / f"datasets--{organisation}--{name}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    if main:
        (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    return repository / "snapshots" / commit


@pytest.mark.parametrize("name", ["REALWORLDQA", "realworldqa", "lmms-lab/RealWorldQA", "lmms-lab-encoder/RealWorldQA"])
def test_folders_have_the_name_of_the_set(tmp_path: Path, digests: DigestMemo, name: str) -> None:
    """In any case, and below the name of either organisation."""
    write_parquet(tmp_path / name / "data", "test", realworldqa_rows())
    assert len(realworldqa.load(tmp_path, digests)) == 3


def test_scienceqa_has_a_short_name_too(tmp_path: Path, digests: DigestMemo) -> None:
    """The folder may be called as the benchmark is."""
    write_parquet(tmp_path / "sqa" / "ScienceQA-IMG", "test", sqa_rows())
    assert len(sqa.load(tmp_path, digests)) == 3


@pytest.mark.parametrize("folder", ["data", "default", "."])
@pytest.mark.parametrize("name", ["test.parquet", "test-00000-of-00001-0123456789abcdef.parquet"])
def test_parquet_files_of_other_writers(tmp_path: Path, digests: DigestMemo, folder: str, name: str) -> None:
    """One file without a number, and the names of earlier versions of the hub's client."""
    write_parquet(tmp_path / "RealWorldQA" / folder, "test", realworldqa_rows())
    written = tmp_path / "RealWorldQA" / folder / "test-00000-of-00001.parquet"
    written.rename(written.with_name(name))
    assert len(realworldqa.load(tmp_path, digests)) == 3


@pytest.mark.parametrize("inner", ["test", ".", "default/test", "default"])
@pytest.mark.parametrize("split", ["test", None])
def test_saved_folders(tmp_path: Path, digests: DigestMemo, inner: str, split: str | None) -> None:
    """A data set, or a dictionary of them, that `save_to_disk` wrote, in several files."""
    write_saved(tmp_path / "RealWorldQA" / inner, split, realworldqa_rows(5), 2)
    found = realworldqa.load(tmp_path, digests)
    assert [found[at].row["question"] for at in range(5)] == [f"What is in lane {at}?" for at in range(5)]
    assert found[4].picture == realworldqa_rows(5)[4]["image"]["bytes"]


def test_a_saved_folder_of_another_split_is_none(tmp_path: Path, digests: DigestMemo) -> None:
    """What was saved says which split it is."""
    write_saved(tmp_path / "RealWorldQA", "train", realworldqa_rows())
    with pytest.raises(UnavailableError, match="RealWorldQA"):
        realworldqa.load(tmp_path, digests)


def test_saved_tables_that_are_joined(tmp_path: Path, digests: DigestMemo) -> None:
    """Both tables of GQA as saved dictionaries."""
    asked, shown = gqa_rows()
    write_saved(tmp_path / "gqa" / "testdev_balanced_instructions" / "testdev", "testdev", asked)
    write_saved(tmp_path / "gqa" / "testdev_balanced_images" / "testdev", "testdev", shown)
    assert gqa.load(tmp_path, digests)[0].picture == shown[1]["image"]["bytes"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda folder: (folder / "data-00001-of-00002.arrow").unlink(), "names 'data-00001-of-00002.arrow', which is"),
        (lambda folder: (folder / "state.json").write_text("{"), "is no state of save_to_disk"),
        (lambda folder: (folder / "state.json").write_text("[]"), "is no state of save_to_disk"),
        (lambda folder: (folder / "state.json").write_text('{"_data_files": [{}]}'), "is no state of save_to_disk"),
        (
            lambda folder: (folder / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}'),
            "names '../x.arrow', which is not there",
        ),
        (
            lambda folder: (folder / "state.json").write_text(
                json.dumps({"_data_files": [], "_indices_files": [{"filename": "i.arrow"}]})
            ),
            "saved with a selection of rows",
        ),
    ],
)
def test_damaged_saved_folders(
    tmp_path: Path, digests: DigestMemo, change: Callable[[Path], object], what: str
) -> None:
    """The state file is named, and what it says that is not so."""
    folder = tmp_path / "RealWorldQA" / "test"
    write_saved(folder, "test", realworldqa_rows(4), 2)
    change(folder)
    with pytest.raises(DataError, match=what) as caught:
        realworldqa.load(tmp_path, digests)
    assert str(folder / "state.json") in str(caught.value)


def test_shards_that_are_missing_or_mixed(vlm_root: Path, digests: DigestMemo) -> None:
    """A download that broke off is an error, not a smaller set; so are two copies in one folder."""
    folder = vlm_root / "textvqa" / "data"
    shard = folder / "validation-00001-of-00003.parquet"
    shard.rename(folder / "hidden")
    with pytest.raises(DataError, match="shards of validation are numbered 0, 2; expected 0 to 2"):
        textvqa.load(vlm_root, digests)
    (folder / "hidden").rename(folder / "validation-00000-of-00001.parquet")
    with pytest.raises(DataError, match="count 1 and 3 shards"):
        textvqa.load(vlm_root, digests)


@pytest.mark.parametrize("module", [textvqa, sqa, realworldqa, pope, gqa, mme])
def test_sets_that_are_not_there(tmp_path: Path, digests: DigestMemo, cache: Path, module: Any) -> None:
    """The error says what was expected and how to obtain it; an empty folder of the name is no set either."""
    for place in (tmp_path / "absent", tmp_path):
        with pytest.raises(UnavailableError, match="is not there") as caught:
            module.load(place, digests)
        assert f"hf download --repo-type dataset lmms-lab-encoder/{module.SOURCE.name} " in str(caught.value)
        (tmp_path / module.SOURCE.name).mkdir(exist_ok=True)
    assert list(cache.iterdir()) == []


def test_a_cache_is_a_folder_too(cache: Path, digests: DigestMemo) -> None:
    """The path of a Hugging Face cache can be given as the root; of several snapshots `main` counts."""
    write_parquet(_hold(cache, "lmms-lab", "RealWorldQA", OTHER) / "data", "test", realworldqa_rows(1))
    write_parquet(_hold(cache, "lmms-lab", "RealWorldQA") / "data", "test", realworldqa_rows(2))
    assert len(realworldqa.load(cache, digests)) == 2


@pytest.mark.parametrize("held", ["lmms-lab", "lmms-lab-encoder"])
@pytest.mark.parametrize("named", ["lmms-lab", "lmms-lab-encoder"])
def test_the_cache_is_known_under_both_organisations(cache: Path, digests: DigestMemo, held: str, named: str) -> None:
    """What was downloaded under either name is used, and nothing is downloaded."""
    write_parquet(_hold(cache, held, "RealWorldQA", main=False) / "data", "test", realworldqa_rows())
    assert len(realworldqa.load(Path(f"hub:{named}"), digests)) == 3


def test_the_named_organisation_goes_first(cache: Path, digests: DigestMemo) -> None:
    """Where the cache has both, the name decides."""
    write_parquet(_hold(cache, "lmms-lab", "RealWorldQA") / "data", "test", realworldqa_rows(1))
    write_parquet(_hold(cache, "lmms-lab-encoder", "RealWorldQA") / "data", "test", realworldqa_rows(2))
    assert len(realworldqa.load(Path("hub:lmms-lab"), digests)) == 1
    assert len(realworldqa.load(Path("hub:lmms-lab-encoder"), digests)) == 2


def test_pope_in_the_cache_by_its_single_splits(cache: Path, digests: DigestMemo) -> None:
    """A cache that holds the three tables has the whole set."""
    folder = _hold(cache, "lmms-lab", "POPE") / "Full"
    for name in ("adversarial", "popular", "random"):
        write_parquet(folder, name, pope_rows([name]))
    assert len(pope.load(Path("hub:lmms-lab"), digests)) == 12


def test_a_folder_without_the_set_tells_of_the_cache(tmp_path: Path, cache: Path, digests: DigestMemo) -> None:
    """A configured folder is never mixed with the cache in silence."""
    write_parquet(_hold(cache, "lmms-lab", "RealWorldQA") / "data", "test", realworldqa_rows())
    with pytest.raises(UnavailableError, match="=hub:lmms-lab reads it from there"):
        realworldqa.load(tmp_path / "vlm", digests)


def test_only_a_hub_root_downloads(cache: Path, digests: DigestMemo, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache lacks, a shard too, is fetched from the named organisation: the needed files alone."""
    write_parquet(_hold(cache, "lmms-lab", "RealWorldQA") / "data", "test", realworldqa_rows(), 3)
    snapshot = cache / "datasets--lmms-lab--RealWorldQA" / "snapshots" / COMMIT
    gone = snapshot / "data" / "test-00001-of-00003.parquet"
    gone.rename(cache / "gone")
    asked = []

    def download(repository: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append((repository, repo_type, allow_patterns))
        shutil.move(cache / "gone", gone)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for _ in range(2):
        assert len(realworldqa.load(Path("hub:lmms-lab"), digests)) == 3
    assert asked == [("lmms-lab/RealWorldQA", "dataset", ["data/test-*"])]


def test_a_survey_that_must_not_fetch(cache: Path) -> None:
    """A check looks at the cache alone."""
    with pytest.raises(UnavailableError, match="hub:lmms-lab/RealWorldQA is not there"):
        realworldqa.survey(Path("hub:lmms-lab"), print, fetch=False)
    assert list(cache.iterdir()) == []


def test_downloads_that_cannot_be(cache: Path, digests: DigestMemo, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, a refusal, HF_HUB_OFFLINE: unavailable, with the reason and the command."""

    def refuse(*_: Any, **__: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("the hub cannot be reached\nin detail")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UnavailableError, match=r"\(the hub cannot be reached\) is not there") as caught:
        mme.load(Path("hub:lmms-lab"), digests)
    assert "hf download --repo-type dataset" in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnavailableError, match="HF_HUB_OFFLINE is set"):
        mme.load(Path("hub:lmms-lab"), digests)
    assert list(cache.iterdir()) == []


def test_other_organisations_are_no_hub_roots(digests: DigestMemo) -> None:
    """The names that are known are listed."""
    with pytest.raises(UsageError, match="must be hub:lmms-lab-encoder or hub:lmms-lab"):
        mme.load(Path("hub:somebody"), digests)
