"""Files in the names of upstream, written from shaken models of timm, against those models."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from evals.encoders.card import card
from evals.encoders.entry import EncoderEntry
from evals.encoders.layouts import to_timm
from evals.encoders.registry import resolve
from evals.encoders.sources.timm import assemble
from evals.errors import WeightsError
from evals.files import DigestMemo
from evals.types import Encoder

Tensors = dict[str, Tensor]
SMALL = {"embed_dim": 64, "num_heads": 2, "depth": 2}


def shaken(model: str, options: Mapping[str, Any]) -> Any:
    """A timm model with every parameter and statistic moved, so that no layer is a no-op."""
    made: Any = timm.create_model(model, num_classes=0, **options).eval()
    generator = torch.Generator().manual_seed(3)
    for tensor in (*made.parameters(), *(b for name, b in made.named_buffers() if "running" in name)):
        tensor.data.add_(0.05 * torch.rand(tensor.shape, generator=generator))
    return made


def renamed(tensors: Mapping[str, Tensor], *rules: tuple[str, str]) -> Tensors:
    """Keys under regular expressions, in order."""
    made = {}
    for name, value in tensors.items():
        key = name
        for pattern, to in rules:
            key = re.sub(pattern, to, key)
        made[key] = value.clone()
    return made


def dinov2(model: Any) -> Tensors:
    """facebookresearch/dinov2: registers between the class token and patches, whose positions include the class."""
    made = renamed(model.state_dict(), (r"^reg_token", "register_tokens"), (r"^mask", ""))
    width = model.embed_dim
    if model.reg_token is not None:
        own = torch.full((1, 1, width), 0.25)
        made["cls_token"] = made["cls_token"] - own
        made["pos_embed"] = torch.cat([own, made["pos_embed"]], dim=1)
    return made | {"mask_token": torch.zeros(1, width)}


def dinov2_gated(model: Any) -> Tensors:
    """The giant: one matrix for both halves of its gated MLP."""
    return renamed(dinov2(model), (r"mlp\.fc1\.", "mlp.w12."), (r"mlp\.fc2\.", "mlp.w3."))


def tips(model: Any) -> Tensors:
    """google-deepmind/tips, second version: DINOv2's names beside a text encoder."""
    made = {f"vision_encoder.{key}": value for key, value in dinov2(model).items()}
    return made | {"text_encoder.embedding.weight": torch.ones(3, 3)}


def dinov3(model: Any) -> Tensors:
    """facebookresearch/dinov3: storage tokens, masked biases of zero, periods; leftovers of training."""
    made = renamed(
        model.state_dict(),
        (r"^reg_token", "storage_tokens"),
        (r"\.gamma_([12])", r".ls\1.gamma"),
        (r"mlp\.fc1_g", "mlp.w1"),
        (r"mlp\.fc1_x", "mlp.w2"),
        (r"mlp\.fc2", "mlp.w3"),
    )
    made |= {"mask_token": torch.zeros(1, 64), "rope_embed.periods": model.rope.periods * 2}
    return made | {"local_cls_norm.weight": torch.ones(64), "local_cls_norm.bias": torch.ones(64)}


def convnext(model: Any) -> Tensors:
    """facebookresearch/dinov3: the stem and what lies between stages in one list; the final norm a second time."""
    made = renamed(
        model.state_dict(),
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample", r"downsample_layers.\1"),
        (r"^stages\.(\d)\.blocks", r"stages.\1"),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm", "norm"),
    )
    return made | {"norms.3.weight": made["norm.weight"].clone(), "norms.3.bias": made["norm.bias"].clone()}


