"""The open_clip adapter against open_clip itself, on small architectures of every kind of tower."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from timm.models import vision_transformer
from torch import Tensor

from evals.encoders.clip.config import read_config
from evals.encoders.clip.files import arrange
from evals.encoders.clip.towers import image_tower
from evals.encoders.entry import Positions
from evals.encoders.load import blueprint, load
from evals.encoders.registry import names, resolve
from evals.encoders.sources.open_clip import derive
from evals.errors import UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo
from evals.types import ConvEncoder, Encoder, TextAlignedEncoder
from tests.evals.encoders.small_clips import TAGS, config_of, save, shrink, upstream

KINDS = ("ViT-B-16", "ViT-B-16-quickgelu", "PE-Core-T-16-384", "MobileCLIP2-S0")
"""Architectures whose tokenizer comes with open_clip; ViT-B-16-SigLIP2 is a kind whose does not."""
TWO_LAYOUTS = ("ViT-B-16", "PE-Core-T-16-384")
ENTRIES = [name for name in names() if resolve(name).source == "open_clip"]
MILLIONS = {
    "pe-core-t": 6.0,
    "pe-core-s": 23.6,
    "pe-core-b": 92.9,
    "pe-core-l": 316.1,
    "pe-core-g": 1880.1,
    "siglip2-b": 92.9,
    "siglip2-b-256": 92.9,
    "siglip2-b-384": 93.2,
    "siglip2-b-512": 93.5,
    "siglip2-gopt-256": 1163.2,
    "siglip2-gopt-384": 1163.7,
    "clip-b16": 85.8,
    "clip-l14": 303.2,
    "laion-clip-b16": 85.8,
    "laion-clip-l14": 303.2,
    "mobileclip2-s0": 10.9,
    "mobileclip2-s2": 35.2,
    "mobileclip2-s3": 122.9,
    "mobileclip2-s4": 318.6,
    "mobileclip2-b": 86.0,
    "mobileclip2-l14": 303.2,
    "dfn-h14": 630.8,
    "metaclip2-h14": 630.8,
}
"""Parameters of image towers without their projection, as timm's tables print them."""

cached_upstream = cache(upstream)


@cache
def blueprint_of(name: str) -> Encoder:
    """The encoder of an entry, without weights."""
    return blueprint(resolve(name))


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip tells of small architectures."""
    shrink(monkeypatch)


@pytest.fixture
def small(shrunk: None, tmp_path: Path) -> Callable[..., TextAlignedEncoder]:
    """The adapter with open_clip's own weights of a small architecture."""

    def build(name: str, positions: Positions = "library", **changes: Tensor) -> TextAlignedEncoder:
        path = save(cached_upstream(name), tmp_path / f"{name}.safetensors", **changes)
        entry = replace(derive("mine", f"{name}/{TAGS[name]}"), weights=str(path), positions=positions)
        encoder = load(entry, DigestMemo(None))
        assert isinstance(encoder, TextAlignedEncoder)
        return encoder

    return build


def pixels(encoder: TextAlignedEncoder, rows: int, columns: int) -> Tensor:
    """Two random images in [0, 1]."""
    return torch.rand(2, 3, rows, columns, generator=torch.Generator().manual_seed(1))


