"""What our encoders give against the same architecture as transformers writes it, under one set of named weights.

Prefix tokens, the final norm, the global feature, normalisation and position tables are all part of what is compared.
With -s the relative differences are printed; `pytest -m golden` adds the dearer ones.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.registry import resolve
from evals.types import Encoder
from tests.golden.named import named
from tests.parity import hf_weights
from tests.parity.comparing import ROUNDING, apart, normalised, picture

pytestmark = pytest.mark.golden

SIZES = ((224, 224), (256, 256), (512, 512), (256, 384), (96, 320))
"""Rows and columns: squares, and two that are not."""
GOLDEN = pytest.mark.golden


def patches(encoder: Encoder, image: Tensor) -> Tensor:
    """[B, N, D]."""
    return encoder(image).patches_BHWD.flatten(1, 2)


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("eupe-vit-t", False),
        ("eupe-vit-s", False),
        ("eupe-vit-b", True),
        ("dinov3-vit-s", False),  # without biases on queries, keys and values
        ("dinov3-vit-b", True),
        ("dinov3-vit-s-plus", True),  # gated
        pytest.param("eupe-vit-b", False, marks=GOLDEN),
        pytest.param("dinov3-vit-b", False, marks=GOLDEN),
        pytest.param("dinov3-vit-h-plus", True, marks=GOLDEN),
    ],
)
def test_dinov3_transformers(name: str, cut: bool) -> None:
    """Patches and class token of the rotary family, at every size."""
    encoder = named(resolve(name), cut=cut)
    twin = hf_weights.dinov3_vit(encoder.model)
    for size in SIZES:
        image = picture(*size)
        features, tokens = encoder(image), twin(normalised(image, "imagenet")).last_hidden_state
        assert apart(f"{name} {size} class token", features.pooled_BD, tokens[:, 0]) < ROUNDING
        assert apart(f"{name} {size} patches", features.patches_BHWD.flatten(1, 2), tokens[:, 5:]) < ROUNDING


def test_blocks_count_from_zero() -> None:
    """Layer i without the norm is state i + 1 of transformers, whose first is what goes into the blocks."""
    encoder = named(resolve("eupe-vit-t"))
    image = picture(96, 160)
    states = hf_weights.dinov3_vit(encoder.model)(
        normalised(image, "imagenet"), output_hidden_states=True
    ).hidden_states
    for index, layer in enumerate(encoder(image, layers=range(12), norm=False).layers):
        assert apart(f"eupe-vit-t block {index}", layer.flatten(1, 2), states[index + 1][:, 5:]) < ROUNDING


@pytest.mark.parametrize(
    "name", ["eupe-convnext-t", "dinov3-convnext-t", pytest.param("eupe-convnext-b", marks=GOLDEN)]
)
def test_dinov3_convnexts(name: str) -> None:
    """The map under the final norm, and the norm of its mean."""
    encoder = named(resolve(name))
    twin = hf_weights.dinov3_convnext(encoder.model)
    for size in SIZES:
        image = picture(*size)
        features, theirs = encoder(image), twin(normalised(image, "imagenet"))
        assert apart(f"{name} {size} mean", features.pooled_BD, theirs.pooler_output) < ROUNDING
        tokens = theirs.last_hidden_state[:, 1:]
        assert apart(f"{name} {size} patches", features.patches_BHWD.flatten(1, 2), tokens) < ROUNDING


@pytest.mark.parametrize("size", [(518, 518), (224, 224), (140, 322)])
def test_dinov2_with_registers(size: tuple[int, int]) -> None:
    """Both libraries resample positions as upstream does, with antialias: nothing differs at any size."""
    encoder: Any = named(resolve("dinov2-reg-s"), cut=True)
    features, image = encoder(picture(*size)), normalised(picture(*size), "imagenet")
    tokens = hf_weights.dinov2(encoder.model)(image).last_hidden_state
    assert apart(f"dinov2-reg-s {size} class token", features.pooled_BD, tokens[:, 0]) < ROUNDING
    assert apart(f"dinov2-reg-s {size} patches", features.patches_BHWD.flatten(1, 2), tokens[:, 5:]) < ROUNDING


@pytest.mark.parametrize("size", [(518, 518), (224, 224), (140, 322)])
def test_dinov2_positions(size: tuple[int, int]) -> None:
    """Away from the native size transformers is not upstream; with upstream's table in it, nothing differs."""
    encoder: Any = named(resolve("dinov2-s"), cut=True)
    smooth(encoder.model.pos_embed)
    twin, image = hf_weights.dinov2(encoder.model), normalised(picture(*size), "imagenet")
    tokens, theirs = patches(encoder, picture(*size)), twin(image).last_hidden_state[:, 1:]
    drift = apart(f"dinov2-s {size} patches, own table each", tokens, theirs)
    assert drift < ROUNDING if size == (518, 518) else 1e-3 < drift < 0.1
    table = twin.embeddings.position_embeddings
    grid = table[:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    scale = [(side // 14 + 0.1) / 37 for side in size]
    grid = functional.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=False)
    upstream = torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    twin.embeddings.interpolate_pos_encoding = lambda *_: upstream if size != (518, 518) else table
    assert apart(f"dinov2-s {size} patches, upstream's table", tokens, twin(image).last_hidden_state[:, 1:]) < ROUNDING


@pytest.mark.parametrize("size", [(448, 448), (224, 224), (140, 322)])
def test_tipsv2(size: tuple[int, int]) -> None:
    """Patches and both class tokens, at every size: the rule of positions is that of transformers, and upstream's."""
    encoder: Any = named(resolve("tipsv2-b"), cut=True)
    features = encoder(picture(*size))
    tokens = hf_weights.tipsv2(encoder.model)(picture(*size)).last_hidden_state
    assert apart(f"tipsv2-b {size} first class token", features.pooled_BD, tokens[:, 0]) < ROUNDING
    assert apart(f"tipsv2-b {size} second class token", features.others["cls2"], tokens[:, 1]) < ROUNDING
    assert apart(f"tipsv2-b {size} patches", features.patches_BHWD.flatten(1, 2), tokens[:, 2:]) < ROUNDING


def test_aimv2() -> None:
    """Patches under the final norm at the native size."""
    encoder: Any = named(resolve("aimv2-l"), cut=True)
    theirs = hf_weights.aimv2(encoder.model)(normalised(picture(224, 224), "clip")).last_hidden_state
    assert apart("aimv2-l patches", patches(encoder, picture(224, 224)), theirs) < ROUNDING


def test_clip() -> None:
    """Patches under the final norm, which transformers applies to the class token alone, and that token."""
    encoder: Any = named(resolve("clip-b16"))
    twin, image = hf_weights.clip(encoder.trunk), picture(224, 224)
    features, theirs = encoder(image), twin(normalised(image, "clip"))
    tokens = twin.post_layernorm(theirs.last_hidden_state)[:, 1:]
    assert apart("clip-b16 class token", features.pooled_BD, theirs.pooler_output) < ROUNDING
    assert apart("clip-b16 patches", features.patches_BHWD.flatten(1, 2), tokens) < ROUNDING


def test_siglip2() -> None:
    """Two forms of one GELU keep the libraries apart by no more than 1e-3, and nothing else does."""
    encoder: Any = named(resolve("siglip2-b"))
    twin, image = hf_weights.siglip(encoder.trunk), picture(224, 224)
    features, theirs = encoder(image), twin(normalised(image, "half"))
    tokens, pooled = features.patches_BHWD.flatten(1, 2), features.pooled_BD
    assert ROUNDING < apart("siglip2-b patches", tokens, theirs.last_hidden_state) < 1e-3
    assert ROUNDING < apart("siglip2-b pool", pooled, theirs.pooler_output) < 1e-3
    for part in twin.modules():
        if type(part).__name__ == "SiglipMLP":
            part.activation_fn = nn.GELU()
    theirs = twin(normalised(image, "half"))
    assert apart("siglip2-b patches, exact GELU in both", tokens, theirs.last_hidden_state) < ROUNDING
    assert apart("siglip2-b pool, exact GELU in both", pooled, theirs.pooler_output) < ROUNDING


RADIO_SIZES = ((224, 224), (256, 384), (96, 320))


def test_radio() -> None:
    """Our stem and summary against RadioModel as it stands, which normalises and places positions itself."""
    encoder: Any = named(resolve("radiov2.5-b"), cut=True)
    twin = hf_weights.radio_again(encoder.model)
    for size in (*RADIO_SIZES, (768, 768)):
        assert max(radio_apart("radiov2.5-b", encoder, twin, size)) < ROUNDING


@pytest.mark.parametrize(("name", "classes"), [("c-radiov4-so400m", 3), ("c-radiov3-b", 4)])
def test_c_radio(name: str, classes: int) -> None:
    """Timm's flexible transformer against RadioModel, where both align corners alike (RadioModel never does)."""
    entry = resolve(name)
    encoder: Any = named(replace(entry, positions="radio"), cut=True)
    encoder.model.embeds.proj.bias.zero_()
    trained = [i for i, word in enumerate(entry.prefix or ()) if not word.startswith("(") and word != "reg"]
    twin = hf_weights.radio(encoder.model, classes=classes, summary=trained)
    for size in RADIO_SIZES:
        assert max(radio_apart(name, encoder, twin, size)) < ROUNDING


def test_aligned_corners_are_another_encoder() -> None:
    """C-RADIOv3-B as timm has it aligns corners, which RadioModel does not: by how much they differ is seen."""
    encoder: Any = named(resolve("c-radiov3-b"), cut=True)
    encoder.model.embeds.proj.bias.zero_()
    twin = hf_weights.radio(encoder.model, classes=4, summary=[0, 1, 2])
    _, patches_apart = radio_apart("c-radiov3-b, corners aligned", encoder, twin, (256, 256))
    assert patches_apart > 1e-2


def radio_apart(name: str, encoder: Encoder, twin: Any, size: tuple[int, int]) -> tuple[float, float]:
    """How far summary and patches are apart."""
    features, theirs = encoder(picture(*size)), twin(picture(*size))
    return (
        apart(f"{name} {size} summary", features.pooled_BD, theirs.summary),
        apart(f"{name} {size} patches", features.patches_BHWD.flatten(1, 2), theirs.features),
    )


def smooth(table_1ND: Tensor) -> None:
    """Leave of a table of 37 x 37 positions, in place, waves as slow as training makes them."""
    slow = functional.interpolate(table_1ND[:, 1:65].unflatten(1, (8, 8)).permute(0, 3, 1, 2), (37, 37), mode="bicubic")
    table_1ND[:, 1:] = slow.flatten(2).transpose(1, 2)
