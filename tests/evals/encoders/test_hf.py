"""The adapter of transformers against transformers itself, on tiny models saved as the library saves them."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

from evals.encoders.card import card
from evals.encoders.hf.files import image_settings
from evals.encoders.hf.models import KINDS
from evals.encoders.load import blueprint, digest, load
from evals.encoders.registry import resolve
from evals.errors import DataError, UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo
from evals.types import ConvEncoder, Encoder

BODY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
MLP = {"intermediate_size": 64}
P14, P16 = {"image_size": 56, "patch_size": 14}, {"image_size": 64, "patch_size": 16}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}
SETTINGS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "resample": 3, "do_center_crop": True,
            "size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}  # fmt: skip
"""Of an image processor."""
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "aimv2_vision_model": {**BODY, **MLP, **P14},
    "clip_vision_model": {**BODY, **MLP, **P16},
    "deit": {**BODY, **MLP, **P16},
    "dinov2": {**BODY, **P14, "mlp_ratio": 2},
    "dinov2_with_registers": {**BODY, **P14, "mlp_ratio": 2, "num_register_tokens": 4},
    "dinov3_convnext": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 2, 1], "image_size": 64},
    "dinov3_vit": {**BODY, **MLP, **P16, "num_register_tokens": 4},
    "metaclip_2_vision_model": {**BODY, **MLP, **P16},
    "radio": {**BODY, "mlp_ratio": 2.0, "max_img_size": 128, "num_cls_tokens": 3, "num_registers": 2},
    "siglip_vision_model": {**BODY, **MLP, **P16},
    "siglip2_vision_model": {**BODY, **MLP, "patch_size": 16, "num_patches": 16},
    "tipsv2_vision_model": {**BODY, **P14, "mlp_ratio": 2},
    "vit": {**BODY, **MLP, **P16},
}
TOWERS = ("aimv2", "clip", "metaclip_2", "siglip", "siglip2", "tipsv2")
"""Models of an image tower and a text tower."""


def shaken(model: Any) -> Any:
    """The model with every parameter moved, so that no layer is a no-op."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)


@cache
def upstream(kind: str) -> Any:
    """The library's own tower; no test may change it."""
    tower = getattr(transformers, KINDS[kind].tower)
    return shaken(tower(transformers.CONFIG_MAPPING[kind](**CONFIGS[kind])))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tower as it lies on the hub."""

    @cache
    def save(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        save_model(upstream(kind), folder)
        return folder

    return save


def save_model(model: Any, folder: Path) -> None:
    """Configuration, weights under upstream's names, and the image processor's settings."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SETTINGS))


def encoder_of(folder: Path, query: str = "") -> Encoder:
    """The encoder that a folder makes."""
    return load(resolve(f"hf:{folder}{query}"), DigestMemo(None))


def image(rows: int, columns: int) -> Tensor:
    """Random pixels."""
    return torch.rand(2, 3, rows, columns, generator=torch.Generator().manual_seed(rows))


def normalised(images: Tensor) -> Tensor:
    """As SETTINGS say."""
    mean, std = (torch.tensor(SETTINGS[key]).view(1, 3, 1, 1) for key in ("image_mean", "image_std"))
    return (images - mean) / std


