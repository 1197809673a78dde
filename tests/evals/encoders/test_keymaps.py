"""Files of DUNE, UNIC, Franca and Theia in their upstream's layout: loaded strictly, computed as the layout says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from evals.encoders.load import blueprint, load
from evals.encoders.locate import weights_file
from evals.encoders.registry import resolve
from evals.encoders.sources.timm import assemble
from evals.errors import UnavailableError, WeightsError
from evals.files import DigestMemo
from evals.types import Encoder

Tensors = dict[str, Tensor]
DEPTH = 4
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Kind:
    """A small model of a family, cut to DEPTH blocks, in the family's real layout; images have 4 x 4 patches."""

    entry: str
    model: str
    width: int
    patch: int
    root: str
    chunks: int = 1
    registers: int = 0
    scaled: bool = True
    gated: bool = False
    training: tuple[str, ...] = ()


KINDS = {
    "dune": Kind("dune-s", "vit_small_patch14_reg4_dinov2", 384, 14, "encoder.", registers=4,
                 training=("encoder.mask_token", "projectors.mast3r.0.weight", "teacher_norms.mast3r.cls.mean")),
    "unic": Kind("unic-b", "vit_tiny_patch16_224", 192, 16, "encoder.", scaled=False,
                 training=("encoder.mask_token", "lp.heads.dino.cls.3.layers.0.weight")),
    "franca": Kind("franca-b", "vit_small_patch14_dinov2", 384, 14, "backbone.", chunks=4, gated=True,
                   training=("backbone.mask_token", "backbone.rasa_head.pos_pred.weight", "dino_head.0.weight")),
    "theia": Kind("theia-t", "deit_tiny_patch16_224", 192, 16, "backbone.model.",
                  training=("translator.translator_heads.clip.weight",)),
}  # fmt: skip


def generator() -> Callable[..., Tensor]:
    """Draws of one fixed stream."""
    draw = torch.Generator().manual_seed(0)
    return lambda *shape, scale=0.05, middle=0.0: middle + scale * torch.randn(*shape, generator=draw)


def dinov2(kind: Kind) -> Tensors:
    """Random tensors under the names of DINOv2's code, without root and chunks."""
    r, d = generator(), kind.width
    tensors = {
        "cls_token": r(1, 1, d),
        "pos_embed": r(1, 17, d),
        "patch_embed.proj.weight": r(d, 3, kind.patch, kind.patch),
        "patch_embed.proj.bias": r(d),
        "norm.weight": r(d, middle=1.0),
        "norm.bias": r(d),
    }
    if kind.registers:
        tensors["register_tokens"] = r(1, kind.registers, d)
    # The SwiGLU of width 4 d has 2/3 of it, in multiples of 8: 1024 for 384.
    hidden = {"w12": (2 * 1024, d), "w3": (d, 1024)} if kind.gated else {"fc1": (4 * d, d), "fc2": (d, 4 * d)}
    layers = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), **{f"mlp.{name}": shape for name, shape in hidden.items()}}
    for i in range(DEPTH):
        for name, shape in layers.items():
            tensors |= {f"blocks.{i}.{name}.weight": r(*shape), f"blocks.{i}.{name}.bias": r(shape[0])}
        for j in (1, 2):
            tensors |= {f"blocks.{i}.norm{j}.weight": r(d, middle=1.0), f"blocks.{i}.norm{j}.bias": r(d)}
            if kind.scaled:
                tensors[f"blocks.{i}.ls{j}.gamma"] = r(d, middle=0.5)
    return tensors


