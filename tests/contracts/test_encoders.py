"""What every encoder owes to its users, shown on the smallest model of each adapter class, with random weights."""

import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml

from evals.doctor.battery import BATTERY, examine
from evals.doctor.check import Check
from evals.encoders.entry import EncoderEntry, config_folder, read_entry
from evals.encoders.load import blueprint, digest, load
from evals.encoders.registry import names, resolve
from evals.errors import UsageError
from evals.files import DigestMemo
from evals.types import Ask, ConvEncoder, Encoder, TextAlignedEncoder
from tests.evals.encoders.small_clips import shrink

TINY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
OF_TRANSFORMERS: Mapping[str, Mapping[str, Any]] = {
    "aimv2_vision_model": {**TINY, "intermediate_size": 64, "image_size": 56, "patch_size": 14},
    "dinov3_convnext": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 2, 1], "image_size": 64},
    "dinov3_vit": {**TINY, "intermediate_size": 64, "image_size": 64, "patch_size": 16, "num_register_tokens": 4},
    "radio": {**TINY, "mlp_ratio": 2.0, "max_img_size": 128, "num_cls_tokens": 3, "num_registers": 2},
    "siglip2_vision_model": {**TINY, "intermediate_size": 64, "patch_size": 16, "num_patches": 16},
}
"""Model type -> what is set of its configuration, so that it is small."""
KINDS = (
    "eupe-vit-t",  # timm's Eva: class token, 4 registers, rotary positions
    "timm:convnext_atto.d2_in1k",  # timm's ConvNeXt
    "timm:vit_small_patch14_dinov2.lvd142m?size=224",  # VisionTransformer: class token, learnt positions, patch 14
    "timm:vit_pe_spatial_tiny_patch16_512.fb?size=256",  # no global feature, an untrained class token, no final norm
    "theia-t",  # a key map onto timm, no global feature, a final norm
    "open_clip:PE-Core-T-16-384/meta",  # text tower, attention pool, projection
    "open_clip:MobileCLIP2-S0/dfndr2b",  # text tower, FastViT, BatchNorm
    "fastvit-t8",  # timm: FastViT, BatchNorm, mean of the map
    "pixels",  # nothing to load
    *OF_TRANSFORMERS,  # one size alone; stages; class token; several class tokens; attention pool over linear patches
)
"""Entries, routes, and types of transformers."""
SKIPPED: Mapping[str, set[str]] = {
    "aimv2_vision_model": {"sizes"},
    "pixels": {"normalisation", "layers"},
}
"""Checks that do not apply to a kind, beside those that its class has nothing for."""
MILLIONS = 30
LARGE = 100


def settings(side: int) -> str:
    """Of an image processor, as the hub has them."""
    square = f'{{"height": {side}, "width": {side}}}'
    return f'{{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "resample": 3, "size": {square}}}'


@cache
def encoder_of(kind: str, seed: int = 0) -> Encoder:
    """The encoder of a kind; built once, for no test may change it."""
    if kind not in OF_TRANSFORMERS:
        # Text towers of few blocks; image towers of timm are as they are.
        with pytest.MonkeyPatch.context() as patch:
            shrink(patch)
            return load(resolve(kind, weights="random", seed=seed), DigestMemo(None))
    with tempfile.TemporaryDirectory() as folder:
        config = transformers.CONFIG_MAPPING[kind](**OF_TRANSFORMERS[kind])
        config.save_pretrained(folder)
        (Path(folder) / "preprocessor_config.json").write_text(settings(getattr(config, "image_size", 64)))
        return load(resolve(f"hf:{folder}", weights="random", seed=seed), DigestMemo(None))