def upstream_pass(kind: str, images: Tensor) -> tuple[Any, int, nn.Module | None]:
    """The library's own call: its output, the prefix tokens in its sequences, and a norm that it left to the caller."""
    model = upstream(kind)
    if kind == "radio":
        # This one takes RGB in [0, 1] and normalises by itself.
        return model(images, output_hidden_states=True), 5, None
    pixels = normalised(images)
    if kind == "siglip2_vision_model":
        patches = torch.stack([convert_image_to_patches(one, 16) for one in pixels])
        grid = torch.tensor([[side // 16 for side in images.shape[2:]]] * 2)
        mask = torch.ones(patches.shape[:2], dtype=torch.int32)
        return model(patches, mask, grid, output_hidden_states=True), 0, None
    prefix = {"clip_vision_model": 1, "metaclip_2_vision_model": 1, "dinov2": 1, "vit": 1, "deit": 2,
              "tipsv2_vision_model": 2, "dinov2_with_registers": 5, "dinov3_vit": 5, "dinov3_convnext": 1}  # fmt: skip
    resized = {"clip_vision_model", "metaclip_2_vision_model", "siglip_vision_model", "vit", "deit"}
    options = {"interpolate_pos_encoding": True} if kind in resized else {}
    unnormed = model.post_layernorm if "clip" in kind and "siglip" not in kind else None
    return model(pixels, output_hidden_states=True, **options), prefix.get(kind, 0), unnormed


SIZES = [(4, 4), (2, 2), (3, 5)]
"""Patches of the native grid, another, and an oblong one."""


@pytest.mark.parametrize("kind", CONFIGS)
def test_features_are_transformers_own(kind: str, saved: Callable[[str], Path]) -> None:
    """At native, other and oblong sizes, patches and global feature equal the library's call bit for bit."""
    encoder = encoder_of(saved(kind))
    for rows, columns in SIZES[: 1 if kind == "aimv2_vision_model" else None]:
        pixels = image(rows * encoder.spec.patch, columns * encoder.spec.patch)
        features = encoder(pixels)
        with torch.no_grad():
            output, prefix, unnormed = upstream_pass(kind, pixels)
            tokens = output.last_hidden_state if unnormed is None else unnormed(output.last_hidden_state)
        assert features.patches_BHWD.shape == (2, rows, columns, 32)
        assert torch.equal(features.patches_BHWD.flatten(1, 2), tokens[:, prefix:])
        # The pools of ViT and DeiT belong to their classifiers; the global feature is the class token.
        pooled = (
            tokens[:, 0] if kind in ("deit", "vit") else output.summary if kind == "radio" else output.pooler_output
        )
        torch.testing.assert_close(features.pooled_BD, pooled, rtol=0, atol=1e-6 if kind == "dinov3_convnext" else 0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_layers_are_hidden_states_after_the_stem(kind: str, saved: Callable[[str], Path]) -> None:
    """Layer i is what block i leaves: the library's hidden state i + 1, under the final norm, and bare if asked."""
    encoder = encoder_of(saved(kind))
    pixels = image(4 * encoder.spec.patch, 4 * encoder.spec.patch)
    with torch.no_grad():
        output, prefix, _ = upstream_pass(kind, pixels)
    normed, bare = encoder(pixels, layers=(-1, 0)), encoder(pixels, layers=(-1, 0), norm=False)
    assert torch.equal(normed.layers[0], normed.patches_BHWD)
    assert torch.equal(bare.layers[0], bare.patches_BHWD)
    if isinstance(encoder, ConvEncoder):
        last, first = (output.hidden_states[index].permute(0, 2, 3, 1) for index in (encoder.depth, 1))
        assert torch.equal(bare.patches_BHWD, last)
        assert torch.equal(normed.layers[1], first)
        return
    norm = upstream(kind).get_submodule(KINDS[kind].norm) if KINDS[kind].norm else nn.Identity()
    states = [output.hidden_states[index][:, prefix:].unflatten(1, (4, 4)) for index in (encoder.depth, 1)]
    with torch.no_grad():
        assert all(torch.equal(one, other) for one, other in zip(bare.layers, states, strict=True))
        assert all(torch.equal(one, norm(other)) for one, other in zip(normed.layers, states, strict=True))


STRUCTURES = {
    "aimv2_vision_model": ("", "final", "learnt, for the native grid alone", "attn_pool", 56),
    "clip_vision_model": ("cls", "final", "learnt, library rule for other grids", "cls", 64),
    "deit": ("cls dist", "final", "learnt, library rule for other grids", "cls", 64),
    "dinov2": ("cls", "final", "learnt, library rule for other grids", "cls", 56),
    "dinov2_with_registers": ("cls reg reg reg reg", "final", "learnt, library rule for other grids", "cls", 56),
    "dinov3_convnext": ("", "final", "none", "gap_norm", 64),
    "dinov3_vit": ("cls reg reg reg reg", "final", "rotary", "cls", 64),
    "metaclip_2_vision_model": ("cls", "final", "learnt, library rule for other grids", "cls", 64),
    "radio": ("cls0 cls1 (cls2) reg reg", "none_exists", "learnt, radio rule for other grids", "summary", 64),
    "siglip_vision_model": ("", "final", "learnt, library rule for other grids", "attn_pool", 64),
    "siglip2_vision_model": ("", "final", "learnt, library rule for other grids", "attn_pool", 64),
    "tipsv2_vision_model": ("cls cls2", "final", "learnt, library rule for other grids", "cls", 56),
    "vit": ("cls", "final", "learnt, library rule for other grids", "cls", 64),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_folder_tells_what_an_entry_says(kind: str, saved: Callable[[str], Path]) -> None:
    """Prefix, norm, positions, global feature and native size, with a blueprint that weighs nothing."""
    entry = resolve(f"hf:{saved(kind)}")
    prefix, norm, positions, pooled, size = STRUCTURES[kind]
    sketch = blueprint(entry)
    assert (" ".join(entry.prefix or ()), entry.norm, entry.global_feature, entry.size) == (prefix, norm, pooled, size)
    assert sketch.structure.positions == positions
    assert sketch.structure.alternatives == tuple(word for word in prefix.split() if word[0] != "(" and word != "reg")
    assert all(tensor.is_meta for tensor in (*sketch.parameters(), *sketch.buffers()))
    if kind != "radio":
        assert (entry.mean, entry.std) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    assert (entry.interpolation, entry.resize, entry.dim, entry.hub) == ("bicubic", "crop", 32, None)
    loaded, again = (load(entry, DigestMemo(None)) for _ in range(2))
    assert digest(loaded) == digest(again)
    assert loaded.card.depth == sketch.card.depth == entry.depth


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_missing_or_foreign_tensor_is_an_error(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """A block without a weight, one of another shape, and a tensor that no module takes are refused by name."""
    shutil.copytree(saved(kind), tmp_path, dirs_exist_ok=True)
    whole = load_file(tmp_path / "model.safetensors")
    key = next(key for key in sorted(whole) if ".1." in key and key.endswith("weight"))
    for tensors, words in (
        ({name: tensor for name, tensor in whole.items() if name != key}, "missing: "),
        ({**whole, "surplus.weight": torch.zeros(2)}, r"unexpected: surplus\.weight"),
        ({**whole, key: torch.zeros(3, 5)}, "of another shape: "),
    ):
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(WeightsError, match=words):
            encoder_of(tmp_path)


@pytest.mark.parametrize("name", TOWERS)
def test_the_image_tower_of_two(name: str, tmp_path: Path) -> None:
    """From the file of a model with text, the image tower alone is taken; what belongs to neither is refused."""
    kind = f"{name}_vision_model"
    config = transformers.CONFIG_MAPPING[name](vision_config=dict(CONFIGS[kind]), text_config=TEXT)
    model = getattr(transformers, type(config).__name__.replace("Config", "Model"))(config).eval()
    model.vision_model.load_state_dict(upstream(kind).state_dict())
    save_model(model, tmp_path)
    encoder = encoder_of(tmp_path)
    pixels = image(4 * encoder.spec.patch, 4 * encoder.spec.patch)
    with torch.no_grad():
        output, prefix, unnormed = upstream_pass(kind, pixels)
        tokens = output.last_hidden_state if unnormed is None else unnormed(output.last_hidden_state)
    assert torch.equal(encoder(pixels).patches_BHWD.flatten(1, 2), tokens[:, prefix:])
    assert encoder.card.params == sum(parameter.numel() for parameter in upstream(kind).parameters())
    tensors = load_file(tmp_path / "model.safetensors")
    assert any(key.startswith("text_") for key in tensors)
    save_file({**tensors, "audio_model.layer.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"unexpected: audio_model\.layer\.weight"):
        encoder_of(tmp_path)


@pytest.mark.parametrize("name", ["ViTForImageClassification", "DeiTForImageClassificationWithTeacher"])
def test_a_classifier_in_the_file_is_left_out(name: str, tmp_path: Path) -> None:
    """A released classifier loads without its head; its tower is the same."""
    model = getattr(transformers, name)
    config = model.config_class(**CONFIGS[model.config_class.model_type])
    classifier = shaken(model(config))
    save_model(classifier, tmp_path)
    tower = classifier.vit if name.startswith("ViT") else classifier.deit
    pixels = image(64, 96)
    with torch.no_grad():
        tokens = tower(normalised(pixels), interpolate_pos_encoding=True).last_hidden_state
    assert torch.equal(encoder_of(tmp_path)(pixels).pooled_BD, tokens[:, 0])


def test_older_names_are_converted(saved: Callable[[str], Path]) -> None:
    """The files hold the names of the hub, which are not those of today's modules."""
    names = {
        kind: set(load_file(saved(kind) / "model.safetensors")) for kind in ("dinov2", "vit", "tipsv2_vision_model")
    }
    assert "encoder.layer.0.attention.attention.query.weight" in names["dinov2"] & names["vit"]
    assert "blocks.0.attn.qkv.weight" in names["tipsv2_vision_model"]
    assert not names["dinov2"] & {f"encoder.layer.0.attention.{part}_proj.weight" for part in "qkvo"}


@pytest.mark.parametrize("kind", ["siglip_vision_model", "aimv2_vision_model", "siglip2_vision_model"])
def test_an_attention_pool_is_never_made_up(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Where the file lacks the pool that the configuration asks for, that is said; without it the rest can be used."""
    shutil.copytree(saved(kind), tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({key: value for key, value in tensors.items() if "head." not in key}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=r"lacks the attention pool .*global_feature=none"):
        resolve(f"hf:{tmp_path}")
    with pytest.raises(WeightsError, match=r"missing: head\..*global_feature: none"):
        encoder_of(tmp_path, "?global_feature=attn_pool")
    pixels = image(4 * 16, 4 * 16) if kind != "aimv2_vision_model" else image(56, 56)
    bare, pooled = encoder_of(tmp_path, "?global_feature=none"), encoder_of(saved(kind))
    assert bare(pixels).pooled_BD is None
    assert torch.equal(bare(pixels).patches_BHWD, pooled(pixels).patches_BHWD)
    unpooled = encoder_of(saved(kind), "?global_feature=none")
    assert unpooled.card.params == bare.card.params < pooled.card.params


def test_positions_for_one_grid_alone(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """AIMv2 has no rule for other grids, which is said; its native variant computes positions for any."""
    fixed = encoder_of(saved("aimv2_vision_model"))
    with pytest.raises(DataError, match=r"positions for 4 x 4 patches and no rule .* got 2 x 4"):
        fixed(image(28, 56))
    config = transformers.Aimv2VisionConfig(**CONFIGS["aimv2_vision_model"], is_native=True, use_head=False)
    model = shaken(transformers.Aimv2VisionModel(config))
    save_model(model, tmp_path)
    free = encoder_of(tmp_path)
    assert free.structure.positions == "computed"
    with torch.no_grad():
        tokens = model(normalised(image(28, 70))).last_hidden_state
    assert torch.equal(free(image(28, 70)).patches_BHWD.flatten(1, 2), tokens)
    assert free(image(28, 70)).pooled_BD is None


def test_a_convolutional_map_is_regridded_before_the_final_norm(saved: Callable[[str], Path]) -> None:
    """The raw map is resized, then normalised; its own grid changes nothing, and the global feature stays."""
    encoder = encoder_of(saved("dinov3_convnext"))
    assert isinstance(encoder, ConvEncoder)
    pixels = image(64, 96)
    raw = encoder(pixels, norm=False).patches_BHWD.permute(0, 3, 1, 2)
    resized = nn.functional.interpolate(raw, (4, 6), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    with torch.no_grad():
        expected = upstream("dinov3_convnext").layer_norm(resized)
    torch.testing.assert_close(encoder.on_grid(pixels, (4, 6)).patches_BHWD, expected)
    same = encoder.on_grid(pixels, (2, 3))
    assert torch.equal(same.patches_BHWD, encoder(pixels).patches_BHWD)
    assert torch.equal(same.pooled_BD, encoder(pixels).pooled_BD)


@pytest.mark.parametrize("kind", ["dinov2", "dinov3_convnext", "radio"])
def test_another_configuration_is_another_encoder(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Two folders with the same weights and another epsilon: two digests of the encoder, two identities before it."""
    shutil.copytree(saved(kind), tmp_path, dirs_exist_ok=True)
    moved, first = encoder_of(tmp_path), encoder_of(saved(kind))
    assert (digest(moved), moved.card.weights_sha256) == (digest(first), first.card.weights_sha256)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "layer_norm_eps": 1e-3}))
    other = encoder_of(tmp_path)
    assert digest(other) != digest(first)
    assert not other.card.same_features(first.card)
    random = [card(resolve(f"hf:{folder}", weights="random"), DigestMemo(None)) for folder in (tmp_path, saved(kind))]
    assert random[0].weights_sha256 != random[1].weights_sha256


def test_random_weights_follow_the_seed(saved: Callable[[str], Path]) -> None:
    """One seed gives the same bytes again, another seed others, and the caller's random stream is left alone."""
    folder = saved("clip_vision_model")
    stream = torch.get_rng_state()
    entry = resolve(f"hf:{folder}", weights="random")
    one, same, other = (load(replace(entry, seed=seed), DigestMemo(None)) for seed in (0, 0, 1))
    assert digest(one) == digest(same) != digest(other)
    assert torch.equal(stream, torch.get_rng_state())


def test_nothing_is_printed(saved: Callable[[str], Path], capfd: pytest.CaptureFixture[str]) -> None:
    """No progress bar and no report of the library comes through, and its logger is left as it was."""
    folder = saved("vit")
    capfd.readouterr()
    before = transformers.logging.get_verbosity()
    encoder_of(folder)
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == before


def rewritten(folder: Path, file: str, **changes: object) -> None:
    """Other values in a JSON file; None takes a key out."""
    values = {**json.loads((folder / file).read_text()), **changes}
    (folder / file).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "resnet"}, "unknown model_type .*'resnet'.*dinov2"),
        ({"model_type": None}, "unknown model_type"),
        ({"hidden_size": "wide"}, "does not fit 'dinov2': .*hidden_size"),
        ({"patch_size": [14, 16]}, "patch_size .* is not square"),
        ({"image_size": [56, 112]}, "image_size .* is not square"),
        ({"num_attention_heads": 5}, "of another shape: encoder"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantised weights"),
    ],
)
def test_configurations_that_cannot_be_used(
    changes: dict[str, object], words: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    """An unknown type, values that the class does not take, and patches that are not square are told."""
    shutil.copytree(saved("dinov2"), tmp_path, dirs_exist_ok=True)
    rewritten(tmp_path, "config.json", **changes)
    with pytest.raises((UsageError, WeightsError), match=words):
        encoder_of(tmp_path)


def test_settings_of_images_that_are_not_told(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Without an image processor the name must say them, and then does; pixels on another scale are refused."""
    shutil.copytree(saved("dinov2"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match="normalise=imagenet&interpolation=bicubic&resize=crop"):
        resolve(f"hf:{tmp_path}")
    entry = resolve(f"hf:{tmp_path}?normalise=half&interpolation=bilinear&resize=squash")
    assert (entry.mean, entry.interpolation, entry.resize) == ((0.5, 0.5, 0.5), "bilinear", "squash")
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": SETTINGS}))
    assert resolve(f"hf:{tmp_path}").mean == (0.5, 0.4, 0.3)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**SETTINGS, "rescale_factor": 1 / 127.5}))
    with pytest.raises(UsageError, match="does not scale pixels to"):
        resolve(f"hf:{tmp_path}")
    (tmp_path / "preprocessor_config.json").write_text("[1]")
    with pytest.raises(UsageError, match="must hold a JSON object"):
        resolve(f"hf:{tmp_path}")
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        resolve(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("processor", "told"),
    [
        ({"size": {"height": 64, "width": 64}, "resample": 2}, {"resize": "squash", "interpolation": "bilinear"}),
        ({"size": {"height": 64, "width": 64}, "do_center_crop": True}, {"resize": "crop"}),
        ({"size": {"shortest_edge": 64}, "resample": 3}, {"resize": "crop", "interpolation": "bicubic"}),
        ({"size": 64, "resample": 1}, {"resize": "squash"}),
        ({"do_normalize": False}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
        ({"image_mean": [0.1, 0.2, 0.3]}, {}),
    ],
)
def test_what_an_image_processor_tells(processor: dict[str, object], told: dict[str, object]) -> None:
    """How an image becomes square, the filter and the colours; nothing is taken for granted."""
    assert image_settings("mine", processor) == told


def test_folders_and_ids_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a folder, a folder without a model, and a hub id that is not in the cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("EUPE_EVAL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match="there is no folder"):
        resolve(f"hf:{tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, match=r"there is no config\.json in"):
        resolve(f"hf:{tmp_path}")
    with pytest.raises(
        UnavailableError, match=r"hf download owner/name config\.json preprocessor_config\.json model"
    ) as it:
        resolve("hf:owner/name")
    assert it.value.missing == "weights"
    with pytest.raises(UsageError, match="owner/repository"):
        resolve("hf:name")


def test_a_hub_id_is_read_from_the_cache(
    saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the hub's cache is found at its commit; the weights are the entry's `hub`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("EUPE_EVAL_CACHE", str(tmp_path / "cache"))
    commit = "0123456789" * 4
    repository = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(saved("dinov3_vit"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    entry = resolve("hf:owner/name")
    assert (entry.model, entry.hub, entry.weights, entry.patch) == ("owner/name", "owner/name", "hub", 16)
    expected = encoder_of(saved("dinov3_vit"))(image(32, 48))
    assert torch.equal(load(entry, DigestMemo(None))(image(32, 48)).patches_BHWD, expected.patches_BHWD)
    pinned = resolve(f"hf:owner/name@{commit}")
    assert torch.equal(load(pinned, DigestMemo(None))(image(32, 48)).patches_BHWD, expected.patches_BHWD)
    with pytest.raises(UnavailableError, match=f"--revision {'f' * 40}"):
        resolve(f"hf:owner/name@{'f' * 40}")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?patch=16", "says patch 16; .* has 14"),
        ("?global_feature=attn_pool", "says global_feature 'attn_pool'; .* has cls, none"),
        ("?positions=dinov2", "positions of encoder .* has its own rule"),
        ("?prefix=cls+reg", r"2 tokens; .* has 1: cls"),
    ],
)
def test_entries_are_held_against_the_model(query: str, words: str, saved: Callable[[str], Path]) -> None:
    """Patch, global feature, positions and prefix must be the model's own."""
    with pytest.raises(UsageError, match=words):
        resolve(f"hf:{saved('dinov2')}{query}")


def test_without_the_package(saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command that installs it."""
    folder = saved("dinov2")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnavailableError, match=r"pip install 'eupe-eval\[hf\]'") as caught:
        resolve(f"hf:{folder}")
    assert caught.value.missing == "package"


def test_a_library_that_is_too_old(saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformers without the class, or whose class is laid out otherwise, is to be upgraded."""
    folders = saved("dinov2"), saved("vit")
    monkeypatch.setitem(KINDS, "dinov2", replace(KINDS["dinov2"], tower="Dinov2ModelOfTomorrow"))
    with pytest.raises(UnavailableError, match="needs a transformers with dinov2"):
        encoder_of(folders[0])
    monkeypatch.setitem(KINDS, "vit", replace(KINDS["vit"], blocks="encoder.layer"))
    with pytest.raises(UnavailableError, match=r"needs a transformers with ViTModel\.encoder\.layer"):
        encoder_of(folders[1])
