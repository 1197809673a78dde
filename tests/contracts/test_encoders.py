"""What every encoder owes to its users, shown on the smallest model of each adapter class, with random weights."""

from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from evals.encoders.entry import EncoderEntry, config_folder, read_entry
from evals.encoders.load import digest, load
from evals.encoders.registry import names, resolve
from evals.errors import DataError, UsageError
from evals.files import DigestMemo
from evals.types import Ask, Encoder, Features, TextAlignedEncoder

PE_TINY = {
    "source": "open_clip",
    "model": "PE-Core-T-16-384/meta",
    "global_feature": "attn_pool",
    "licence": "Apache-2.0",
    "size": 384,
    "patch": 16,
    "interpolation": "bilinear",
    "resize": "squash",
    "normalise": "half",
    "weights": "random",
}
KINDS = (
    "eupe-vit-t",  # timm's Eva: class token, 4 registers, rotary positions
    "eupe-convnext-t",  # timm's ConvNeXt
    "timm:vit_small_patch14_dinov2.lvd142m",  # VisionTransformer: class token, learnt positions, patch 14
    "timm:vit_pe_spatial_tiny_patch16_512.fb",  # no global feature, an untrained class token, no final norm
    "open_clip",  # text tower, attention pool
    "pixels",
)


def entry_of(kind: str, seed: int = 0) -> EncoderEntry:
    """The entry of a kind, with random weights."""
    if kind == "open_clip":
        return read_entry("pe-core-t", PE_TINY)
    return resolve(kind, weights="random", seed=seed)


@cache
def encoder_of(kind: str) -> Encoder:
    """The encoder of a kind; built once, for no test may change it."""
    return load(entry_of(kind), DigestMemo(None))


@pytest.fixture(params=KINDS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """Each adapter class in turn."""
    return encoder_of(request.param)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Random pixels in [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def same(one: Features, other: Features) -> bool:
    """Whether two passes gave the same bits."""
    if one.pooled_BD is None or other.pooled_BD is None:
        pooled = one.pooled_BD is other.pooled_BD
    else:
        pooled = torch.equal(one.pooled_BD, other.pooled_BD)
    return pooled and torch.equal(one.patches_BHWD, other.patches_BHWD)


@pytest.mark.parametrize("grid", [(4, 4), (2, 3), (5, 2)])
def test_one_feature_a_cell_of_the_grid(encoder: Encoder, grid: tuple[int, int]) -> None:
    """At square and oblong sizes there is exactly one patch feature a patch, and one global feature if documented."""
    rows, columns = grid
    features = encoder(noise(2, 3, rows * encoder.spec.patch, columns * encoder.spec.patch))
    assert features.patches_BHWD.shape == (2, rows, columns, encoder.dim)
    assert features.patches_BHWD.dtype == torch.float32
    assert (features.pooled_BD is None) == (encoder.card.global_feature == "none")
    assert features.pooled_BD is None or features.pooled_BD.shape[0] == 2


def test_the_native_size_works(encoder: Encoder) -> None:
    """The size that the entry calls native gives a square grid."""
    side = encoder.spec.size // encoder.spec.patch
    size = side * encoder.spec.patch
    assert encoder(noise(1, 3, size, size)).patches_BHWD.shape[1:3] == (side, side)


@pytest.mark.parametrize("cell", [(0, 0), (1, 2), (2, 0), (3, 4)])
def test_a_bright_patch_lights_up_where_it_is(encoder: Encoder, cell: tuple[int, int]) -> None:
    """The map differs from that of a blank image most at the patch that differs: rows, columns and prefix are right."""
    patch = encoder.spec.patch
    image = torch.full((1, 3, 4 * patch, 5 * patch), 0.4)
    blank = encoder(image).patches_BHWD
    row, column = cell
    image[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = noise(3, patch, patch)
    change = (encoder(image).patches_BHWD - blank).norm(dim=-1)[0]
    assert divmod(int(change.argmax()), 5) == cell


def test_normalisation_happens_inside_and_once(encoder: Encoder) -> None:
    """An image in [0, 1] gives what its hand-normalised pixels give to the bare model."""
    image = noise(1, 3, 4 * encoder.spec.patch, 4 * encoder.spec.patch)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (encoder.spec.mean, encoder.spec.std))
    with torch.no_grad():
        by_hand = encoder.encode((image - mean) / std, Ask())
    assert same(encoder(image), by_hand)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(1, 3, 448, 448, dtype=torch.uint8), "float32"),
        (torch.zeros(3, 448, 448), "float32 RGB of shape"),
        (torch.full((1, 3, 448, 448), 1.5), r"\[0, 1\]"),
        (torch.full((1, 3, 448, 448), -0.1), r"\[0, 1\]"),
        (torch.zeros(1, 3, 448, 450), "nearest: 448 x 448"),
    ],
)
def test_wrong_images_are_refused(encoder: Encoder, image: Tensor, words: str) -> None:
    """Another dtype, rank, range or size is an error that says what was expected, never a silent conversion."""
    with pytest.raises(DataError, match=words):
        encoder(image)


