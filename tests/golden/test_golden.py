"""What every encoder computes under named weights is what it computed when its fingerprint was written.

A library that changes an encoder fails here, with the first place that differs. `pytest -m golden` runs all of them.
"""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evals.encoders.load import blueprint, load
from evals.encoders.registry import resolve
from evals.errors import UnavailableError
from evals.files import DigestMemo
from tests.golden import fingerprint
from tests.golden.fingerprint import Fingerprint, difference, measure, shapes
from tests.golden.named import fill, named, noise, shorten, unfilled, value

CHEAP = frozenset(
    {
        "c-radiov3-l",
        "eupe-convnext-t",
        "eupe-vit-t",
        "fastvit-t8",
        "mobileclip2-s0",
        "pe-core-t",
        "pixels",
        "radiov2.5-b-clip",
        "theia-t",
    }
)
"""One of each adapter class and kind of model, in every run of the tests."""
ALL = [pytest.param(name, marks=() if name in CHEAP else pytest.mark.golden) for name in fingerprint.names()]


@pytest.mark.parametrize("name", fingerprint.names())
def test_every_encoder_has_a_fingerprint(name: str) -> None:
    """An entry without one is told how to get it."""
    assert name in fingerprint.stored(), f"{name} has no fingerprint: python tests/golden/make.py {name}"


def test_every_fingerprint_has_an_encoder() -> None:
    """None is left over from an entry that is gone or renamed."""
    assert fingerprint.stored() <= set(fingerprint.names())


@pytest.mark.parametrize("name", ALL)
def test_an_encoder_computes_what_it_did(name: str) -> None:
    """Shapes of all parameters, every block, and what comes out at a small, an oblong and the native size."""
    assert name in fingerprint.stored(), f"{name} has no fingerprint: python tests/golden/make.py {name}"
    kept = fingerprint.read(name)
    try:
        found = fingerprint.compute(name)
    except UnavailableError as error:
        if error.missing != "package":
            raise
        pytest.skip(str(error))
    assert (told := difference(found, kept)) is None, f"{name} computes something else, {told}"


@pytest.mark.parametrize(
    ("name", "parameter", "place"),
    [
        ("eupe-vit-t", "patch_embed.proj.bias", "small block 0"),
        ("eupe-vit-t", "blocks.6.attn.qkv.weight", "small block 6"),
        ("eupe-vit-t", "blocks.6.gamma_2", "small block 6"),
        ("eupe-vit-t", "norm.bias", "small patches:"),
        ("eupe-convnext-t", "stages.2.blocks.4.conv_dw.weight", "small stage 2"),
        ("eupe-convnext-t", "head.norm.weight", "small patches:"),
    ],
)
def test_a_changed_parameter_is_found_where_it_is(name: str, parameter: str, place: str) -> None:
    """One parameter that is off by one percent is told by the block that it belongs to."""
    encoder = named(resolve(name))
    changed = encoder.get_parameter(f"model.{parameter}")
    changed.mul_(1 + 0.01 * noise("change", tuple(changed.shape)))
    told = difference(Fingerprint(shapes(encoder), measure(encoder)), fingerprint.read(name))
    assert told is not None
    assert told.startswith(f"first at {place}"), told


def test_another_gelu_is_found() -> None:
    """The least of the known differences between libraries, an approximate GELU, is beyond the tolerance."""
    encoder = named(resolve("eupe-vit-t"))
    for block in encoder.get_submodule("model.blocks").children():
        block.mlp.act = nn.GELU("tanh")
    told = difference(Fingerprint(shapes(encoder), measure(encoder)), fingerprint.read("eupe-vit-t"))
    assert told is not None
    assert told.startswith("first at small block 0")


