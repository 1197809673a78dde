"""What `new-encoder` writes can be filled in and used, and entries survive being written and read."""

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from evals.encoders.card import card
from evals.encoders.entry import KEYS, REQUIRED, EncoderEntry, read_entry
from evals.encoders.load import load
from evals.encoders.plugins import GROUP
from evals.encoders.registry import names, resolve
from evals.encoders.scaffold.template import as_yaml, template, write_new
from evals.errors import UsageError
from evals.files import DigestMemo
from evals.notes import field_notes

FILLED = {
    "model": "vit_tiny_patch16_224",
    "global_feature": "cls",
    "licence": "Apache-2.0",
    "size": "224",
    "patch": "16",
}


@pytest.mark.parametrize("name", [name for name in names() if resolve(name).source != "export"])
def test_an_entry_reads_back_as_it_was(name: str) -> None:
    """Its text gives the same entry, without need of the family."""
    entry = resolve(name)
    assert read_entry(name, yaml.safe_load(as_yaml(entry))) == replace(entry, family=None)


def test_every_value_survives() -> None:
    """Numbers, words, lists and text that YAML would take for something else."""
    values = {"source": "timm", **FILLED, "size": 224, "patch": 16, "mean": [0.1, 0.2, 1e-7], "std": [1, 2, 3]}
    values |= {"prefix": "cls reg*12 (x)", "ignore": "a. b", "note": "yes: 'it' #is\nso", "licence": "1.0", "dim": 3}
    entry = read_entry("mine", values)
    assert read_entry("mine", yaml.safe_load(as_yaml(entry))) == entry
    assert "prefix: cls reg*12 (x)\n" in as_yaml(entry)
    assert "prefix: none\n" in as_yaml(replace(entry, prefix=()))


@pytest.mark.parametrize("source", ["timm", "hf", "open_clip"])
def test_a_template_has_every_key_once(source: str) -> None:
    """Required keys stand first and open, the others behind a `#` with a note above each."""
    text = template("mine", source)
    open_keys = re.findall(r"^(\w+):", text, re.MULTILINE)
    closed = re.findall(r"^# (\w+):(?= )", text, re.MULTILINE)
    assert tuple(open_keys) == REQUIRED
    assert sorted([*open_keys, *(key for key in closed if key in KEYS)]) == sorted(KEYS)
    assert text.index("# Required") < text.index("\nsource:") < text.index("\npatch:") < text.index("# Optional")
    assert max(map(len, text.splitlines())) <= 120


def test_a_template_not_filled_in_says_what_lacks(tmp_path: Path) -> None:
    """An open key is refused by name."""
    write_new("mine", "timm", tmp_path)
    with pytest.raises(UsageError, match="model in the entry of encoder 'mine' must be text"):
        resolve("mine", extra=tmp_path)


@pytest.mark.parametrize("everything", [False, True])
def test_a_template_loads_once_filled_in(everything: bool, tmp_path: Path) -> None:
    """Six values make the entry; opening every optional key as it stands changes nothing."""
    (path,) = write_new("mine", "timm", tmp_path)
    text = path.read_text()
    for key, value in FILLED.items():
        text = text.replace(f"\n{key}:\n", f"\n{key}: {value}\n")
    if everything:
        optional = "|".join(key for key in KEYS if key not in (*REQUIRED, "normalise"))
        text = re.sub(rf"^# ({optional}):(?= )", r"\1:", text, flags=re.MULTILINE)
    path.write_text(text)
    entry = resolve("mine", extra=tmp_path)
    assert entry == read_entry("mine", {"source": "timm", **FILLED, "size": 224, "patch": 16})
    assert load(replace(entry, weights="random"), DigestMemo(None)).dim == 192


def test_words_are_listed_where_the_note_does_not() -> None:
    """Closed lists of words stand in the note, once."""
    text = " ".join(template("mine", "timm").replace("# ", "").split())
    assert "One of: crop, squash. resize: crop" in text
    assert "One of: final, untrained, none_exists. norm: null" in text
    assert text.count("gap_norm") == 1


@pytest.mark.parametrize("source", ["timm", "plugin"])
def test_nothing_is_overwritten(source: str, tmp_path: Path) -> None:
    """A file that is there stays as it is, and is named."""
    written = write_new("mine", source, tmp_path)
    written[0].write_text("precious")
    with pytest.raises(UsageError, match=rf"{written[0].name}.* is there already; nothing was written"):
        write_new("mine", source, tmp_path)
    assert written[0].read_text() == "precious"


@pytest.mark.parametrize("name", ["", "../x", "a b", "1st", "a:b", "a/b"])
def test_a_name_must_make_a_file_name(name: str, tmp_path: Path) -> None:
    """Routes, paths and blanks are no names of entries."""
    with pytest.raises(UsageError, match="names a file and a package"):
        write_new(name, "timm", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_skeleton_of_a_package_works_as_it_is(tmp_path: Path) -> None:
    """Its project file announces the module, its entry reads, and its encoder averages patches."""
    write_new("My-enc.2", "plugin", tmp_path)
    folder = tmp_path / "My-enc.2"
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"][GROUP] == {"My_enc_2": "My_enc_2"}
    assert project["tool"]["setuptools"]["packages"] == ["My_enc_2"]
    values = yaml.safe_load((folder / "My_enc_2" / "encoder" / "My-enc.2.yaml").read_text())
    assert values["source"] == "My_enc_2"
    space: dict[str, Any] = {"__name__": "My_enc_2"}
    exec((folder / "My_enc_2" / "__init__.py").read_text(), space)
    entry = read_entry("My-enc.2", values)
    encoder = space["build"](entry, card(entry, DigestMemo(None)))
    image = torch.full((1, 3, 16, 32), 0.485)
    image[..., 16:] = 0.485 + 0.229
    found = encoder(image)
    assert found.pooled_BD is None
    torch.testing.assert_close(found.patches_BHWD[0, 0, :, 0], torch.tensor([0.0, 1.0]), atol=1e-5, rtol=0)


def test_every_key_of_an_entry_is_explained() -> None:
    """A field without a docstring would have nothing to say in the template."""
    assert {item.name for item in fields(EncoderEntry)} == set(field_notes(EncoderEntry))
