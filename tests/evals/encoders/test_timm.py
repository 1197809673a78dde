"""The timm adapter against timm itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import save_file
from torch import Tensor, nn

from evals.encoders.card import card
from evals.encoders.entry import read_entry
from evals.encoders.layouts import to_timm
from evals.encoders.load import blueprint, load
from evals.encoders.registry import resolve
from evals.encoders.sources.timm import assemble, check_gelu
from evals.errors import UsageError, WeightsError
from evals.files import DigestMemo
from evals.types import ConvEncoder, Encoder, ImageSpec

VIT = {"source": "timm", "model": "vit_tiny_patch16_224.augreg_in21k", "licence": "x", "size": 224, "patch": 16}
PE = {"source": "timm", "model": "vit_pe_core_tiny_patch16_384.fb", "licence": "x", "size": 384, "patch": 16}


def shaken(name: str, **options: Any) -> Any:
    """A timm model with every parameter moved, so that no layer is a no-op."""
    model: Any = timm.create_model(name, **options).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def encoder_of(model: nn.Module, values: dict[str, object], folder: Path) -> Encoder:
    """The encoder of an entry with the weights of a timm model."""
    path = folder / "w.safetensors"
    save_file({key: value.clone() for key, value in model.state_dict().items()}, path)
    return load(read_entry("mine", {**values, "weights": str(path)}), DigestMemo(None))


def small(name: str, model: nn.Module, options: dict[str, Any], folder: Path, **changes: Any) -> Encoder:
    """The encoder of an entry in a smaller architecture, with the weights of a timm model, for pixels as they are."""
    path = folder / "w.safetensors"
    save_file({key: value.clone() for key, value in model.state_dict().items()}, path)
    sizes = {"dim": None, "depth": None} if options else {}
    raw = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    entry = replace(resolve(name), weights=str(path), **raw, **sizes, **changes)
    return assemble(entry, card(entry, DigestMemo(None)), to_timm, **options).eval()


def image(rows: int, columns: int) -> Tensor:
    """Random pixels."""
    return torch.rand(2, 3, rows, columns, generator=torch.Generator().manual_seed(rows))


def test_the_class_token_is_token_0_and_no_mean(tmp_path: Path) -> None:
    """For DINOv3 the adapter gives token 0 after the norm; timm's own pooled output is the mean of the patches."""
    model = shaken("vit_small_patch16_dinov3.lvd1689m", num_classes=0)
    values = {**VIT, "model": "vit_small_patch16_dinov3.lvd1689m", "global_feature": "cls", "normalise": "raw"}
    encoder = encoder_of(model, values, tmp_path)
    pixels = image(64, 96)
    features = encoder(pixels)
    with torch.no_grad():
        tokens, pooled = model.forward_features(pixels), model(pixels)
    assert features.pooled_BD is not None
    assert torch.equal(features.pooled_BD, tokens[:, 0])
    assert torch.equal(features.patches_BHWD.flatten(1, 2), tokens[:, 5:])
    assert not torch.allclose(features.pooled_BD, pooled, atol=0.1)
    torch.testing.assert_close(features.patches_BHWD.mean((1, 2)), pooled)


def test_a_classifier_in_the_file_is_left_out(tmp_path: Path) -> None:
    """A checkpoint with a classification head loads without it, at the native size and another."""
    model = shaken("vit_tiny_patch16_224.augreg_in21k", num_classes=10, dynamic_img_size=True)
    encoder = encoder_of(model, {**VIT, "global_feature": "cls", "normalise": "half"}, tmp_path)
    for size in ((224, 224), (64, 96)):
        with torch.no_grad():
            tokens = model.forward_features((image(*size) - 0.5) / 0.5)
        assert torch.equal(encoder(image(*size)).pooled_BD, tokens[:, 0])


