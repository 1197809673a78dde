"""Features: extracted once, kept whole, never taken for those of something else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from evals import features
from evals.context import Context, Roots
from evals.datasets.base import Images
from evals.errors import DataError, NumericsError, WeightsError
from evals.features import FeatureRequest, FeatureStore
from evals.preprocess import Geometry, ShortSideCrop, Squash, to_unit
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, ImageSpec

CARD = EncoderCard("toy", "toy", "toy", "none", "00" * 32, "none", 8, 32, "cls", text=False)
SPEC = ImageSpec(32, 8, "bilinear", True, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CROP, SQUASH = ShortSideCrop(side=32, short=36), Squash(side=32, interpolation="bilinear")


class Toy(Encoder):
    """Patch means through a fixed random matrix; counts its calls."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(CARD, SPEC, dim=5, depth=1)
        generator = torch.Generator().manual_seed(seed)
        self.matrix = torch.nn.Parameter(torch.randn(3, 5, generator=generator), requires_grad=False)
        self.seen = 0

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """Mean colour of each patch."""
        self.seen += len(images_B3YX)
        patches = torch.nn.functional.avg_pool2d(images_B3YX, 8).permute(0, 2, 3, 1) @ self.matrix
        return Features(patches.mean((1, 2)), patches)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Seven pictures of several sizes."""
    rng = np.random.default_rng(0)
    paths = []
    for index in range(7):
        path = tmp_path / "images" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40 + index, 50, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return Images("toy/val", tuple(paths), "11" * 32)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A context with small batches and shards of three."""
    monkeypatch.setattr(features, "SHARD", 3)
    return Context(Roots({}), tmp_path / "results", tmp_path / "cache", batch=2)


def direct(encoder: Encoder, images: Images, geometry: Geometry) -> Features:
    """The features computed in one go, without store or cache."""
    pixels = torch.stack([geometry.apply(Image.open(path).convert("RGB"), 8) for path in images.paths])
    found: Features = encoder(to_unit(pixels))
    return found


def test_store_equals_a_direct_pass(images: Images, context: Context) -> None:
    """Pooled features and patch maps come in the order of the images."""
    store, wanted = FeatureStore(Toy(), context), direct(Toy(), images, CROP)
    assert wanted.pooled_BD is not None
    torch.testing.assert_close(store.get(FeatureRequest(images, CROP)), wanted.pooled_BD)
    torch.testing.assert_close(store.get(FeatureRequest(images, CROP, patches=True)), wanted.patches_BHWD)


def test_warm_cache_equals_cold_bit_for_bit_and_runs_no_encoder(images: Images, context: Context) -> None:
    """The second store reads what the first wrote."""
    cold = FeatureStore(Toy(), context).get(FeatureRequest(images, CROP))
    encoder = Toy()
    assert torch.equal(cold, FeatureStore(encoder, context).get(FeatureRequest(images, CROP)))
    assert encoder.seen == 0