@cache
def examined(kind: str) -> tuple[Mapping[str, Check], bool]:
    """What the doctor says of a kind, by the name of the check, and whether the encoder is what it was before."""
    encoder = encoder_of(kind)
    before = digest(encoder)
    checks = {check.name: check for check in examine(encoder, torch.device("cpu"))}
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())
    return checks, digest(encoder) == before and not hooked


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each adapter class in turn."""
    return str(request.param)


def said(checks: Mapping[str, Check]) -> list[str]:
    """What failed, in words."""
    return [f"{check.name}: {check.measured}" for check in checks.values() if check.verdict == "fail"]


def skippable(encoder: Encoder) -> set[str]:
    """Checks that the class of an encoder, or its model, has nothing for."""
    text = {trial.name for trial in BATTERY if trial.name.startswith("text-")}
    return (
        (set() if isinstance(encoder, TextAlignedEncoder) else text)
        | ({"prefix"} if isinstance(encoder, ConvEncoder) else {"regridding"})
        | (set() if encoder.rope_blocks else {"rotary-scales"})
    )


def test_every_adapter_passes_the_battery(kind: str) -> None:
    """Shapes, refusals, normalisation, places, layers, norm, global feature, conduct and text, all of it applied."""
    checks, _ = examined(kind)
    assert said(checks) == []
    assert list(checks) == [trial.name for trial in BATTERY]
    skipped = {check.name for check in checks.values() if check.verdict == "skip"}
    assert skipped == skippable(encoder_of(kind)) | SKIPPED.get(kind, set())


def test_an_examination_leaves_the_encoder_as_it_was(kind: str) -> None:
    """Every parameter and buffer is what it was before the battery, and no hook stays."""
    assert examined(kind)[1]


def test_layers_that_do_not_exist_are_refused(kind: str) -> None:
    """A layer too far, from either end, is an error that says which there are."""
    encoder = encoder_of(kind)
    side = encoder.spec.size // encoder.spec.patch * encoder.spec.patch
    for layer in (encoder.depth, -encoder.depth - 1):
        with pytest.raises(UsageError, match="do not exist"):
            encoder(torch.zeros(1, 3, side, side), layers=(layer,))


def test_the_card_tells_what_was_built(kind: str) -> None:
    """Width, depth, parameters and the random stamp are on the card."""
    encoder = encoder_of(kind)
    assert (encoder.card.dim, encoder.card.depth) == (encoder.dim, encoder.depth)
    assert encoder.card.random == (encoder.card.weights == "random")
    assert encoder.card.text == isinstance(encoder, TextAlignedEncoder)
    assert (encoder.card.params == 0) == (encoder.card.name == "pixels")


@pytest.mark.parametrize("kind", ["eupe-vit-t", "timm:convnext_atto.d2_in1k"])
def test_random_weights_follow_the_seed(kind: str) -> None:
    """One seed gives the same bytes again, another seed others, and the caller's random stream is left alone."""
    first, stream = encoder_of(kind), torch.get_rng_state()
    again, other = (load(resolve(kind, weights="random", seed=seed), DigestMemo(None)) for seed in (0, 1))
    assert torch.equal(stream, torch.get_rng_state())
    assert digest(first) == digest(again)
    assert digest(first) != digest(other)
    assert first.card.weights_sha256 == again.card.weights_sha256 != other.card.weights_sha256


@pytest.mark.parametrize("name", [name for name in names() if resolve(name).source != "export"])
def test_every_entry_reads_and_is_short(name: str) -> None:
    """Each YAML of the project is a whole entry of at most ten lines."""
    path: Path = config_folder() / "encoder" / f"{name}.yaml"
    text = path.read_text()
    entry = read_entry(name, yaml.safe_load(text))
    assert entry.name == name
    assert len(text.splitlines()) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_entry_builds(name: str) -> None:
    """Each entry fits its model and runs on an oblong image: with random weights, or large ones without any."""
    entry = resolve(name, weights="random")
    if parameters(entry) > LARGE * 1e6:
        encoder = blueprint(entry)
        patch = encoder.spec.patch
        features = encoder.encode(torch.empty(1, 3, 2 * patch, 3 * patch, device="meta"), Ask())
    else:
        encoder = load(entry, DigestMemo(None))
        patch = encoder.spec.patch
        features = encoder(torch.rand(1, 3, 2 * patch, 3 * patch, generator=torch.Generator().manual_seed(0)))
    assert features.patches_BHWD.shape == (1, 2, 3, encoder.dim)


@pytest.mark.slow
def test_every_small_entry_passes_the_battery() -> None:
    """Entries of at most 30 million parameters pass, random weights and all, within 4 minutes."""
    small = [entry for entry in map(resolve, names()) if parameters(entry) <= MILLIONS * 1e6]
    assert len(small) >= 5
    failed, started = {}, time.monotonic()
    for entry in small:
        encoder = load(resolve(entry.name, weights="random"), DigestMemo(None))
        found = said({check.name: check for check in examine(encoder, torch.device("cpu"))})
        failed |= {entry.name: found} if found else {}
    seconds = time.monotonic() - started
    print(f"battery of {len(small)} encoders: {seconds:.0f} s on {torch.get_num_threads()} threads")
    assert failed == {}
    assert seconds < 240


def parameters(entry: EncoderEntry) -> int:
    """How many the image side has."""
    return blueprint(entry).card.params or 0
