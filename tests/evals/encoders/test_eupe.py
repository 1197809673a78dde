"""EUPE checkpoints in the authors' layout: loaded strictly, computed as the layout says, refused with reasons."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from evals.encoders import fitting
from evals.encoders.load import load
from evals.encoders.registry import names, resolve
from evals.errors import WeightsError
from evals.files import DigestMemo
from evals.types import Encoder

Tensors = dict[str, Tensor]
WIDTH, HEADS = 192, 3
CONV = {"t": (96, (3, 3, 9, 3)), "s": (96, (3, 3, 27, 3)), "b": (128, (3, 3, 27, 3))}


def vit(width: int = WIDTH, *, hollow: bool = False) -> Tensors:
    """Random tensors under the names of the released ViT files, distillation heads included.

    Hollow ones are a zero that is spread over the shape, and take no room in a file.
    """
    draw = torch.Generator().manual_seed(0)

    def r(*shape: int, scale: float = 0.02, middle: float = 0.0) -> Tensor:
        if hollow:
            return torch.zeros(()).expand(shape)
        return middle + scale * torch.randn(*shape, generator=draw)

    tensors = {
        "cls_token": r(1, 1, width),
        "storage_tokens": r(1, 4, width),
        "mask_token": r(1, width),
        "patch_embed.proj.weight": r(width, 3, 16, 16),
        "patch_embed.proj.bias": r(width),
        "rope_embed.periods": 100.0 ** (torch.arange(16) / 16),
        "norm.weight": r(width, middle=1.0),
        "norm.bias": r(width),
        "projectors.heads.dinov3radio.0.weight": r(8, width),
    }
    for i in range(12):
        block = {
            "attn.qkv.weight": r(3 * width, width, scale=0.15),
            "attn.qkv.bias": r(3 * width, scale=0.2),
            "attn.qkv.bias_mask": torch.cat([torch.ones(width), torch.zeros(width), torch.ones(width)]),
            "attn.proj.weight": r(width, width),
            "attn.proj.bias": r(width),
            "mlp.fc1.weight": r(4 * width, width),
            "mlp.fc1.bias": r(4 * width),
            "mlp.fc2.weight": r(width, 4 * width),
            "mlp.fc2.bias": r(width),
        }
        for j in (1, 2):
            block |= {
                f"norm{j}.weight": r(width, middle=1.0),
                f"norm{j}.bias": r(width),
                f"ls{j}.gamma": r(width, scale=0.5),
            }
        tensors |= {f"blocks.{i}.{key}": value for key, value in block.items()}
    return tensors


def vit_forward(t: Mapping[str, Tensor], image: Tensor) -> Tensor:
    """All tokens after the final norm, computed from the authors' names by the published description."""
    x = F.conv2d(image, t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], stride=16)
    rows, columns = x.shape[2:]
    x = torch.cat([t["cls_token"], t["storage_tokens"], x.flatten(2).transpose(1, 2)], dim=1)
    angles = []
    for row in range(rows):
        for column in range(columns):
            y, z = 2 * (row + 0.5) / rows - 1, 2 * (column + 0.5) / columns - 1
            angles.append(
                torch.cat([2 * math.pi * y / t["rope_embed.periods"], 2 * math.pi * z / t["rope_embed.periods"]])
            )
    angle = torch.stack(angles).repeat(1, 2)

    def rotate(v: Tensor) -> Tensor:
        prefix, patches = v[:, :, :5], v[:, :, 5:]
        halves = torch.cat([-patches[..., 32:], patches[..., :32]], dim=-1)
        return torch.cat([prefix, patches * angle.cos() + halves * angle.sin()], dim=2)

    def norm(v: Tensor, name: str) -> Tensor:
        return F.layer_norm(v, (WIDTH,), t[f"{name}.weight"], t[f"{name}.bias"], 1e-5)

    for i in range(12):
        b = f"blocks.{i}"
        bias = t[f"{b}.attn.qkv.bias"] * t[f"{b}.attn.qkv.bias_mask"]
        qkv = F.linear(norm(x, f"{b}.norm1"), t[f"{b}.attn.qkv.weight"], bias)
        q, k, v = qkv.reshape(1, -1, 3, HEADS, 64).permute(2, 0, 3, 1, 4)
        weights = (rotate(q) @ rotate(k).transpose(-1, -2) / 8).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(1, -1, WIDTH)
        x = x + t[f"{b}.ls1.gamma"] * F.linear(mixed, t[f"{b}.attn.proj.weight"], t[f"{b}.attn.proj.bias"])
        hidden = F.gelu(F.linear(norm(x, f"{b}.norm2"), t[f"{b}.mlp.fc1.weight"], t[f"{b}.mlp.fc1.bias"]))
        x = x + t[f"{b}.ls2.gamma"] * F.linear(hidden, t[f"{b}.mlp.fc2.weight"], t[f"{b}.mlp.fc2.bias"])
    return norm(x, "norm")