def dinov2_forward(t: Mapping[str, Tensor], kind: Kind, image: Tensor) -> Tensor:
    """All tokens after the final norm, computed from DINOv2's names by its published description."""
    d = kind.width

    def norm(v: Tensor, name: str) -> Tensor:
        return F.layer_norm(v, (d,), t[f"{name}.weight"], t[f"{name}.bias"], 1e-6)

    def linear(v: Tensor, name: str) -> Tensor:
        return F.linear(v, t[f"{name}.weight"], t[f"{name}.bias"])

    def scale(v: Tensor, name: str) -> Tensor:
        return v * t[f"{name}.gamma"] if kind.scaled else v

    patches = F.conv2d(image, t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], stride=kind.patch)
    table = t["pos_embed"]
    if patches.shape[2:] != (4, 4):
        square = table[:, 1:].reshape(1, 4, 4, d).permute(0, 3, 1, 2)
        scales = [(side + 0.1) / 4 for side in patches.shape[2:]]
        moved = F.interpolate(square, scale_factor=scales, mode="bicubic").flatten(2).transpose(1, 2)
        table = torch.cat([table[:, :1], moved], dim=1)
    x = torch.cat([t["cls_token"], patches.flatten(2).transpose(1, 2)], dim=1) + table
    if kind.registers:
        x = torch.cat([x[:, :1], t["register_tokens"], x[:, 1:]], dim=1)
    for i in range(DEPTH):
        b = f"blocks.{i}"
        q, k, v = linear(norm(x, f"{b}.norm1"), f"{b}.attn.qkv").reshape(1, -1, 3, d // 64, 64).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.transpose(-1, -2) / 8).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + scale(linear(mixed, f"{b}.attn.proj"), f"{b}.ls1")
        y = norm(x, f"{b}.norm2")
        if kind.gated:
            gate, value = linear(y, f"{b}.mlp.w12").chunk(2, dim=-1)
            y = linear(F.silu(gate) * value, f"{b}.mlp.w3")
        else:
            y = linear(F.gelu(linear(y, f"{b}.mlp.fc1")), f"{b}.mlp.fc2")
        x = x + scale(y, f"{b}.ls2")
    return norm(x, "norm")


def vit(kind: Kind) -> Tensors:
    """Random tensors under the names of transformers' ViTModel as Theia has them; embeddings so small that the epsilon
    of the norms counts.
    """
    r, d = generator(), kind.width
    tensors = {
        "embeddings.cls_token": r(1, 1, d, scale=1e-4),
        "embeddings.position_embeddings": r(1, 17, d, scale=1e-4),
        "embeddings.patch_embeddings.projection.weight": r(d, 3, kind.patch, kind.patch, scale=1e-5),
        "embeddings.patch_embeddings.projection.bias": r(d, scale=1e-4),
        "layernorm.weight": r(d, middle=1.0),
        "layernorm.bias": r(d),
    }
    layers = {f"attention.attention.{name}": (d, d) for name in ("query", "key", "value")}
    layers |= {"attention.output.dense": (d, d), "intermediate.dense": (4 * d, d), "output.dense": (d, 4 * d)}
    for i in range(DEPTH):
        b = f"encoder.layer.{i}"
        for name, shape in layers.items():
            tensors |= {f"{b}.{name}.weight": r(*shape), f"{b}.{name}.bias": r(shape[0])}
        for name in ("layernorm_before", "layernorm_after"):
            tensors |= {f"{b}.{name}.weight": r(d, middle=1.0), f"{b}.{name}.bias": r(d)}
    return tensors


def released(family: str) -> Tensors:
    """The file of a family as its upstream writes it, with what belongs to training."""
    kind = KINDS[family]
    bare = vit(kind) if family == "theia" else dinov2(kind)
    tensors = {}
    for key, value in bare.items():
        words = key.split(".")
        if words[0] == "blocks":
            words.insert(1, str(int(words[1]) * kind.chunks // DEPTH))
        tensors[kind.root + ".".join(words)] = value
    return tensors | {key: torch.ones(2, 2) for key in kind.training}


def load_from(tensors: Mapping[str, Tensor], folder: Path, family: str, **changes: Any) -> Encoder:
    """The small encoder of a family with these tensors as its file."""
    path = folder / "w.safetensors"
    save_file(dict(tensors), path)
    return load_file(path, family, **changes)


def load_file(path: Path, family: str, **changes: Any) -> Encoder:
    """Likewise, with a file."""
    kind = KINDS[family]
    entry = resolve(kind.entry, weights=str(path))
    small = replace(entry, model=kind.model, dim=kind.width, depth=DEPTH, size=4 * kind.patch, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"evals.encoders.sources.{family}.assemble", partial(assemble, depth=DEPTH))
        return load(small, DigestMemo(None))


def picture(family: str, rows: int = 4, columns: int = 4) -> Tensor:
    """An image of so many patches."""
    patch = KINDS[family].patch
    return torch.rand(1, 3, rows * patch, columns * patch, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("grid", [(4, 4), (3, 6)])
@pytest.mark.parametrize("family", ["dune", "unic", "franca"])
def test_it_computes_what_its_file_says(tmp_path: Path, family: str, grid: tuple[int, int]) -> None:
    """At the native size and another, tokens equal the published formulas on the tensors under upstream's names."""
    kind, image = KINDS[family], picture(family, *grid)
    encoder = load_from(released(family), tmp_path, family)
    features, expected = encoder(image), dinov2_forward(dinov2(kind), kind, (image - MEAN) / STD)
    assert not encoder.card.random
    assert features.pooled_BD is not None
    torch.testing.assert_close(features.pooled_BD, expected[:, 0], rtol=1e-4, atol=1e-4)
    patches = expected[:, 1 + kind.registers :]
    torch.testing.assert_close(features.patches_BHWD.flatten(1, 2), patches, rtol=1e-4, atol=1e-4)


def test_theia_computes_what_transformers_does(tmp_path: Path) -> None:
    """Patches equal those of transformers' ViT with DeiT's settings on the same file; there is no global feature."""
    from transformers import ViTConfig, ViTModel

    kind, image = KINDS["theia"], picture("theia")
    config = ViTConfig(
        hidden_size=192,
        num_hidden_layers=DEPTH,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=64,
        layer_norm_eps=1e-12,
    )
    config.save_pretrained(tmp_path)
    save_file(vit(kind), tmp_path / "model.safetensors", {"format": "pt"})
    theirs = ViTModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = theirs((image - MEAN) / STD).last_hidden_state
    features = load_from(released("theia"), tmp_path, "theia")(image)
    assert features.pooled_BD is None
    assert features.others == {}
    torch.testing.assert_close(features.patches_BHWD.flatten(1, 2), expected[:, 1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("dune", "encoder.blocks.0.3.ls2.gamma"),
        ("dune", "encoder.register_tokens"),
        ("unic", "encoder.pos_embed"),
        ("franca", "backbone.blocks.2.2.mlp.w12.bias"),
        ("theia", "backbone.model.encoder.layer.3.attention.attention.key.weight"),
        ("theia", "backbone.model.layernorm.bias"),
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, family: str, key: str) -> None:
    """A file that lacks one tensor is refused with the name that upstream gives it, whatever is to be ignored."""
    tensors = released(family)
    del tensors[key]
    with pytest.raises(WeightsError, match=r"w\.safetensors does not fit .*: missing: " + key.replace(".", r"\.")):
        load_from(tensors, tmp_path, family, ignore=(key,))


def test_what_is_not_of_the_layout_is_named_unless_ignored(tmp_path: Path) -> None:
    """A tensor outside the layout is refused as the file spells it; the entry's `ignore` leaves it out."""
    tensors = released("unic") | {"module.encoder.extra": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"unexpected: module\.encoder\.extra\."):
        load_from(tensors, tmp_path, "unic")
    assert load_from(tensors, tmp_path, "unic", ignore=("module.encoder.ex",)).card.params is not None


@pytest.mark.parametrize("family", ["dune", "franca"])
@pytest.mark.parametrize("wrapper", ["", "module.", "module._orig_mod."])
def test_other_spellings_load_alike(tmp_path: Path, family: str, wrapper: str) -> None:
    """The bare encoder's state dict, its blocks in one row, and keys with wrappers of training hold the same model."""
    image = picture(family)
    first = load_from(released(family), tmp_path, family)(image)
    renamed = {wrapper + key: value for key, value in dinov2(KINDS[family]).items()}
    second = load_from(renamed, tmp_path, family)(image)
    assert torch.equal(first.patches_BHWD, second.patches_BHWD)


def test_a_tensor_told_twice_is_refused(tmp_path: Path) -> None:
    """Two spellings of one tensor in a file leave open which counts."""
    tensors = released("unic") | {"norm.weight": torch.ones(192)}
    with pytest.raises(WeightsError, match=r"holds encoder\.norm\.weight twice"):
        load_from(tensors, tmp_path, "unic")


def test_a_table_of_another_size_is_refused(tmp_path: Path) -> None:
    """Positions of another grid belong to another entry; they are never resampled to fit."""
    tensors = released("dune") | {"encoder.pos_embed": torch.ones(1, 26, 384)}
    with pytest.raises(WeightsError, match=r"shape: encoder\.pos_embed \(1, 26, 384\) instead of \(1, 17, 384\)"):
        load_from(tensors, tmp_path, "dune")


@pytest.mark.parametrize("name", ["dune-b", "unic-l", "franca-g"])
def test_an_entry_tells_where_its_file_is(name: str) -> None:
    """What is not on the hub says what to download, what to do with it, and how to pass it."""
    with pytest.raises(UnavailableError, match=rf"{name} has no weights on the hub\. .*https://\S+.* --weights PATH"):
        weights_file(resolve(name))


def test_franca_reads_its_release(tmp_path: Path) -> None:
    """The state dict lies under `teacher` in a file of torch.save."""
    path = tmp_path / "franca.pth"
    torch.save({"teacher": {f"module.{key}": value for key, value in released("franca").items()}}, path)
    expected = sum(value.numel() for value in dinov2(KINDS["franca"]).values())
    assert load_file(path, "franca").card.params == expected


def parameters(width: int, depth: int, patch: int, rows: int, *, mlp: int, tokens: int = 1, scales: int = 0) -> int:
    """Of a vision transformer, by hand: stem, tokens, table of positions, blocks, final norm."""
    block = 4 * width + 4 * width * (width + 1) + mlp + scales * width
    return width * (3 * patch**2 + 1) + tokens * width + rows * width + depth * block + 2 * width


def plain(width: int) -> int:
    """Weights of an MLP of four times the width."""
    return 8 * width**2 + 5 * width


def gated(width: int, hidden: int) -> int:
    """Weights of a SwiGLU."""
    return 3 * width * hidden + 2 * hidden + width


@pytest.mark.parametrize(
    ("name", "millions", "count"),
    [
        ("dune-b", 86, parameters(768, 12, 14, 32**2, mlp=plain(768), tokens=5, scales=2)),
        ("dune-b-448", 86, parameters(768, 12, 14, 32**2, mlp=plain(768), tokens=5, scales=2)),
        ("dune-b-336", 86, parameters(768, 12, 14, 24**2, mlp=plain(768), tokens=5, scales=2)),
        ("dune-s", 22, parameters(384, 12, 14, 32**2, mlp=plain(384), tokens=5, scales=2)),
        ("dune-s-336", 22, parameters(384, 12, 14, 24**2, mlp=plain(384), tokens=5, scales=2)),
        ("unic-b", 86, parameters(768, 12, 16, 1 + 14**2, mlp=plain(768))),
        ("unic-l", 304, parameters(1024, 24, 14, 1 + 24**2, mlp=plain(1024))),
        ("franca-b", 86, parameters(768, 12, 14, 1 + 37**2, mlp=gated(768, 2048), scales=2)),
        ("franca-b-224", 86, parameters(768, 12, 14, 1 + 16**2, mlp=gated(768, 2048), scales=2)),
        ("franca-l", 300, parameters(1024, 24, 14, 1 + 37**2, mlp=gated(1024, 2736), scales=2)),
        ("franca-l-224", 300, parameters(1024, 24, 14, 1 + 16**2, mlp=gated(1024, 2736), scales=2)),
        ("franca-g", 1100, parameters(1536, 40, 14, 1 + 16**2, mlp=gated(1536, 4096), scales=2)),
        ("theia-t", 5.7, parameters(192, 12, 16, 1 + 14**2, mlp=plain(192))),
        ("theia-s", 22, parameters(384, 12, 16, 1 + 14**2, mlp=plain(384))),
        ("theia-b", 86, parameters(768, 12, 16, 1 + 14**2, mlp=plain(768))),
    ],
)
def test_entries_build_with_the_published_number_of_weights(name: str, millions: float, count: int) -> None:
    """Each entry builds without weights; its parameters are those counted by hand, and as many as published."""
    encoder = blueprint(resolve(name))
    assert encoder.card.params == count
    # What is published is rounded, and for DeiT includes a classifier of 1000 classes.
    assert count / 1e6 == pytest.approx(millions, rel=0.035)
    assert encoder.card.structure["positions"] == "learnt, dinov2 rule for other grids"
