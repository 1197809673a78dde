"""Image towers as open_clip computes them against our encoders, whose weights go through our own map of names.

With -s the relative differences are printed.
"""

from typing import Any

import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional

from evals.encoders.clip.files import arrange
from evals.encoders.registry import resolve
from evals.encoders.weights import load_strict
from evals.types import TextAlignedEncoder
from tests.golden.named import fill, unfilled, weightless
from tests.parity.comparing import ROUNDING, apart, normalised, picture

pytestmark = pytest.mark.golden

GOLDEN = pytest.mark.golden


def their_tower(model: str) -> Any:
    """The image tower of `<architecture>/<tag>`, with named weights."""
    config = open_clip.get_model_config(model.partition("/")[0])
    with weightless():
        both = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    return fill(both.visual).requires_grad_(False).eval()


def ours(name: str, tower: nn.Module) -> Any:
    """The encoder of an entry, with what a checkpoint of open_clip with this tower would bring."""
    encoder: Any = unfilled(resolve(name))
    fill(encoder)
    file = {f"visual.{key}": tensor for key, tensor in tower.state_dict().items()}
    load_strict(nn.ModuleDict({"visual": nn.ModuleDict({"trunk": encoder.trunk})}), arrange(file), what="a tower")
    assert isinstance(encoder, TextAlignedEncoder)
    return encoder


@pytest.mark.parametrize(
    ("name", "colours"),
    [
        ("clip-b16", "clip"),  # the approximate GELU of OpenAI
        ("laion-clip-b16", "clip"),  # the exact one
        pytest.param("clip-b32", "clip", marks=GOLDEN),
        pytest.param("datacomp-clip-b16", "clip", marks=GOLDEN),
    ],
)
def test_towers_of_open_clip_as_models_of_timm(name: str, colours: str) -> None:
    """Patches, and the image in the space of text, of a tower that open_clip wrote itself."""
    tower = their_tower(resolve(name).model)
    encoder = ours(name, tower)
    image = picture(encoder.spec.size, encoder.spec.size)
    tower.output_tokens = True
    vectors, tokens = tower(normalised(image, colours))
    features = encoder(image)
    assert apart(f"{name} patches", features.patches_BHWD.flatten(1, 2), tokens) < ROUNDING
    assert apart(f"{name} projected", features.others["projected"], vectors) < ROUNDING
    assert apart(f"{name} unit", encoder.encode_image(features), functional.normalize(vectors, dim=-1)) < ROUNDING


@pytest.mark.parametrize(
    ("name", "colours"),
    [
        ("pe-core-t", "half"),
        ("mobileclip2-s0", "raw"),
        pytest.param("pe-core-b", "half", marks=GOLDEN),
        pytest.param("siglip2-b", "half", marks=GOLDEN),
        pytest.param("mobileclip2-b", "raw", marks=GOLDEN),
    ],
)
def test_towers_that_open_clip_takes_from_timm(name: str, colours: str) -> None:
    """The image in the space of text, through open_clip's wrapper with its projection, and through ours."""
    tower = their_tower(resolve(name).model)
    encoder = ours(name, tower)
    image = picture(encoder.spec.size, encoder.spec.size)
    unit = functional.normalize(tower(normalised(image, colours)), dim=-1)
    assert apart(f"{name} unit", encoder.encode_image(encoder(image)), unit) < ROUNDING


def test_another_gelu_would_be_seen() -> None:
    """The exact GELU in place of OpenAI's is far beyond rounding: a tower of the wrong name does not pass."""
    tower = their_tower(resolve("clip-b16").model)
    encoder = ours("laion-clip-b16", tower)
    image = picture(224, 224)
    with torch.no_grad():
        vectors = tower(normalised(image, "clip"))
    assert apart("exact for approximate GELU", encoder(image).others["projected"], vectors) > 100 * ROUNDING