def convnext(size: str = "t", *, hollow: bool = False) -> Tensors:
    """Random tensors, or hollow ones, under the names of the released ConvNeXt files."""
    draw = torch.Generator().manual_seed(0)
    width, depths = CONV[size]

    def r(*shape: int) -> Tensor:
        return torch.zeros(()).expand(shape) if hollow else 0.1 * torch.randn(*shape, generator=draw)

    def affine(channels: int) -> tuple[Tensor, Tensor]:
        return 1 + r(channels), r(channels)

    def layer(*shape: int) -> tuple[Tensor, Tensor]:
        return r(*shape), r(shape[0])

    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    tensors: Tensors = {}
    for s, depth in enumerate(depths):
        channels = width * 2**s
        pairs |= (
            {"downsample_layers.0.0": layer(channels, 3, 4, 4), "downsample_layers.0.1": affine(channels)}
            if s == 0
            else {
                f"downsample_layers.{s}.0": affine(channels // 2),
                f"downsample_layers.{s}.1": layer(channels, channels // 2, 2, 2),
            }
        )
        for j in range(depth):
            b = f"stages.{s}.{j}"
            pairs |= {f"{b}.dwconv": layer(channels, 1, 7, 7), f"{b}.norm": affine(channels)}
            pairs |= {f"{b}.pwconv1": layer(4 * channels, channels), f"{b}.pwconv2": layer(channels, 4 * channels)}
            tensors[f"{b}.gamma"] = r(channels)
    pairs["norm"] = pairs["norms.3"] = affine(8 * width)
    for name, (weight, bias) in pairs.items():
        tensors |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return tensors


def convnext_forward(t: Mapping[str, Tensor], image: Tensor) -> tuple[Tensor, Tensor]:
    """(global feature, map) of ConvNeXt-T, computed from the authors' names by the published description."""

    def norm(v: Tensor, name: str) -> Tensor:
        return F.layer_norm(v, v.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], 1e-6)

    def down(v: Tensor, name: str, stride: int) -> Tensor:
        moved = F.conv2d(v.permute(0, 3, 1, 2), t[f"{name}.weight"], t[f"{name}.bias"], stride=stride)
        return moved.permute(0, 2, 3, 1)

    x = image.permute(0, 2, 3, 1)
    for s, depth in enumerate(CONV["t"][1]):
        name = f"downsample_layers.{s}"
        x = norm(down(x, f"{name}.0", 4), f"{name}.1") if s == 0 else down(norm(x, f"{name}.0"), f"{name}.1", 2)
        for j in range(depth):
            b = f"stages.{s}.{j}"
            y = F.conv2d(
                x.permute(0, 3, 1, 2), t[f"{b}.dwconv.weight"], t[f"{b}.dwconv.bias"], padding=3, groups=x.shape[-1]
            )
            y = norm(y.permute(0, 2, 3, 1), f"{b}.norm")
            y = F.gelu(F.linear(y, t[f"{b}.pwconv1.weight"], t[f"{b}.pwconv1.bias"]))
            x = x + t[f"{b}.gamma"] * F.linear(y, t[f"{b}.pwconv2.weight"], t[f"{b}.pwconv2.bias"])
    return norm(x.mean((1, 2)), "norm"), norm(x, "norm")


def load_from(tensors: Mapping[str, Tensor], folder: Path, name: str = "eupe-vit-t", file: str = "w.pt") -> Encoder:
    """The encoder of an entry with these tensors as its file."""
    path = folder / file
    if path.suffix == ".safetensors":
        save_file({key: value.clone() for key, value in tensors.items()}, path)
    else:
        torch.save(dict(tensors), path)
    return load(resolve(name, weights=str(path)), DigestMemo(None))


IMAGE = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(7))
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@pytest.mark.parametrize("file", ["w.pt", "w.safetensors"])
def test_a_vit_computes_what_its_file_says(tmp_path: Path, file: str) -> None:
    """Class token and patches equal the published formulas on the authors' tensors; a masked key bias plays no part."""
    tensors = vit()
    features = load_from(tensors, tmp_path, file=file)(IMAGE)
    expected = vit_forward(tensors, (IMAGE - MEAN) / STD)
    assert features.pooled_BD is not None
    torch.testing.assert_close(features.pooled_BD, expected[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features.patches_BHWD.flatten(1, 2), expected[:, 5:], rtol=1e-4, atol=1e-4)


def test_the_periods_of_the_file_are_used(tmp_path: Path) -> None:
    """Periods rounded to bf16 change the features, and the features follow the rounded ones."""
    tensors = vit()
    exact = load_from(tensors, tmp_path, file="exact.pt")(IMAGE).patches_BHWD
    tensors["rope_embed.periods"] = tensors["rope_embed.periods"].bfloat16()
    rounded = load_from(tensors, tmp_path, file="rounded.pt")(IMAGE).patches_BHWD
    tensors["rope_embed.periods"] = tensors["rope_embed.periods"].float()
    expected = vit_forward(tensors, (IMAGE - MEAN) / STD)[:, 5:]
    assert (rounded - exact).abs().max() > 1e-3
    torch.testing.assert_close(rounded.flatten(1, 2), expected, rtol=1e-4, atol=1e-4)


def test_periods_that_are_none_are_refused(tmp_path: Path) -> None:
    """A period of zero would make every feature NaN."""
    tensors = vit()
    tensors["rope_embed.periods"][3] = 0
    with pytest.raises(WeightsError, match=r"w\.\w+: rope_embed\.periods .*16 positive numbers"):
        load_from(tensors, tmp_path)


@pytest.mark.parametrize("key", ["mask_token", "rope_embed.periods", "projectors.heads.dinov3radio.0.weight"])
def test_what_inference_does_not_need_may_lack(tmp_path: Path, key: str) -> None:
    """The mask token, the periods and the distillation heads are optional."""
    tensors = vit()
    del tensors[key]
    assert not load_from(tensors, tmp_path).card.random


@pytest.mark.parametrize("key", ["blocks.7.ls2.gamma", "storage_tokens", "norm.bias", "blocks.0.attn.qkv.bias_mask"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    """A file that lacks one tensor is refused, naming it."""
    tensors = vit()
    del tensors[key]
    with pytest.raises(WeightsError, match=r"w\.\w+ is no complete.*missing: " + key.replace(".", r"\.")):
        load_from(tensors, tmp_path)


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    """A tensor outside the layout is refused, naming it; at most five are listed."""
    extra = {f"blocks.{i}.attn.extra": torch.zeros(1) for i in range(7)}
    with pytest.raises(WeightsError, match=r"unexpected: blocks\.0\.attn\.extra, .*blocks\.4\.attn\.extra and 2 more"):
        load_from(vit() | extra, tmp_path)


def test_a_bias_on_the_keys_is_refused(tmp_path: Path) -> None:
    """A mask that lets a key bias through asks for what the architecture does not compute."""
    tensors = vit()
    tensors["blocks.2.attn.qkv.bias_mask"] = torch.ones(3 * WIDTH)
    with pytest.raises(WeightsError, match=r"w\.\w+: blocks\.2\.attn\.qkv\.bias: .*bias on the keys"):
        load_from(tensors, tmp_path)


def test_the_file_of_another_size_names_its_entry(
    tmp_path: Path, advised: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ViT-S file under eupe-vit-t, and a ConvNeXt-S file under eupe-convnext-t, say where they belong."""
    monkeypatch.setattr(fitting, "_PATIENCE", 60.0)
    monkeypatch.setattr(fitting, "names", lambda: [name for name in names() if name.startswith(("eupe-", "dinov3-"))])
    with pytest.raises(WeightsError, match=r"w\.\w+ does not fit .* it fits eupe-vit-s( or|\.)"):
        load_from(vit(384, hollow=True), tmp_path, "eupe-vit-t")
    with pytest.raises(WeightsError, match="it fits eupe-convnext-s"):
        load_from(convnext("s", hollow=True), tmp_path, "eupe-convnext-t")
    with pytest.raises(WeightsError, match="it fits eupe-convnext-t"):
        load_from(convnext("t", hollow=True), tmp_path, "eupe-vit-t")


def test_a_convnext_computes_what_its_file_says(tmp_path: Path) -> None:
    """Map and global feature equal the published formulas on the authors' tensors, at an oblong size."""
    tensors = convnext()
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(8))
    features = load_from(tensors, tmp_path, "eupe-convnext-t")(image)
    pooled, grid = convnext_forward(tensors, (image - MEAN) / STD)
    assert features.pooled_BD is not None
    torch.testing.assert_close(features.pooled_BD, pooled, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(features.patches_BHWD, grid, rtol=1e-3, atol=1e-4)


def test_a_convnext_without_a_key_is_refused(tmp_path: Path) -> None:
    """One missing tensor of a ConvNeXt is named."""
    tensors = convnext(hollow=True)
    del tensors["stages.2.4.gamma"]
    with pytest.raises(WeightsError, match=r"missing: stages\.2\.4\.gamma"):
        load_from(tensors, tmp_path, "eupe-convnext-t")


def test_weights_in_the_layout_of_timm_load_too(tmp_path: Path) -> None:
    """What timm's hub holds, timm's own names, gives the same encoder as the authors' file."""
    first = load_from(vit(), tmp_path, file="authors.pt")
    model = first.get_submodule("model")
    second = load_from(model.state_dict(), tmp_path, file="timm.safetensors")
    torch.testing.assert_close(first(IMAGE).patches_BHWD, second(IMAGE).patches_BHWD, rtol=1e-4, atol=1e-4)