def perception(model: Any) -> Tensors:
    """facebookresearch/perception_models: CLIP's names, tokens and table without a batch."""
    made = renamed(
        model.state_dict(),
        (r"patch_embed\.proj", "conv1"),
        (r"^pos_embed", "positional_embedding"),
        (r"^cls_token", "class_embedding"),
        (r"^norm_pre", "ln_pre"),
        (r"^blocks", "transformer.resblocks"),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.gamma_([12])", r".ls_\1.gamma"),
        (r"attn\.qkv\.", "attn.in_proj_"),
        (r"attn\.proj", "attn.out_proj"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
    )
    made["positional_embedding"] = made["positional_embedding"][0].clone()
    return made | {"class_embedding": made["class_embedding"][0, 0].clone()}


def aim(model: Any) -> Tensors:
    """apple/ml-aim: a preprocessor and a trunk, three matrices in each MLP."""
    return renamed(
        model.state_dict(),
        (r"^patch_embed", "preprocessor.patchifier"),
        (r"^pos_embed", "preprocessor.pos_embed"),
        (r"^norm\.", "trunk.post_trunk_norm."),
        (r"^blocks", "trunk.blocks"),
        (r"\.norm([12])\.", r".norm_\1."),
        (r"fc1_g", "fc1"),
        (r"fc1_x", "fc3"),
    )


def radio(model: Any) -> Tensors:
    """nvidia/C-RADIO on the hub: patches flattened channel by channel, class tokens and registers in one table."""
    embeds, patch, blocks = model.embeds, "radio_model.model.patch_generator.", {}
    for key, value in model.state_dict().items():
        if key.startswith("blocks."):
            blocks[f"radio_model.model.{key.replace('.gamma', '.grandma')}"] = value.clone()
    width = model.embed_dim
    embeds.proj.bias.data.zero_()
    return blocks | {
        f"{patch}embedder.weight": embeds.proj.weight.data.reshape(width, 16, 16, 3).permute(0, 3, 1, 2).flatten(1),
        f"{patch}pos_embed": embeds.pos_embed.data.reshape(1, -1, width).clone(),
        f"{patch}cls_token.token": torch.cat([embeds.cls_token, embeds.reg_token], dim=1)[0].detach(),
        "radio_model.input_conditioner.norm_mean": torch.zeros(3, 1, 1),
        "radio_model.summary_idxs": torch.tensor([0, 1, 2]),
    }


def fastvit(model: Any) -> Tensors:
    """apple/ml-fastvit: stages and what lies between them in one numbered list, with the classifier."""
    made = renamed(
        model.state_dict(),
        (r"^stem", "patch_embed"),
        (r"conv_kxk", "rbr_conv"),
        (r"conv_scale", "rbr_scale"),
        (r"identity", "rbr_skip"),
        (r"^final_conv", "conv_exp"),
        (r"large_conv", "lkb_origin"),
        (r"\.mlp\.", ".convffn."),
        (r"se\.fc1", "se.reduce"),
        (r"se\.fc2", "se.expand"),
        (r"layer_scale\.gamma", "layer_scale"),
        (r"^stages\.(\d)\.blocks", lambda found: f"network.{2 * int(found[1])}"),  # type: ignore[arg-type]
        (r"^stages\.(\d)\.downsample", lambda found: f"network.{2 * int(found[1]) - 1}"),  # type: ignore[arg-type]
    )
    return made | {"head.weight": torch.zeros(1000, 768), "head.bias": torch.zeros(1000)}


LAYOUTS: Mapping[str, tuple[Callable[[Any], Tensors], Mapping[str, Any]]] = {
    "dinov2-s": (dinov2, {**SMALL, "img_size": 56}),
    "dinov2-reg-s": (dinov2, {**SMALL, "img_size": 56}),
    "dinov2-g": (dinov2_gated, {**SMALL, "mlp_ratio": 4, "img_size": 56}),
    "dinov2-reg-g": (dinov2_gated, {**SMALL, "mlp_ratio": 4, "img_size": 56}),
    "dinov3-vit-7b": (dinov3, SMALL),
    "dinov3-convnext-t": (convnext, {"depths": (1, 2, 1, 1), "dims": (8, 16, 16, 32)}),
    "pe-spatial-b": (perception, {**SMALL, "img_size": 64}),
    "pe-spatial-t": (perception, {**SMALL, "img_size": 64}),
    "pe-lang-l": (perception, {**SMALL, "img_size": 56}),
    "aimv2-l": (aim, {**SMALL, "img_size": 56}),
    "tipsv2-b": (tips, {**SMALL, "img_size": 56}),
    "c-radiov3-b": (radio, {**SMALL, "pos_embed_grid_size": (4, 4)}),
    "fastvit-t8": (fastvit, {}),
}
"""Entry -> upstream's names, and what is smaller in its model."""


def loaded(entry: EncoderEntry, tensors: Tensors, options: Mapping[str, Any], folder: Path) -> Encoder:
    """The encoder of a file, in a model of these options."""
    path = folder / "w.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    small = {"dim": None, "depth": None} if options else {}
    entry = replace(entry, weights=str(path), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), **small)
    return assemble(entry, card(entry, DigestMemo(None)), to_timm, **options).eval()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_of_upstream_is_the_model(name: str, tmp_path: Path) -> None:
    """Every tensor arrives where timm has it, and what is not the encoder's is left out."""
    layout, options = LAYOUTS[name]
    entry = resolve(name)
    model = shaken(entry.model, options)
    encoder = loaded(entry, layout(model), options, tmp_path)
    own = model.state_dict()
    given: Any = encoder.get_submodule("model").state_dict()
    assert own.keys() == given.keys()
    for key, tensor in own.items():
        torch.testing.assert_close(given[key], tensor, rtol=0, atol=1e-6, msg=key)