def test_one_pass_serves_all_that_was_announced(
    images: Images, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image is decoded once, equal geometries share a forward pass, others add one each."""
    decoded: list[Path] = []
    original = features.read_rgb
    monkeypatch.setattr(features, "read_rgb", lambda path: decoded.append(path) or original(path))
    encoder = Toy()
    store = FeatureStore(encoder, context)
    wanted = [(CROP, False), (CROP, True), (SQUASH, False)]
    requests = [FeatureRequest(images, geometry, patches) for geometry, patches in wanted]
    store.announce(requests)
    for request in requests:
        store.get(request)
    assert decoded == list(images.paths)
    assert encoder.seen == 2 * len(images.paths)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "delete"])
def test_damaged_shard_counts_as_absent(images: Images, context: Context, damage: str) -> None:
    """Only the damaged shard is made again, and the features come out the same."""
    request = FeatureRequest(images, CROP)
    store = FeatureStore(Toy(), context)
    whole = store.get(request)
    shard = store.folder(request) / "shard-00001.safetensors"
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        shard.write_bytes(data)
    elif damage == "delete":
        shard.unlink()
    else:
        shard.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    encoder = Toy()
    assert torch.equal(whole, FeatureStore(encoder, context).get(request))
    assert encoder.seen == 3


def test_a_killed_pass_goes_on_at_its_shard(images: Images, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards that were finished before the end are not made again."""
    request = FeatureRequest(images, CROP)

    def killed(path: Path) -> Image.Image:
        if path == images.paths[4]:
            raise KeyboardInterrupt
        return Image.open(path).convert("RGB")

    with monkeypatch.context() as patched:
        patched.setattr(features, "read_rgb", killed)
        with pytest.raises(KeyboardInterrupt):
            FeatureStore(Toy(), context).get(request)
    encoder = Toy()
    resumed = FeatureStore(encoder, context).get(request)
    assert encoder.seen == 4
    torch.testing.assert_close(resumed, direct(Toy(), images, CROP).pooled_BD)


def test_everything_that_changes_a_feature_changes_its_folder(images: Images, context: Context) -> None:
    """Weights, geometry, arithmetic, data and output have places of their own."""
    request = FeatureRequest(images, CROP)
    folders = {
        FeatureStore(Toy(), context).folder(request),
        FeatureStore(Toy(seed=1), context).folder(request),
        FeatureStore(Toy(), context, "bf16").folder(request),
        FeatureStore(Toy(), context).folder(FeatureRequest(images, SQUASH)),
        FeatureStore(Toy(), context).folder(FeatureRequest(images, CROP, patches=True)),
        FeatureStore(Toy(), context).folder(FeatureRequest(replace(images, fingerprint="22" * 32), CROP)),
    }
    other = Toy()
    other.card = replace(CARD, model="toy with another activation")
    folders.add(FeatureStore(other, context).folder(request))
    other.card = replace(CARD, spec={"positions": "dinov2"})
    folders.add(FeatureStore(other, context).folder(request))
    assert len(folders) == 8


class Drifting(Toy):
    """Writes to its own parameter at every call."""

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """The features, and a step away from frozen."""
        self.matrix += 1e-3
        return super().encode(images_B3YX, ask)


def test_features_of_an_encoder_that_changes_are_forgotten(images: Images, context: Context) -> None:
    """The pass fails, and leaves nothing in the cache that a later run could take for features of those weights."""
    request = FeatureRequest(images, CROP)
    for _ in range(2):
        store = FeatureStore(Drifting(), context)
        with pytest.raises(WeightsError, match="toy changed while its features were extracted"):
            store.get(request)
        assert not list(store.folder(request).glob("*.safetensors"))


def test_features_that_are_not_finite_name_the_image(images: Images, context: Context) -> None:
    """A broken weight shows in the first image, by name."""
    encoder = Toy()
    encoder.matrix[0, 0] = float("nan")
    with pytest.raises(NumericsError, match=r"toy gives features that are not finite for .*0\.png"):
        FeatureStore(encoder, context).get(FeatureRequest(images, CROP))


def test_truncated_image_is_named(images: Images, context: Context) -> None:
    """A damaged picture stops the pass with its path."""
    path = images.paths[5]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"5\.png cannot be decoded"):
        FeatureStore(Toy(), context).get(FeatureRequest(images, CROP))


def test_one_set_of_decoding_processes_serves_a_whole_pass(
    images: Images, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three shards, one loader: starting processes anew for every shard would cost hours on ImageNet."""
    made: list[object] = []
    original = features.DataLoader
    monkeypatch.setattr(features, "DataLoader", lambda *a, **k: made.append(k) or original(*a, **k))
    store = FeatureStore(Toy(), context)
    store.get(FeatureRequest(images, CROP))
    assert len(list(store.folder(FeatureRequest(images, CROP)).glob("*.safetensors"))) == 3
    assert len(made) == 1


def test_decoding_processes_change_nothing(images: Images, context: Context) -> None:
    """Two workers give the bytes that none gives."""
    alone = FeatureStore(Toy(), context).get(FeatureRequest(images, CROP))
    other = replace(context, workers=2, cache=context.cache / "two")
    assert torch.equal(alone, FeatureStore(Toy(), other).get(FeatureRequest(images, CROP)))