def test_the_attention_pool_comes_before_the_projection(tmp_path: Path) -> None:
    """For PE-core the global feature is the pooled 192 numbers; the 512 of the projection are for text."""
    model = shaken("vit_pe_core_tiny_patch16_384.fb", num_classes=512)
    encoder = encoder_of(model, {**PE, "global_feature": "attn_pool", "normalise": "raw"}, tmp_path)
    pixels = image(384, 384)
    features = encoder(pixels)
    with torch.no_grad():
        tokens = model.forward_features(pixels)
        pooled = model.attn_pool(tokens)
    torch.testing.assert_close(features.pooled_BD, pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.patches_BHWD.flatten(1, 2), tokens[:, 1:], rtol=1e-4, atol=1e-5)


def test_layers_are_block_outputs_under_the_final_norm(tmp_path: Path) -> None:
    """Layer i is what block i gives, counted from 0, under the final norm, prefix removed."""
    model = shaken("vit_small_patch16_dinov3.lvd1689m", num_classes=0)
    values = {**VIT, "model": "vit_small_patch16_dinov3.lvd1689m", "global_feature": "cls", "normalise": "raw"}
    encoder = encoder_of(model, values, tmp_path)
    seen: dict[int, Tensor] = {}
    for index in (2, 9):
        model.blocks[index].register_forward_hook(lambda m, i, out, index=index: seen.__setitem__(index, out))
    with torch.no_grad():
        model.forward_features(image(32, 48))
        expected = [model.norm(seen[index])[:, 5:].reshape(2, 2, 3, -1) for index in (9, 2)]
    layers = encoder(image(32, 48), layers=(9, 2)).layers
    assert all(torch.equal(one, other) for one, other in zip(layers, expected, strict=True))


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (64, 96), (80, 48), (16, 16)])
def test_rotary_scales_of_one_change_no_bit(size: tuple[int, int]) -> None:
    """The block loop with explicit scales is the library's own pass when every factor is 1."""
    encoder = _shaken_eupe()
    plain = encoder(image(*size), layers=(3,))
    scaled = encoder(image(*size), layers=(3,), rope_scales_L=torch.ones(12))
    assert torch.equal(plain.patches_BHWD, scaled.patches_BHWD)
    assert torch.equal(plain.pooled_BD, scaled.pooled_BD)
    assert torch.equal(plain.layers[0], scaled.layers[0])


def test_each_block_has_a_rotary_scale_of_its_own() -> None:
    """A factor at block 7 leaves the layers before it alone and changes those from it on."""
    encoder = _shaken_eupe()
    scales = torch.ones(12)
    scales[7] = 1.9
    plain = encoder(image(64, 96), layers=(6, 7))
    scaled = encoder(image(64, 96), layers=(6, 7), rope_scales_L=scales)
    assert torch.equal(plain.layers[0], scaled.layers[0])
    assert (plain.layers[1] - scaled.layers[1]).abs().max() > 1e-3


def test_a_rotary_scale_equals_slower_periods() -> None:
    """Coordinates times s are periods divided by s, so one factor for all blocks has a second way to be computed."""
    encoder = _shaken_eupe()
    scaled = encoder(image(64, 96), rope_scales_L=torch.full((12,), 2.0)).patches_BHWD
    periods = encoder.get_buffer("model.rope.periods")
    periods.div_(2)
    assert torch.equal(encoder(image(64, 96)).patches_BHWD, scaled)


def _shaken_eupe() -> Encoder:
    encoder = load(resolve("eupe-vit-t", weights="random"), DigestMemo(None))
    generator = torch.Generator().manual_seed(5)
    for parameter in encoder.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return encoder