def test_always_in_eval_mode_and_without_gradients(encoder: Encoder) -> None:
    """Asking for train mode changes nothing, and nothing in the encoder asks for a gradient."""
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(noise(1, 3, 2 * encoder.spec.patch, 2 * encoder.spec.patch)).patches_BHWD.requires_grad


def test_a_pass_changes_nothing_and_repeats_itself(encoder: Encoder) -> None:
    """Sizes A, B, A: the first and the last pass give the same bits, and the digest stays."""
    patch, before = encoder.spec.patch, digest(encoder)
    image = noise(1, 3, 4 * patch, 4 * patch)
    first = encoder(image)
    encoder(noise(1, 3, 2 * patch, 6 * patch))
    assert same(first, encoder(image))
    assert digest(encoder) == before


def test_batch_mates_do_not_matter(encoder: Encoder) -> None:
    """An image has the same features alone and in a batch, up to rounding."""
    images = noise(3, 3, 3 * encoder.spec.patch, 2 * encoder.spec.patch)
    together, alone = encoder(images), encoder(images[1:2])
    torch.testing.assert_close(together.patches_BHWD[1:2], alone.patches_BHWD, rtol=1e-4, atol=1e-5)
    if alone.pooled_BD is not None:
        torch.testing.assert_close(together.pooled_BD[1:2], alone.pooled_BD, rtol=1e-4, atol=1e-5)


def test_layers_come_in_the_order_asked(encoder: Encoder) -> None:
    """The last layer equals the patch features, the order is the caller's, and a layer too far is refused."""
    image = noise(1, 3, 2 * encoder.spec.patch, 3 * encoder.spec.patch)
    if encoder.depth:
        last = encoder.depth - 1
        features = encoder(image, layers=(last, 0, last))
        first_again = encoder(image, layers=(0,)).layers[0]
        assert torch.equal(features.layers[0], features.patches_BHWD)
        assert torch.equal(features.layers[1], first_again)
        assert torch.equal(features.layers[2], features.layers[0])
        assert not torch.equal(features.layers[1].mean((1, 2)).flatten(), features.layers[0].mean((1, 2)).flatten())
    with pytest.raises(UsageError, match="do not exist"):
        encoder(image, layers=(encoder.depth,))


def test_the_card_tells_what_was_built(encoder: Encoder) -> None:
    """Width, depth, parameters and the random stamp are on the card."""
    assert (encoder.card.dim, encoder.card.depth) == (encoder.dim, encoder.depth)
    assert encoder.card.random == (encoder.card.weights == "random")
    assert encoder.card.text == isinstance(encoder, TextAlignedEncoder)
    assert (encoder.card.params == 0) == (encoder.card.name == "pixels")


@pytest.mark.parametrize("kind", ["eupe-vit-t", "eupe-convnext-t"])
def test_random_weights_follow_the_seed(kind: str) -> None:
    """One seed gives the same bytes again, another seed others, and the caller's random stream is left alone."""
    stream = torch.get_rng_state()
    again, other = (load(entry_of(kind, seed), DigestMemo(None)) for seed in (0, 1))
    assert torch.equal(stream, torch.get_rng_state())
    first = encoder_of(kind)
    assert digest(first) == digest(again)
    assert digest(first) != digest(other)
    assert first.card.weights_sha256 == again.card.weights_sha256 != other.card.weights_sha256


@pytest.mark.parametrize("name", names())
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
    """Each entry of the project builds with random weights, fits its model, and runs on an oblong image."""
    encoder = load(resolve(name, weights="random"), DigestMemo(None))
    patch = encoder.spec.patch
    assert encoder(noise(1, 3, 2 * patch, 3 * patch)).patches_BHWD.shape == (1, 2, 3, encoder.dim)
