"""From a name to an entry: which encoders there are, whose entries go first, and which weights they get."""

from pathlib import Path

import pytest
import yaml

from evals.encoders.registry import adapter, names, resolve, sources
from evals.errors import UsageError

LEAST = {
    "source": "timm",
    "model": "vit_tiny_patch16_224",
    "global_feature": "cls",
    "licence": "Apache-2.0",
    "size": 224,
    "patch": 16,
}


def test_an_unknown_source_names_the_nearest(tmp_path: Path) -> None:
    """A source is a module; a slip in its name is answered with the name."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**LEAST, "source": "tim"}))
    with pytest.raises(UsageError, match=r"unknown source .*Nearest: timm"):
        resolve("mine", extra=tmp_path)


def test_unknown_encoder_names_the_nearest() -> None:
    """A slip in a name is answered with the name."""
    with pytest.raises(UsageError, match=r"unknown encoder 'eupe-vit-x'\. Nearest: .*eupe-vit-[tsb]"):
        resolve("eupe-vit-x")


def test_entries_of_a_folder_of_ones_own(tmp_path: Path) -> None:
    """A folder of the user's adds its entries; a broken file is named."""
    (tmp_path / "mine.yaml").write_text("\n".join(f"{key}: {value}" for key, value in LEAST.items()))
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "list.yaml").write_text("- a")
    assert {"mine", "eupe-vit-t"} <= set(names(tmp_path))
    assert resolve("mine", extra=tmp_path).model == "vit_tiny_patch16_224"
    for name in ("broken", "list"):
        with pytest.raises(UsageError, match=rf"{name}\.yaml"):
            resolve(name, extra=tmp_path)


@pytest.mark.parametrize("name", ["mine", "eupe-vit-t", "timm:vit_tiny_patch16_224"])
def test_a_folder_of_entries_that_is_none(tmp_path: Path, name: str) -> None:
    """A slip in the folder is told, whichever encoder was asked for."""
    with pytest.raises(UsageError, match=r"missing' does not exist.*--config-dir"):
        resolve(name, extra=tmp_path / "missing")
    with pytest.raises(UsageError, match="missing"):
        names(tmp_path / "missing")


def test_weights_are_a_word_or_a_file(tmp_path: Path) -> None:
    """A path must exist; an encoder with nothing to load stays so under a word and refuses a file."""
    with pytest.raises(UsageError, match="no such file"):
        resolve("eupe-vit-t", weights="randon")
    with pytest.raises(UsageError, match="does not fit"):
        resolve("eupe-vit-t", weights="none")
    assert resolve("pixels", weights="random").weights == "none"
    file = tmp_path / "w.pt"
    file.write_bytes(b"x")
    with pytest.raises(UsageError, match="does not fit"):
        resolve("pixels", weights=str(file))


def test_one_encoder_untrained_among_others(tmp_path: Path) -> None:
    """The word behind a name stands over the weights that all get; what has nothing to load stays as it is."""
    path = tmp_path / "weights.safetensors"
    path.touch()
    assert resolve("eupe-vit-t@random", weights=str(path)).weights == "random"
    assert resolve("timm:vit_tiny_patch16_224@random").weights == "random"
    assert resolve("eupe-vit-t@random") == resolve("eupe-vit-t", weights="random")
    assert resolve("pixels@random").weights == "none"


def test_an_entry_of_ones_own_goes_first(tmp_path: Path) -> None:
    """A file in the user's folder takes the place of the project's entry of that name, and of no other."""
    (tmp_path / "eupe-vit-t.yaml").write_text(yaml.safe_dump(LEAST))
    assert resolve("eupe-vit-t", extra=tmp_path).source == "timm"
    assert resolve("eupe-vit-t").source == "eupe"
    assert resolve("eupe-vit-s", extra=tmp_path).source == "eupe"
    assert names(tmp_path) == names()


def test_every_source_can_build() -> None:
    """Every module among the sources has `build`."""
    assert {"timm", "eupe", "pixels", "torch_hub"} <= set(sources())
    for source in sources():
        assert callable(adapter(source).build)
    with pytest.raises(UsageError, match="unknown source of encoders 'routes'"):
        adapter("routes")