@pytest.mark.parametrize(
    ("model", "kind", "patch", "size", "std"),
    [
        ("vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", "cls", 16, 256, 0.229),
        ("vit_base_patch16_siglip_224.v2_webli", "attn_pool", 16, 224, 0.5),
        ("vit_pe_spatial_tiny_patch16_512.fb", "none", 16, 512, 0.5),
        ("vit_pe_lang_large_patch14_448.fb", "none", 14, 448, 0.5),
        ("vit_base_patch16_clip_224.datacompxl", "cls", 16, 224, 0.26862954),
        ("convnext_tiny.eupe_lvd1689m", "gap_norm", 32, 256, 0.229),
        ("naflexvit_base_patch16_siglip.v2_webli", "attn_pool", 16, 384, 0.5),
        ("fastvit_mci0.apple_mclip2_dfndr2b", "avg_pool", 32, 256, 1.0),
    ],
)
def test_what_timm_tells_of_a_model(model: str, kind: str, patch: int, size: int, std: float) -> None:
    """By name alone: global feature from the structure, the rest from timm's configuration; the hub id is timm's."""
    entry = resolve(f"timm:{model}")
    assert (entry.global_feature, entry.patch, entry.size, entry.std[0]) == (kind, patch, size, std)
    assert entry.hub == f"timm/{model}"
    assert entry.name == f"timm:{model}"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("vit_tiny_patch16_dinov3_qkv.eupe", "timm has no model .*Nearest: .*vit_tiny_patch16_dinov3_qkvb"),
        ("efficientnet_b0.ra_in1k", "timm.models.efficientnet; patch features are taken from"),
        ("vit_base_patch16_siglip_gap_224.v2_webli", "only a mean over patches.*global_feature=none"),
        ("eva02_tiny_patch14_224.mim_in22k", "only a mean over patches.*global_feature=none"),
        ("convnext_tiny_hnf.a2h_in1k", "no final norm"),
        ("naflexvit_base_patch16_gap.e300_s576_in1k", "only a mean over patches.*global_feature=none"),
        ("vit_base_patch16_radio_v3.c_radio", "resampled its table .* naflexvit_.*positions=library"),
        ("vit_base_patch16_clip_quickgelu_224.dfn2b", "no weights .*dfn2b'. Known: .*quickgelu_224.openai"),
    ],
)
def test_what_timm_does_not_tell_is_refused(model: str, words: str) -> None:
    """An unknown name, a kind of model without a patch map, or an ambiguous global feature says what to do."""
    with pytest.raises(UsageError, match=words):
        resolve(f"timm:{model}")


def sigmoid_gelu() -> dict[str, str | None]:
    """Timm's names of weights whose GELU open_clip computes in its sigmoid form -> timm's model of that form."""
    found = {}
    for architecture, tags in _PRETRAINED.items():
        for tag, config in tags.items():
            place = {"ViT-B-16/dfn2b": "timm/vit_base_patch16_clip_224.dfn2b/",
                     "ViT-L-14/dfn2b": "timm/vit_large_patch14_clip_224.dfn2b/",
                     "ViT-H-14/dfn5b": "timm/vit_huge_patch14_clip_224.dfn5b/",
                     "ViT-H-14-378/dfn5b": "timm/vit_huge_patch14_clip_378.dfn5b/",
                     }.get(f"{architecture}/{tag}", config.get("hf_hub") or "")  # fmt: skip
            if config.get("quick_gelu") and place.startswith("timm/vit_"):
                name = place.removeprefix("timm/").removesuffix("/")
                twin = name.replace("_clip_", "_clip_quickgelu_")
                found[name] = twin if timm.is_model_pretrained(twin) else None
    return found


def test_weights_that_need_the_sigmoid_form_of_gelu_are_refused_under_the_exact_one() -> None:
    """Of all that timm has, those alone whose GELU open_clip computes so; the message has the model that does too."""
    refused: dict[str, str | None] = {}
    for name in timm.list_models(pretrained=True):
        try:
            check_gelu(name)
        except UsageError as error:
            refused[name] = str(error)
    expected = {name: twin for name, twin in sigmoid_gelu().items() if timm.is_model_pretrained(name)}
    assert refused.keys() == expected.keys()
    assert len(refused) == 18
    for name, twin in expected.items():
        assert f"use timm:{twin}." in str(refused[name]) or twin is None
    assert [name for name, twin in expected.items() if twin is None] == ["vit_base_patch16_clip_224.dfn2b"]
    assert "use open_clip:ViT-B-16-quickgelu/dfn2b" in str(refused["vit_base_patch16_clip_224.dfn2b"])