def normalised(encoder: TextAlignedEncoder, images: Tensor) -> Tensor:
    """By hand, as open_clip's transform does."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (encoder.spec.mean, encoder.spec.std))
    return (images - mean) / std


@pytest.mark.parametrize("name", [*KINDS, "ViT-B-16-SigLIP2", pytest.param("MobileCLIP2-B", marks=pytest.mark.slow)])
def test_image_vectors_are_upstreams(small: Callable[..., TextAlignedEncoder], name: str) -> None:
    """At the native size the projected, normalised global feature is what open_clip's encode_image gives."""
    encoder, model = small(name), cached_upstream(name)
    images = pixels(encoder, encoder.spec.size, encoder.spec.size)
    features = encoder(images)
    theirs = model.encode_image(normalised(encoder, images))
    torch.testing.assert_close(
        encoder.encode_image(features), torch.nn.functional.normalize(theirs, dim=-1), rtol=0, atol=1e-5
    )
    assert encoder.card.params == sum(p.numel() for p in model.visual.parameters())
    if "projected" in encoder.structure.alternatives:
        torch.testing.assert_close(features.others["projected"], theirs, rtol=1e-4, atol=1e-5)
    else:
        torch.testing.assert_close(features.pooled_BD, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_text_vectors_are_upstreams(small: Callable[..., TextAlignedEncoder], name: str) -> None:
    """Text of any case, with entities or too long, gives open_clip's vectors."""
    encoder, model = small(name), cached_upstream(name)
    prompts = ["a photo of a Tiger.", "  two DOGS &amp; a cat ", "x" * 300]
    ids = open_clip.get_tokenizer(name)(prompts, context_length=config_of(name)["text_cfg"]["context_length"])
    theirs = model.encode_text(ids, normalize=True)
    torch.testing.assert_close(encoder.encode_text(prompts), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-16-quickgelu"])
def test_patches_of_the_own_transformer_are_normed_tokens(small: Callable[..., TextAlignedEncoder], name: str) -> None:
    """Patches are what open_clip's ln_post gives for them, and the class token is the global feature before `proj`."""
    encoder, visual = small(name), cached_upstream(name).visual
    images = pixels(encoder, 64, 64)
    tokens = visual.ln_post(visual.transformer(visual._embeds(normalised(encoder, images))))
    features = encoder(images, layers=(0,), norm=True)
    torch.testing.assert_close(features.patches_BHWD.flatten(1, 2), tokens[:, 1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.pooled_BD, tokens[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.others["cls"], tokens[:, 0], rtol=1e-4, atol=1e-5)
    first = visual.ln_post(visual.transformer.resblocks[0](visual._embeds(normalised(encoder, images))))
    torch.testing.assert_close(features.layers[0].flatten(1, 2), first[:, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [48, 96])
def test_other_grids_are_those_of_open_clips_own_resize(small: Callable[..., TextAlignedEncoder], side: int) -> None:
    """open_clip refuses other sizes at run time, but resizes positions when it loads: both give the same patches."""
    encoder, native = small("ViT-B-16"), cached_upstream("ViT-B-16")
    config = config_of("ViT-B-16")
    config["vision_cfg"]["image_size"] = side
    resized = open_clip.CLIP(**config).eval().requires_grad_(False)
    tensors = native.state_dict()
    importlib.import_module("open_clip.model").resize_pos_embed(tensors, resized)
    resized.load_state_dict(tensors)
    resized.visual.output_tokens = True
    images = pixels(encoder, side, side)
    _, tokens = resized.visual(normalised(encoder, images))
    torch.testing.assert_close(encoder(images).patches_BHWD.flatten(1, 2), tokens, rtol=1e-4, atol=1e-5)


def test_patches_of_a_timm_transformer(small: Callable[..., TextAlignedEncoder]) -> None:
    """PE: patches are normed tokens without the class token, and the global feature is the pool over all of them."""
    encoder, trunk = small("PE-Core-T-16-384"), cached_upstream("PE-Core-T-16-384").visual.trunk
    images = pixels(encoder, 384, 384)
    features, tokens = encoder(images), trunk.forward_features(normalised(encoder, images))
    torch.testing.assert_close(features.patches_BHWD.flatten(1, 2), tokens[:, 1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.pooled_BD, trunk.attn_pool(tokens), rtol=1e-4, atol=1e-5)
    assert [token.trained for token in encoder.structure.prefix] == [False]


def test_positions_of_pe_follow_other_grids_bilinearly(small: Callable[..., TextAlignedEncoder]) -> None:
    """At 256 x 320 the patches are those of timm's model of that very size with a table resized by hand."""
    encoder = small("PE-Core-T-16-384", positions="bilinear")
    tensors = dict(cached_upstream("PE-Core-T-16-384").visual.trunk.state_dict())
    whole = tensors["pos_embed"]
    table = whole[:, 1:].reshape(1, 24, 24, -1).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(table, size=(16, 20), mode="bilinear").permute(0, 2, 3, 1).flatten(1, 2)
    tensors["pos_embed"] = torch.cat([whole[:, :1], resized], dim=1)
    fixed = timm.create_model("vit_pe_core_tiny_patch16_384", img_size=(256, 320), num_classes=512).eval()
    fixed.load_state_dict(tensors)
    images = pixels(encoder, 256, 320)
    with torch.no_grad():
        tokens = fixed.forward_features(normalised(encoder, images))
    torch.testing.assert_close(encoder(images).patches_BHWD.flatten(1, 2), tokens[:, 1:], rtol=1e-4, atol=1e-5)
    library = small("PE-Core-T-16-384")(images).patches_BHWD.flatten(1, 2)
    assert not torch.allclose(library, tokens[:, 1:], rtol=1e-4, atol=1e-5)


def test_the_last_map_of_a_convolutional_tower(small: Callable[..., TextAlignedEncoder]) -> None:
    """The global feature is the mean of the map, on whichever grid the map is wanted, and stages come as they are."""
    encoder, trunk = small("MobileCLIP2-S0"), cached_upstream("MobileCLIP2-S0").visual.trunk
    assert isinstance(encoder, ConvEncoder)
    images = pixels(encoder, 64, 96)
    features = encoder(images, layers=(1, 3))
    assert features.patches_BHWD.shape == (2, 2, 3, 1024)
    assert torch.equal(features.patches_BHWD, features.layers[1])
    assert features.layers[0].shape == (2, 8, 12, 128)
    second = trunk.stages[:2](trunk.stem(normalised(encoder, images)))
    torch.testing.assert_close(features.layers[0].permute(0, 3, 1, 2), second, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.pooled_BD, features.patches_BHWD.mean((1, 2)), rtol=1e-4, atol=1e-5)
    finer = encoder.on_grid(images, (4, 6))
    assert finer.patches_BHWD.shape == (2, 4, 6, 1024)
    torch.testing.assert_close(finer.pooled_BD, features.pooled_BD)


@pytest.mark.parametrize("name", [*KINDS, "ViT-B-16-SigLIP2"])
def test_vectors_have_length_one_in_one_space(small: Callable[..., TextAlignedEncoder], name: str) -> None:
    """Unit image vectors of the width of the common space, also at an oblong size that is not the native one."""
    encoder = small(name)
    image = encoder.encode_image(encoder(pixels(encoder, 2 * encoder.spec.patch, 3 * encoder.spec.patch)))
    assert image.shape == (2, config_of(name)["embed_dim"])
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(2))


def test_names_move_as_timms_own_conversion_moves_them(shrunk: None) -> None:
    """The tensors of open_clip's VisionTransformer land where timm's filter for its named CLIP towers puts them."""
    tensors = cached_upstream("ViT-B-16-quickgelu").state_dict()
    tower = image_tower(read_config("mine", "ViT-B-16-quickgelu/openai"))
    theirs = vision_transformer.checkpoint_filter_fn(dict(tensors), tower)
    ours = {key.removeprefix("visual.trunk."): value for key, value in arrange(tensors).items() if "visual." in key}
    assert not theirs.pop("head.bias").any()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_tower_is_timms_named_one() -> None:
    """At full size it has the tensors and the GELU of timm's vit_base_patch16_clip_quickgelu_224."""
    with torch.device("meta"):
        ours = image_tower(read_config("mine", "ViT-B-16-quickgelu/openai"))
        timms = vision_transformer.vit_base_patch16_clip_quickgelu_224(num_classes=512)
    shapes = [{key: value.shape for key, value in tower.state_dict().items()} for tower in (ours, timms)]
    assert {**shapes[0], "head.bias": torch.Size([512])} == shapes[1]
    for path in ("norm", "norm_pre", "blocks.0.norm1", "blocks.0.mlp.act", "blocks.0.attn.num_heads"):
        one, other = (_at(tower, path) for tower in (ours, timms))
        assert getattr(one, "eps", str(one)) == getattr(other, "eps", str(other))


def _at(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


@pytest.mark.parametrize("name", TWO_LAYOUTS)
@pytest.mark.parametrize("side", ["visual", "text"])
def test_a_file_with_one_tower_is_refused(shrunk: None, tmp_path: Path, name: str, side: str) -> None:
    """Image or text alone is not this encoder: the missing keys are named."""
    kept = {key: value for key, value in cached_upstream(name).state_dict().items()
            if key.startswith("visual.") == (side == "visual")}  # fmt: skip
    torch.save(kept, tmp_path / "half.bin")
    entry = replace(derive("mine", f"{name}/{TAGS[name]}"), weights=str(tmp_path / "half.bin"))
    lacking = {"visual": r"text\.positional_embedding", "text": r"visual\.trunk\."}[side]
    with pytest.raises(WeightsError, match=rf"missing: {lacking}"):
        load(entry, DigestMemo(None))


@pytest.mark.parametrize("name", TWO_LAYOUTS)
def test_a_file_of_another_size_is_refused(small: Callable[..., TextAlignedEncoder], name: str) -> None:
    """A larger position table, or wider text, is no weight of this encoder: key and shapes are named."""
    key = {"ViT-B-16": "visual.positional_embedding", "PE-Core-T-16-384": "visual.trunk.pos_embed"}[name]
    table = cached_upstream(name).state_dict()[key]
    with pytest.raises(WeightsError, match=r"visual\.trunk\.pos_embed \(.*\) instead of \(.*\)"):
        small(name, **{key: torch.cat([table, table], dim=-2)})


def test_left_over_tensors_are_refused_and_the_scale_of_similarities_is_not_needed(
    small: Callable[..., TextAlignedEncoder],
) -> None:
    """A key that nothing takes is named; logit scale and bias, of whichever shape, change no ranking."""
    small("ViT-B-16", logit_scale=torch.ones(1), logit_bias=torch.ones(1))
    with pytest.raises(WeightsError, match=r"unexpected: text\.other, visual\.trunk\.extra"):
        small("ViT-B-16", **{"visual.extra": torch.ones(1), "other": torch.ones(1)})


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_say_what_open_clip_says(name: str) -> None:
    """Each entry builds without memory; size, mean, std, resize and the address are open_clip's, and it has text."""
    entry, built = resolve(name), blueprint_of(name)
    architecture, tag = entry.model.split("/")
    told = open_clip.get_pretrained_cfg(architecture, tag)
    assert (entry.mean, entry.std, entry.interpolation) == (told["mean"], told["std"], told["interpolation"])
    assert {"crop": "shortest", "squash": "squash"}[entry.resize] == told["resize_mode"]
    assert entry.size == open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]
    assert entry.hub is not None
    assert entry.hub.startswith(told["hf_hub"])
    file = entry.hub.removeprefix(told["hf_hub"]).partition("@")[0]
    assert file in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    assert built.card.text is True
    assert isinstance(built, TextAlignedEncoder)
    assert (entry.dim, entry.depth) == (built.dim, built.depth)
    assert all(tensor.is_meta for tensor in built.state_dict().values())


@pytest.mark.parametrize("name", MILLIONS)
def test_image_towers_have_the_published_size(name: str) -> None:
    """Millions of parameters without the projection, to the printed digit."""
    built: Any = blueprint_of(name)
    projection = sum(p.numel() for p in built.trunk.get_classifier().parameters())
    assert round((built.card.params - projection) / 1e6, 1) == MILLIONS[name]


def test_every_tag_with_the_quick_gelu_is_run_with_it() -> None:
    """Exactly the entries whose weights were trained with the quick GELU compute it, in both towers."""
    for name in ENTRIES:
        architecture, tag = resolve(name).model.split("/")
        wanted = open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
        assert architecture.endswith("-quickgelu") == wanted
        built: Any = blueprint_of(name)
        for tower in (built.trunk, built.text):
            assert ("QuickGELU" in {type(module).__name__ for module in tower.modules()}) == wanted, name


@pytest.mark.parametrize("name", ["pe-core-g", "siglip2-b", "laion-clip-l14", "mobileclip2-s3", "dfn-h14-378"])
def test_an_entry_can_be_derived_from_its_model(name: str) -> None:
    """By name alone open_clip gives everything of an entry but what it says for people, and the commit of its file."""
    entry = resolve(name)
    entry = replace(entry, hub=str(entry.hub).partition("@")[0])
    derived = derive(name, entry.model)
    described = {"family", "licence", "prefix", "dim", "depth", "note"}
    for key in {field.name for field in fields(entry)} - described:
        assert getattr(derived, key) == getattr(entry, key), key


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "PE-Core-T-16/meta"}, "unknown open_clip architecture .*Nearest: .*PE-Core-T-16-384"),
        ({"model": "PE-Core-T-16-384/openai"}, "must be <architecture>/<tag>: meta"),
        ({"model": "ViT-B-32/openai"}, "another GELU"),
        ({"model": "RN50-quickgelu/openai"}, "sets layers of a ResNet"),
        ({"model": "convnext_base/laion400m_s13b_b51k"}, "pools by '' and projects by 'linear'"),
        ({"model": "ViT-H-14-CLIPA/datacomp1b"}, "sets final_ln_after_pool, no_ln_pre, pool_type"),
        ({"model": "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"}, "a model of transformers"),
        ({"mean": (0.0, 0.0, 0.0)}, r"mean \(0.0, 0.0, 0.0\) instead of \(0.5, 0.5, 0.5\)"),
        ({"resize": "crop"}, "resize 'crop' instead of 'squash'"),
        ({"interpolation": "bicubic"}, "interpolation 'bicubic' instead of 'bilinear'"),
        ({"size": 224}, "size 224 instead of 384"),
        ({"patch": 14}, "patch 14 instead of 16"),
        ({"global_feature": "cls"}, "global_feature 'cls' instead of 'attn_pool'"),
    ],
)
def test_entries_are_held_against_open_clip(changes: dict[str, Any], words: str) -> None:
    """Architecture, tag, preprocessing, size, patch and pooling must be open_clip's own."""
    with pytest.raises(UsageError, match=words):
        blueprint(replace(resolve("pe-core-t"), **changes))


def test_a_resize_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag whose images are resized by the longest side cannot be taken over by name."""
    tag = {**open_clip.get_pretrained_cfg("PE-Core-T-16-384", "meta"), "resize_mode": "longest"}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, of: tag)
    with pytest.raises(UsageError, match="'longest', which is not known here"):
        derive("mine", "PE-Core-T-16-384/meta")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command that installs it."""
    entry = resolve("pe-core-b", weights="random")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UnavailableError, match=r"pip install 'eupe-eval\[text\]'") as caught:
        load(entry, DigestMemo(None))
    assert caught.value.missing == "package"