def test_other_parameters_and_outputs_are_told() -> None:
    """A shape that changed, and an output that is gone, come before any number."""
    kept = fingerprint.read("eupe-vit-t")
    wider = replace(kept, shapes={**kept.shapes, "numbers": 1})
    poorer = replace(kept, values={place: v for place, v in kept.values.items() if place != "native patches"})
    assert "other parameters" in str(difference(wider, kept))
    assert difference(poorer, kept) == "other outputs: native patches"


def test_noise_is_the_twister_seeded_by_the_name() -> None:
    """NumPy's twister, seeded with the first four bytes of the sha256 of name and shape, gives the same numbers."""
    seed = int.from_bytes(hashlib.sha256(b"blocks.0.attn.proj.weight (64, 33)").digest()[:4], "big")
    raw = np.random.RandomState(seed).randint(0, 2**32, size=(64, 33), dtype=np.uint32)
    unit = (raw % 2**24) / np.float32(2**24)
    expected = torch.from_numpy((unit - 0.5) * math.sqrt(12)).float()
    torch.testing.assert_close(noise("blocks.0.attn.proj.weight", (64, 33)), expected)


@pytest.mark.parametrize(
    ("name", "shape", "mean", "deviation"),
    [
        ("blocks.0.mlp.fc1.weight", (64, 256), 0.0, 1 / 16),
        ("stem.0.weight", (64, 16, 4, 4), 0.0, 1 / 16),
        ("norm.weight", (4096,), 1.0, 0.1),
        ("attn.q_bias", (4096,), 0.0, 0.02),
        ("blocks.0.gamma_1", (4096,), 0.55, 0.9 / math.sqrt(12)),
        ("layer_scale.gamma", (4096, 1, 1), 0.2, 0.2 / math.sqrt(12)),
        ("bn.running_var", (4096,), 1.5, 1 / math.sqrt(12)),
        ("bn.running_mean", (4096,), 0.0, 0.02),
        ("cls_token", (1, 1, 4096), 0.0, 0.3),
    ],
)
def test_named_values_suit_their_kind(name: str, shape: tuple[int, ...], mean: float, deviation: float) -> None:
    """Matrices keep the scale of what they multiply, norms are near one, layer scales and variances are above zero."""
    x = value(name, shape)
    assert x.shape == shape
    assert x.mean().item() == pytest.approx(mean, abs=4 * deviation / math.sqrt(x.numel()))
    assert x.std().item() == pytest.approx(deviation, rel=0.05)
    assert mean == 0 or x.min() >= 0.1


@pytest.mark.parametrize("name", ["eupe-vit-t", "eupe-convnext-t"])
def test_building_without_memory_changes_nothing(name: str) -> None:
    """Parameters put on the meta device while a model is built, and filled afterwards, give the ordinary encoder."""
    entry = resolve(name, weights="random")
    ordinary, bare = load(entry, DigestMemo(None)), unfilled(entry)
    assert all(parameter.is_meta for parameter in bare.parameters())
    assert shapes(ordinary) == shapes(bare) == shapes(blueprint(entry))
    buffers = dict(bare.named_buffers())
    assert buffers.keys() == dict(ordinary.named_buffers()).keys()
    assert all(torch.equal(buffers[key], buffer) for key, buffer in ordinary.named_buffers())
    fill(ordinary)
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ordinary(image).patches_BHWD, named(entry)(image).patches_BHWD)


def test_a_shortened_encoder_computes_its_first_blocks() -> None:
    """Two blocks are left, whose outputs are those of the whole encoder, under the same final norm."""
    entry = resolve("eupe-vit-t")
    whole, short = named(entry), named(entry, cut=True)
    image: Tensor = noise("image", (1, 3, 64, 96)).abs() / 2
    assert short.depth == short.rope_blocks == 2
    assert torch.equal(short(image).patches_BHWD, whole(image, layers=(1,)).layers[0])
    convolutional = unfilled(resolve("eupe-convnext-t"))
    shorten(convolutional)
    assert convolutional.depth == 4
    assert [len(stage.blocks) for stage in convolutional.get_submodule("model.stages").children()] == [2, 2, 2, 2]
