"""The open_clip adapter against open_clip itself."""

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from evals.encoders.entry import read_entry
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo
from evals.types import TextAlignedEncoder

ARCH = "PE-Core-T-16-384"
VALUES = {
    "source": "open_clip",
    "model": f"{ARCH}/meta",
    "global_feature": "attn_pool",
    "licence": "Apache-2.0",
    "size": 384,
    "patch": 16,
    "interpolation": "bilinear",
    "resize": "squash",
    "normalise": "half",
}


@cache
def upstream() -> Any:
    """open_clip's own model, every parameter moved."""
    config = open_clip.get_model_config(ARCH)
    config.pop("custom_text")
    model = open_clip.CustomTextCLIP(**config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def encoder_of(folder: Path, **changes: torch.Tensor) -> TextAlignedEncoder:
    """The adapter with upstream's weights."""
    path = folder / "w.safetensors"
    tensors: Mapping[str, torch.Tensor] = {**upstream().state_dict(), **changes}
    save_file({key: value.clone() for key, value in tensors.items()}, path)
    encoder = load(read_entry("pe-core-t", {**VALUES, "weights": str(path)}), DigestMemo(None))
    assert isinstance(encoder, TextAlignedEncoder)
    return encoder


def test_images_and_text_are_upstreams(tmp_path: Path) -> None:
    """Image and text vectors equal open_clip's bit for bit; the global feature is what comes before the projection."""
    encoder, model = encoder_of(tmp_path), upstream()
    images = torch.rand(2, 3, 384, 384, generator=torch.Generator().manual_seed(1))
    prompts = ["a photo of a Tiger.", "  two DOGS &amp; a cat ", "x" * 300]
    features = encoder(images)
    assert torch.equal(encoder.encode_image(features), model.encode_image((images - 0.5) / 0.5, normalize=True))
    ids = open_clip.get_tokenizer(ARCH)(prompts)
    assert torch.equal(encoder.encode_text(prompts), model.encode_text(ids, normalize=True))
    tokens = model.visual.trunk.forward_features((images - 0.5) / 0.5)
    assert features.pooled_BD is not None
    assert torch.equal(features.pooled_BD, model.visual.trunk.attn_pool(tokens))
    assert torch.equal(features.patches_BHWD.flatten(1, 2), tokens[:, 1:])


def test_vectors_have_length_one_in_one_space(tmp_path: Path) -> None:
    """Unit vectors of 512 numbers on both sides, at a size that is not the native one."""
    encoder = encoder_of(tmp_path, logit_scale=torch.ones(1))
    image = encoder.encode_image(encoder(torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))))
    text = encoder.encode_text(["a cat", "a dog"])
    assert (image.shape, text.shape) == ((1, 512), (2, 512))
    torch.testing.assert_close(torch.cat([image, text]).norm(dim=-1), torch.ones(3))


def test_many_prompts_are_those_of_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More prompts than one pass takes come out in order."""
    encoder = encoder_of(tmp_path)
    prompts = ["a cat", "a dog", "a house", "a tree", "a boat"]
    together = encoder.encode_text(prompts)
    monkeypatch.setattr("evals.encoders.open_clip._PROMPTS", 2)
    torch.testing.assert_close(encoder.encode_text(prompts), together, rtol=1e-4, atol=1e-5)


def test_parameters_count_the_image_tower_alone(tmp_path: Path) -> None:
    """The card's size is that of what sees the image, projection included."""
    assert encoder_of(tmp_path).card.params == sum(p.numel() for p in upstream().visual.parameters())


def test_a_file_without_a_text_tower_is_refused(tmp_path: Path) -> None:
    """An image tower alone is not this encoder: the missing keys are named."""
    save_file({k: v for k, v in upstream().state_dict().items() if k.startswith("visual.")}, tmp_path / "w.safetensors")
    entry = read_entry("pe-core-t", {**VALUES, "weights": str(tmp_path / "w.safetensors")})
    with pytest.raises(WeightsError, match=r"missing: logit_scale, text\."):
        load(entry, DigestMemo(None))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "PE-Core-T-16"}, "unknown open_clip architecture .*Nearest: .*PE-Core-T-16-384"),
        ({"model": "PE-Core-T-16-384/openai"}, "must be <architecture>/<tag>: meta"),
        ({"model": "ViT-B-32/openai"}, "the image tower must be a timm transformer"),
        ({"model": "ViT-B-16-SigLIP2/webli"}, "its tokenizer does not come with open_clip"),
        ({"normalise": "clip"}, "mean, std, interpolation, resize .*open_clip has .*0.5"),
        ({"resize": "crop"}, "mean, std, interpolation, resize"),
    ],
)
def test_entries_are_held_against_open_clip(changes: dict[str, object], words: str) -> None:
    """Architecture, tag, tokenizer and preprocessing must be open_clip's own."""
    with pytest.raises(UsageError, match=words):
        load(read_entry("mine", {**VALUES, "weights": "random", **changes}), DigestMemo(None))


def test_another_gelu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights trained with the quick GELU are not run with the exact one."""
    tag = {**open_clip.get_pretrained_cfg(ARCH, "meta"), "quick_gelu": True}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, of: tag)
    with pytest.raises(UsageError, match="another GELU"):
        load(read_entry("mine", {**VALUES, "weights": "random"}), DigestMemo(None))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command that installs it."""
    entry = resolve("pe-core-b", weights="random")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UnavailableError, match=r"pip install 'eupe-eval\[text\]'") as caught:
        load(entry, DigestMemo(None))
    assert caught.value.missing == "package"