def test_periods_of_upstream_are_taken(tmp_path: Path) -> None:
    """The rotary periods are those of the file, neither timm's nor rounded."""
    layout, options = LAYOUTS["dinov3-vit-7b"]
    entry = resolve("dinov3-vit-7b")
    model = shaken(entry.model, options)
    encoder = loaded(entry, layout(model), options, tmp_path)
    assert torch.equal(encoder.get_buffer("model.rope.periods"), model.rope.periods * 2)


@pytest.mark.parametrize("key", ["norms.3.weight", "norms.3.bias"])
def test_a_final_norm_that_is_there_twice_is_there_once(key: str, tmp_path: Path) -> None:
    """The library drops the second; where it is another norm, one of the two is wrong, and the file is refused."""
    layout, options = LAYOUTS["dinov3-convnext-t"]
    entry = resolve("dinov3-convnext-t")
    tensors = layout(shaken(entry.model, options))
    tensors[key] = tensors[key] + 1
    with pytest.raises(
        WeightsError, match=rf"w\.\w+: {re.escape(key)} is not norm\.\w+, though both are the final norm"
    ):
        loaded(entry, tensors, options, tmp_path)


@pytest.mark.parametrize(
    "name", [name for name in LAYOUTS if {"img_size", "pos_embed_grid_size"} & LAYOUTS[name][1].keys()]
)
def test_a_table_of_another_grid_is_refused(name: str, tmp_path: Path) -> None:
    """A table of upstream for another size is never resampled on the way in."""
    layout, options = LAYOUTS[name]
    entry = resolve(name)
    tensors = layout(shaken(entry.model, options))
    larger = {
        key: {"img_size": 2 * value, "pos_embed_grid_size": (8, 8)}[key]
        for key, value in options.items()
        if key in ("img_size", "pos_embed_grid_size")
    }
    with pytest.raises(WeightsError, match=r"of another shape: (embeds\.)?pos_embed \("):
        loaded(entry, tensors, {**options, **larger}, tmp_path)


def test_a_radio_table_is_not_cut_to_the_grid_of_timm(tmp_path: Path) -> None:
    """The other class that timm has for RADIO would resample the table of 128 x 128 to its own grid."""
    layout, options = LAYOUTS["c-radiov3-b"]
    tensors = layout(shaken(resolve("c-radiov3-b").model, {**options, "pos_embed_grid_size": (8, 8)}))
    entry = resolve("timm:vit_base_patch16_radio_v3.c_radio?positions=library")
    with pytest.raises(WeightsError, match=r"of another shape: pos_embed \(1, 64, 64\) instead of \(1, 16, 64\)"):
        loaded(entry, tensors, {**SMALL, "img_size": 64}, tmp_path)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"radio_model.summary_idxs": torch.tensor([0, 1])}, r"summary is of class tokens \[0, 1\].* says \[0, 1, 2\]"),
        ({"radio_model.model.norm.weight": torch.ones(64)}, r"unexpected: radio_model\.model\.norm\.weight"),
    ],
)
def test_a_radio_of_another_build_is_refused(extra: Tensors, words: str, tmp_path: Path) -> None:
    """Neither another summary nor a layer without a place is passed over."""
    layout, options = LAYOUTS["c-radiov3-b"]
    entry = resolve("c-radiov3-b")
    with pytest.raises(WeightsError, match=words):
        loaded(entry, layout(shaken(entry.model, options)) | extra, options, tmp_path)
