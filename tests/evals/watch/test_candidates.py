"""What counts as a candidate, and what proves that it is whole."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evals.encoders.exports.manifest import BACKBONE, MANIFEST
from evals.errors import UsageError
from evals.watch.candidates import Candidate, NotReadyError, find, identity, look_again, prove
from tests.evals.watch.watching import export


def names(root: Path, *, files: bool = True) -> list[str]:
    """What is found."""
    return [candidate.name for candidate in find(root, files=files).candidates]


def only(root: Path) -> Candidate:
    """The one thing that is found."""
    (candidate,) = find(root, files=True).candidates
    return candidate


def reason(candidate: Candidate) -> str:
    """Why it is not whole."""
    with pytest.raises(NotReadyError) as caught:
        prove(candidate)
    return str(caught.value)


def test_exports_and_weight_files_at_any_depth(tmp_path: Path) -> None:
    """Both are found by name; what belongs to an export, other suffixes, hidden and temporary names are not."""
    export(tmp_path / "run" / "step-1")
    export(tmp_path / "top")
    for name in (
        *("a.pt", "deep/er/b.pth", "deep/c.safetensors", "d.bin", ".hidden.pt", "e.tmp.pt", "x.pt.part", "f.pt~"),
        *("tmp-g/g.pt", ".git/h.pt", "top/extra.pt", "incomplete_i.pt", "template.pt"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = {"run/step-1", "top", "a.pt", "deep/er/b.pth", "deep/c.safetensors", "template.pt"}
    assert set(names(tmp_path)) == expected
    assert set(names(tmp_path, files=False)) == {"run/step-1", "top"}
    passed = find(tmp_path, files=False).passed_over
    assert set(passed) == expected - {"run/step-1", "top"}
    assert "--encoder" in passed["a.pt"]


def test_what_is_passed_over_says_why(tmp_path: Path) -> None:
    """One part of several, and an export without its manifest, whose tensors are no weight file."""
    export(tmp_path / "half")
    (tmp_path / "half" / MANIFEST).unlink()
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    found = find(tmp_path, files=True)
    assert found.candidates == []
    assert "one part of several" in found.passed_over["model-00001-of-00002.safetensors"]
    assert "no export.json, which is written last" in found.passed_over["half"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    """A circle ends; a link to what is there already gives no second candidate, whichever name sorts first."""
    export(tmp_path / "run" / "step-1")
    (tmp_path / "a-latest").symlink_to(tmp_path / "run" / "step-1")
    (tmp_path / "run" / "circle").symlink_to(tmp_path)
    (tmp_path / "itself.pt").symlink_to(tmp_path / "itself.pt")
    (tmp_path / "nowhere.pt").symlink_to(tmp_path / "nothing.pt")
    export(tmp_path.parent / "elsewhere" / "step-2")
    (tmp_path / "other").symlink_to(tmp_path.parent / "elsewhere")
    assert names(tmp_path) == ["run/step-1", "other/step-2"]


def test_the_watched_folder_may_be_an_export_and_must_be_a_folder(tmp_path: Path) -> None:
    """An export given itself is one candidate; a folder that is not there is wrong usage."""
    export(tmp_path / "one")
    assert names(tmp_path / "one") == ["one"]
    with pytest.raises(UsageError, match="no folder"):
        find(tmp_path / "nothing", files=True)


def test_a_look_notices_every_write(tmp_path: Path) -> None:
    """Size, time of change, a new file and a removed one each make another look; nothing at all is None."""
    export(tmp_path / "one")
    first = only(tmp_path)
    assert look_again(first) == first.look == only(tmp_path).look
    backbone = tmp_path / "one" / BACKBONE
    looks = {first.look}
    backbone.write_bytes(backbone.read_bytes() + b"x")
    looks.add(str(look_again(first)))
    os.utime(backbone, (1, 1))
    looks.add(str(look_again(first)))
    (tmp_path / "one" / "more").touch()
    looks.add(str(look_again(first)))
    assert len(looks) == 4
    (tmp_path / "one").rename(tmp_path / ".gone")
    assert look_again(first) is None


def test_a_whole_export_is_proved_and_known_by_its_manifest(tmp_path: Path) -> None:
    """Its identity is the digest that its records carry."""
    digest = export(tmp_path / "one")
    prove(only(tmp_path))
    assert identity(only(tmp_path)) == digest


def test_a_damaged_export_is_not_ready(tmp_path: Path) -> None:
    """Cut short, another byte, a file missing, half a manifest: never whole, each for its own reason."""
    damages: dict[str, Callable[[Path], object]] = {
        "instead of": lambda one: (one / BACKBONE).write_bytes(b"tensors"),
        "is not the file that was exported": lambda one: (one / BACKBONE).write_bytes(b"Tensors of one"),
        "is missing": lambda one: (one / BACKBONE).unlink(),
        "cannot be read as JSON": lambda one: (one / MANIFEST).write_text((one / MANIFEST).read_text()[:-20]),
    }
    for at, (expected, damage) in enumerate(damages.items()):
        folder = tmp_path / str(at) / "one"
        export(folder)
        damage(folder)
        assert expected in reason(only(tmp_path / str(at)))


def test_a_manifest_that_says_nonsense_is_whole(tmp_path: Path) -> None:
    """It will not get better by waiting: the evaluation refuses it."""
    export(tmp_path / "one")
    path = tmp_path / "one" / MANIFEST
    path.write_text(path.read_text().replace('"patch": 16', '"patch": "sixteen"'))
    prove(only(tmp_path))


def test_safetensors_are_whole_at_one_length_only(tmp_path: Path) -> None:
    """Every beginning of the file is refused, and so is one byte too many."""
    path = tmp_path / "step-1.safetensors"
    save_file({"a": torch.arange(5.0), "b": torch.ones(3)}, path, metadata={"format": "pt"})
    whole = path.read_bytes()
    prove(only(tmp_path))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert reason(only(tmp_path))
    path.write_bytes(whole + b"\0")
    assert "announces" in reason(only(tmp_path))
    path.write_bytes(b"\x02" + b"\0" * 7 + b"[]")
    assert "no header" in reason(only(tmp_path))


def test_archives_of_torch_are_whole_with_their_end(tmp_path: Path) -> None:
    """Beginnings of the file are refused, another zip and the old format too."""
    path = tmp_path / "step-1.pt"
    torch.save({"a": torch.arange(5.0)}, path)
    whole = path.read_bytes()
    prove(only(tmp_path))
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert "it has no end" in reason(only(tmp_path))
    torch.save({"a": torch.arange(5.0)}, path, _use_new_zipfile_serialization=False)
    assert "torch before 1.6" in reason(only(tmp_path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "none of torch.save" in reason(only(tmp_path))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """An archive whose pickle would write a file when it is read is proved and known without that."""

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "boom",)

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    (tmp_path / "bad.pt").write_bytes(buffer.getvalue())
    prove(only(tmp_path))
    assert len(identity(only(tmp_path))) == 64
    assert not (tmp_path / "boom").exists()