def test_the_gelu_of_weights_is_checked_by_name_and_by_entry() -> None:
    """A route, a route whose tag timm chooses, a file for one, and an entry are refused; the twin is derived."""
    for name in ("vit_base_patch16_clip_224.openai", "vit_huge_patch14_clip_378", "vit_large_patch14_clip_224.dfn2b"):
        with pytest.raises(UsageError, match=r"sigmoid form of GELU.* use timm:vit_\w+_clip_quickgelu_\d+\.\w+\.$"):
            resolve(f"timm:{name}")
    values = {**VIT, "model": "vit_base_patch16_clip_224.metaclip_400m", "global_feature": "cls", "weights": "random"}
    with pytest.raises(UsageError, match=r"use timm:vit_base_patch16_clip_quickgelu_224\.metaclip_400m\."):
        load(read_entry("mine", values), DigestMemo(None))
    twin = resolve("timm:vit_base_patch16_clip_quickgelu_224.openai")
    assert twin.hub == "timm/vit_base_patch16_clip_224.openai"
    assert blueprint(twin).get_submodule("model.blocks.0.mlp.act").__class__.__name__ == "QuickGELU"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"global_feature": "attn_pool"}, "vit_tiny.* has none, cls"),
        ({"global_feature": "cls", "patch": 14}, "says patch 14; .* has 16"),
        ({"global_feature": "cls", "dim": 384}, "says dim 384; .* has 192"),
        ({"global_feature": "cls", "depth": 11}, "says depth 11; .* has 12"),
    ],
)
def test_an_entry_that_does_not_fit_its_model(changes: dict[str, object], words: str) -> None:
    """What the entry says is held against the model."""
    with pytest.raises(UsageError, match=words):
        load(read_entry("mine", {**VIT, "weights": "random", **changes}), DigestMemo(None))


def test_the_spec_is_the_one_of_the_entry(tmp_path: Path) -> None:
    """Normalisation, filter and geometry reach the encoder's spec."""
    model = shaken("vit_tiny_patch16_224.augreg_in21k", num_classes=0)
    values = {**VIT, "global_feature": "cls", "normalise": "half", "interpolation": "bilinear", "resize": "squash"}
    half = (0.5, 0.5, 0.5)
    expected = ImageSpec(224, 16, "bilinear", True, "squash", half, half)
    assert encoder_of(model, values, tmp_path).spec == expected


def test_query_biases_without_a_place_are_refused(tmp_path: Path) -> None:
    """An official DINOv3 file with query biases does not lose them in a model that has none."""
    model = timm.create_model("vit_small_patch16_dinov3.lvd1689m", num_classes=0)
    tensors = model.state_dict() | {
        "storage_tokens": torch.zeros(1, 4, 384),
        "blocks.0.attn.qkv.bias": torch.ones(3 * 384),
        "blocks.0.attn.qkv.bias_mask": torch.cat([torch.ones(384), torch.zeros(384), torch.ones(384)]),
    }
    path = tmp_path / "w.safetensors"
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"no such bias: use timm's .*_qkvb"):
        load(resolve("dinov3-vit-s", weights=str(path)), DigestMemo(None))


def test_no_rotary_scales_for_an_encoder_without(tmp_path: Path) -> None:
    """An empty tensor of scales is what an encoder without rotary blocks takes."""
    model = shaken("vit_tiny_patch16_224.augreg_in21k", num_classes=0)
    encoder = encoder_of(model, {**VIT, "global_feature": "cls"}, tmp_path)
    plain = encoder(image(32, 32)).patches_BHWD
    assert torch.equal(encoder(image(32, 32), rope_scales_L=torch.empty(0)).patches_BHWD, plain)


