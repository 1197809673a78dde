"""Weights that do not fit are told where they would."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from evals.encoders import fitting
from evals.encoders.entry import EncoderEntry
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import UsageError, WeightsError
from evals.files import DigestMemo


@pytest.fixture(autouse=True)
def _patient(advised: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine gives the same answers."""
    monkeypatch.setattr(fitting, "_PATIENCE", 60.0)


def theia(width: int, folder: Path) -> Path:
    """A file in the layout of Theia, of a width, all zeros."""
    layer = {f"attention.attention.{name}": (width, width) for name in ("query", "key", "value")}
    layer |= {"attention.output.dense": (width, width), "intermediate.dense": (4 * width, width)}
    layer |= {"output.dense": (width, 4 * width), "layernorm_before": (width,), "layernorm_after": (width,)}
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, 197, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 16, 16),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    for index in range(12):
        for name, shape in layer.items():
            shapes |= {f"encoder.layer.{index}.{name}.{kind}": shape[:n] for kind, n in (("weight", 2), ("bias", 1))}
    save_file({f"backbone.model.{key}": torch.zeros(shape) for key, shape in shapes.items()}, folder / "w.safetensors")
    return folder / "w.safetensors"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("theia-s", r"embeddings\.cls_token \(1, 1, 192\) instead of \(1, 1, 384\)"),
        ("eupe-vit-t", r"unexpected: backbone\.model\.embeddings"),
        ("dinov3-vit-s", r"missing: cls_token"),
    ],
)
def test_another_size_or_family_names_the_entry(tmp_path: Path, given: str, words: str) -> None:
    """The first differing keys, then the entry of the file, from another size and from other families."""
    path = theia(192, tmp_path)
    with pytest.raises(WeightsError, match=words) as caught:
        load(resolve(given, weights=str(path)), DigestMemo(None))
    assert str(caught.value).endswith("By its names and shapes it fits theia-t.")


def test_several_entries_may_fit(tmp_path: Path) -> None:
    """Two checkpoints of one architecture cannot be told apart by their shapes."""
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch14_reg4_dinov2", num_classes=0, img_size=448)
    shapes = {key.replace("reg_token", "register_tokens"): value.shape for key, value in model.state_dict().items()}
    shapes["pos_embed"] = torch.Size([1, 1025, 768])
    save_file({key: torch.zeros(shape).half() for key, shape in shapes.items()}, tmp_path / "w.safetensors")
    assert fitting.fitting(tmp_path / "w.safetensors", source="dune")[:2] == ["dune-b", "dune-b-448"]


def test_a_file_of_nothing_known_gets_the_bare_error(tmp_path: Path) -> None:
    """Where no entry fits, nothing is added."""
    save_file({"encoder.weight": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"unexpected: encoder\.weight\.$"):
        load(resolve("theia-t", weights=str(tmp_path / "w.safetensors")), DigestMemo(None))


@pytest.mark.parametrize("error", [UsageError("an entry"), RuntimeError("a tensor"), KeyError("a key")])
def test_nothing_masks_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Entries that cannot be read, and adapters that stumble, leave the original error as it is."""

    def fails(*_: object) -> EncoderEntry:
        raise error

    path = theia(192, tmp_path)
    entry = resolve("theia-s", weights=str(path))
    monkeypatch.setattr(fitting, "resolve" if isinstance(error, UsageError) else "adapter", fails)
    with pytest.raises(WeightsError, match=r"does not fit the architecture: of another shape: .* more\.$"):
        load(entry, DigestMemo(None))


def test_advice_does_not_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is up no further entry is tried."""
    path = theia(192, tmp_path)
    assert fitting.fitting(path, source="theia") == ["theia-t"]
    monkeypatch.setattr(fitting, "_PATIENCE", -1.0)
    assert fitting.fitting(path, source="theia") == []