def test_results_are_fp32_under_autocast() -> None:
    """Arithmetic in bf16 gives fp32 features near those of fp32."""
    encoder = _shaken_eupe()
    exact = encoder(image(64, 64), layers=(5,))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(image(64, 64), layers=(5,))
    for one, other in ((exact.patches_BHWD, rounded.patches_BHWD), (exact.layers[0], rounded.layers[0])):
        assert other.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(one.flatten(1), other.flatten(1)).min() > 0.99
    assert rounded.pooled_BD is not None
    assert rounded.pooled_BD.dtype == torch.float32


def test_a_transformers_file_under_a_convnext(tmp_path: Path) -> None:
    """Tensors of the DINOv3 layout under a convolutional entry are refused with the keys, not with a traceback."""
    save_file({"storage_tokens": torch.zeros(1, 4, 8), "cls_token": torch.zeros(1, 1, 8)}, tmp_path / "w.safetensors")
    values = {**VIT, "model": "convnext_tiny.eupe_lvd1689m", "patch": 32, "global_feature": "gap_norm"}
    with pytest.raises(WeightsError, match=r"missing: stem\.0\.weight"):
        load(read_entry("mine", {**values, "weights": str(tmp_path / "w.safetensors")}), DigestMemo(None))


def test_a_convolutional_map_is_regridded_before_the_final_norm(tmp_path: Path) -> None:
    """The raw map is resized, then normalised; its own grid changes nothing, and the global feature stays."""
    model = shaken("convnext_tiny.eupe_lvd1689m", num_classes=0)
    values = {**VIT, "model": "convnext_tiny.eupe_lvd1689m", "patch": 32, "global_feature": "gap_norm"}
    encoder = encoder_of(model, {**values, "normalise": "raw"}, tmp_path)
    assert isinstance(encoder, ConvEncoder)
    pixels = image(64, 96)
    plain, fine, same = encoder(pixels), encoder.on_grid(pixels, (4, 6)), encoder.on_grid(pixels, (2, 3))
    with torch.no_grad():
        raw = nn.functional.interpolate(model.forward_features(pixels), (4, 6), mode="bilinear", antialias=True)
        expected = nn.functional.layer_norm(
            raw.permute(0, 2, 3, 1), (768,), model.head.norm.weight, model.head.norm.bias, model.head.norm.eps
        )
    torch.testing.assert_close(fine.patches_BHWD, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(same.patches_BHWD, plain.patches_BHWD)
    assert fine.pooled_BD is not None
    assert plain.pooled_BD is not None
    assert torch.equal(fine.pooled_BD, plain.pooled_BD)


def test_rotary_periods_are_rounded_where_the_file_lost_them(tmp_path: Path) -> None:
    """DINOv3 was trained with bf16 periods and timm's files do not hold them: the entry says so."""
    model = shaken("vit_small_patch16_dinov3.lvd1689m", num_classes=0)
    values = {**VIT, "model": "vit_small_patch16_dinov3.lvd1689m", "global_feature": "cls"}
    exact = encoder_of(model, values, tmp_path).get_buffer("model.rope.periods")
    rounded = encoder_of(model, {**values, "rope_periods": "bf16"}, tmp_path).get_buffer("model.rope.periods")
    assert torch.equal(rounded, exact.bfloat16().float())
    assert not torch.equal(rounded, exact)
    assert resolve("dinov3-vit-b").rope_periods == resolve("dinov3-vit-s").rope_periods == "bf16"
    assert resolve("eupe-vit-b").rope_periods == "fp32"


@pytest.mark.parametrize("size", [(64, 64), (96, 48)])
def test_a_radio_gives_its_summary_and_patches_without_a_norm(size: tuple[int, int], tmp_path: Path) -> None:
    """The summary is its trained class tokens side by side; registers and SAM's token are in neither output."""
    options = {"embed_dim": 48, "depth": 3, "num_heads": 3, "pos_embed_grid_size": (8, 8)}
    model = shaken("naflexvit_base_patch16_radio_v3.c_radio", num_classes=0, **options)
    encoder = small("c-radiov3-b", model, options, tmp_path)
    pixels = image(*size)
    features, raw = encoder(pixels, layers=(1,)), encoder(pixels, norm=False)
    with torch.no_grad():
        tokens = model.forward_features(pixels)
        _, (middle,) = model.forward_intermediates(pixels, indices=[1], output_fmt="NLC")
    assert features.pooled_BD is not None
    assert torch.equal(features.pooled_BD, tokens[:, :3].flatten(1))
    assert torch.equal(features.patches_BHWD.flatten(1, 2), tokens[:, 8:])
    assert torch.equal(raw.patches_BHWD, features.patches_BHWD)
    assert torch.equal(features.layers[0].flatten(1, 2), middle)
    assert list(features.others) == ["clip", "siglip2-g", "dino_v2"]


def test_both_rules_of_radio_can_be_run(tmp_path: Path) -> None:
    """On another grid than the table's the two rules differ; on the table's own they do not."""
    options = {"embed_dim": 48, "depth": 1, "num_heads": 3, "pos_embed_grid_size": (4, 4)}
    model = shaken("naflexvit_base_patch16_radio_v3.c_radio", num_classes=0, **options)
    aligned = small("c-radiov3-b", model, options, tmp_path)
    other = small("c-radiov3-b", model, options, tmp_path, positions="radio")
    same, wide = image(64, 64), image(96, 96)
    assert torch.equal(aligned(same).patches_BHWD, other(same).patches_BHWD)
    assert (aligned(wide).patches_BHWD - other(wide).patches_BHWD).abs().max() > 1e-4
    assert aligned.card.spec["positions"] != other.card.spec["positions"]


@pytest.mark.parametrize(("name", "prefix"), [("aimv2-l", 0), ("tipsv2-b", 2), ("pe-lang-l", 1), ("pe-lang-g", 0)])
def test_patches_start_after_the_prefix(name: str, prefix: int, tmp_path: Path) -> None:
    """At the native size the patches are timm's tokens but for the prefix; no mean stands in for a global feature."""
    options = {"embed_dim": 64, "num_heads": 2, "depth": 2, "img_size": 56}
    model = shaken(resolve(name).model, num_classes=0, **options)
    encoder = small(name, model, options, tmp_path)
    features = encoder(image(56, 56))
    with torch.no_grad():
        tokens = model.forward_features(image(56, 56))
    torch.testing.assert_close(features.patches_BHWD.flatten(1, 2), tokens[:, prefix:], rtol=1e-5, atol=1e-5)
    if name == "tipsv2-b":
        torch.testing.assert_close(features.pooled_BD, tokens[:, 0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(features.others["cls2"], tokens[:, 1], rtol=1e-5, atol=1e-5)
    else:
        assert features.pooled_BD is None


def test_a_fastvit_pools_the_map_that_it_gives(tmp_path: Path) -> None:
    """The global feature is timm's own, the mean of the patches; batch norms keep to the statistics of the file."""
    model = shaken("fastvit_t8.apple_in1k", num_classes=0)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.mul_(1.5)
    encoder = small("fastvit-t8", model, {}, tmp_path)
    assert isinstance(encoder, ConvEncoder)
    pixels = image(64, 96)
    features, fine = encoder.train()(pixels, layers=(0, 3)), encoder.on_grid(pixels, (4, 6))
    with torch.no_grad():
        last, pooled = model.forward_features(pixels), model(pixels)
        resized = nn.functional.interpolate(last, (4, 6), mode="bilinear", antialias=True)
    assert torch.equal(features.patches_BHWD, last.permute(0, 2, 3, 1))
    torch.testing.assert_close(features.pooled_BD, pooled)
    torch.testing.assert_close(features.patches_BHWD.mean((1, 2)), pooled)
    assert torch.equal(fine.patches_BHWD, resized.permute(0, 2, 3, 1))
    assert torch.equal(features.layers[1], features.patches_BHWD)
    assert features.layers[0].shape == (2, 16, 24, 48)
