"""RADIO against transformers' own call and against timm's, on a tiny model in the layouts of both published files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from evals.encoders.card import card
from evals.encoders.clip import text
from evals.encoders.entry import read_entry
from evals.encoders.load import blueprint, digest, load
from evals.encoders.registry import resolve
from evals.encoders.sources import radio
from evals.encoders.sources.radio import SIZES, RadioClip, RadioTokens, cropped
from evals.errors import UnavailableError, UsageError, WeightsError
from evals.files import DigestMemo
from evals.types import Encoder, Features

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES_OF_IMAGES = [(64, 64), (32, 96), (80, 48)]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version small enough to run, with the published table of 128 x 128 positions."""
    monkeypatch.setitem(SIZES, "tiny", TINY)


@cache
def upstream() -> Any:
    """The model of transformers, which normalises by itself; every parameter moved, but its layer scales of 1."""
    config = transformers.RadioConfig(**TINY, num_cls_tokens=4, num_registers=4, summary_idxs=[0, 1, 2])
    model = transformers.RadioModel(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "layer_scale" not in name:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def hub_file() -> dict[str, Tensor]:
    """The tensors as the hub's safetensors have them, written out by hand: no layer scales, fused queries."""
    own = {key: value for key, value in upstream().state_dict().items() if "layer_scale" not in key}
    renamed: dict[str, Tensor] = {}
    for key, value in own.items():
        place = key.replace("encoder.layer", "model.blocks").replace("attention.o_proj", "attn.proj")
        for old, new in (("patch_projection", "embedder"), ("position_embedding", "pos_embed"),
                         ("cls_register_token", "cls_token.token")):  # fmt: skip
            place = place.replace(f"embeddings.{old}", f"model.patch_generator.{new}")
        if ".q_proj." in key:
            place = place.replace("attention.q_proj", "attn.qkv")
            value = torch.cat([own[key.replace("q_proj", f"{part}_proj")] for part in "qkv"])  # noqa: PLW2901
        if not any(part in key for part in (".k_proj.", ".v_proj.")):
            renamed[f"radio_model.{place}"] = value.clone()
    return renamed


def head(hidden: int = 24, outputs: int = 10, blocks: int = 2) -> dict[str, Tensor]:
    """Tensors of a head of upstream's version 2."""
    shapes = {"fc1.weight": (hidden, 32), "fc1.bias": (hidden,)}
    for part in [f"blocks.{index}" for index in range(blocks)] + ["final"]:
        into = outputs if part == "final" else hidden
        shapes |= {f"{part}.0.weight": (hidden,), f"{part}.0.bias": (hidden,)}
        shapes |= {f"{part}.2.weight": (into, hidden), f"{part}.2.bias": (into,)}
    generator = torch.Generator().manual_seed(1)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def release(start: str = "_heads.clip.", own: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The state dict of a release: other beginnings, no indices, and the heads of all teachers."""
    tensors = {
        key.replace("radio_model.model.", "base_model.").replace("radio_model.", ""): value
        for key, value in hub_file().items()
        if not key.endswith("summary_idxs")
    }
    others = {
        "_heads.siglip.fc1.weight": torch.zeros(2, 32),
        "_feature_projections.clip.fc1.weight": torch.zeros(2, 32),
    }
    return {**tensors, **others, **{f"{start}{key}": value for key, value in (own or head()).items()}}


def encoder_of(folder: Path, tensors: Mapping[str, Tensor], **changes: object) -> Encoder:
    """The encoder of a file with these tensors."""
    save_file(dict(tensors), folder / "w.safetensors")
    values = {"family": "radiov2.5", "model": "tiny", "weights": str(folder / "w.safetensors"), **changes}
    return load(read_entry("mine", values), DigestMemo(None))


def with_text(folder: Path, tensors: Mapping[str, Tensor], **changes: object) -> RadioClip:
    """Likewise, with the head."""
    encoder = encoder_of(folder, tensors, text=True, text_tower="dfn", **changes)
    assert isinstance(encoder, RadioClip)
    return encoder


def image(rows: int, columns: int) -> Tensor:
    """Random pixels."""
    return torch.rand(2, 3, rows, columns, generator=torch.Generator().manual_seed(rows))


@dataclass(frozen=True)
class Tower:
    """A text tower that tells how long a prompt is."""

    dim: int

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors."""
        return nn.functional.one_hot(torch.tensor([len(prompt) % self.dim for prompt in prompts]), self.dim).float()


@pytest.fixture
def towers(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, object]]:
    """Stand-ins for text towers of 10 numbers; what they were asked for."""
    asked: list[Mapping[str, object]] = []

    def load_tower(**options: object) -> Tower:
        asked.append(options)
        return Tower(10)

    monkeypatch.setattr(text, "load_tower", load_tower)
    monkeypatch.setattr(text, "tower_identity", lambda name, digests, weights="hub", seed=0: f"{seed:064x}")
    return asked


@pytest.mark.parametrize("size", SIZES_OF_IMAGES)
def test_features_are_transformers_own(size: tuple[int, int], tmp_path: Path) -> None:
    """Patches and summary equal those of the model that normalises by itself, bit for bit: colours are applied once."""
    encoder = encoder_of(tmp_path, hub_file())
    own = upstream()(image(*size), output_hidden_states=True)
    features = encoder(image(*size), layers=(1, 0))
    assert torch.equal(features.patches_BHWD.flatten(1, 2), own.features)
    assert torch.equal(features.pooled_BD, own.summary)
    assert features.patches_BHWD.shape[1:3] == (size[0] // 16, size[1] // 16)
    for layer, state in zip(features.layers, own.hidden_states[:0:-1], strict=True):
        assert torch.equal(layer.flatten(1, 2), state[:, 8:])
    for place, name in enumerate(("clip", "siglip", "dino_v2")):
        assert torch.equal(features.others[name], own.last_hidden_state[:, place])
    assert "sam" not in features.others


def test_the_model_normalises_no_longer(tmp_path: Path) -> None:
    """The conditioner is gone: hand-normalised pixels give the same features, and mean and std are the entry's."""
    encoder = encoder_of(tmp_path, hub_file())
    assert isinstance(encoder, RadioTokens)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    pixels = image(48, 64)
    assert torch.equal(encoder.model((pixels - mean) / std).features, encoder(pixels).patches_BHWD.flatten(1, 2))
    assert (encoder.spec.mean, encoder.spec.std) == (MEAN, STD)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("size", SIZES_OF_IMAGES)
def test_both_rules_are_timms(size: tuple[int, int], aligned: bool, tmp_path: Path) -> None:
    """Under either rule of positions, timm's independent implementation gives the same tokens up to rounding."""
    sizes = {"depth": 2, "embed_dim": 32, "num_heads": 2, "num_classes": 0}
    model: Any = timm.create_model("naflexvit_base_patch16_radio_v3.c_radio", **sizes).eval()
    tensors = {key.removeprefix("radio_model.model."): value for key, value in hub_file().items()}
    prefix, table = tensors["patch_generator.cls_token.token"], tensors["patch_generator.pos_embed"]
    # timm flattens patches with the channels last, and its projection has a bias.
    stem = tensors["patch_generator.embedder.weight"].unflatten(1, (3, 16, 16)).permute(0, 2, 3, 1).flatten(1)
    names = {"embeds.cls_token": prefix[None, :1], "embeds.reg_token": prefix[None, 1:],
             "embeds.pos_embed": table.unflatten(1, (128, 128)), "embeds.proj.weight": stem,
             "embeds.proj.bias": torch.zeros(32)}  # fmt: skip
    scales = {key: torch.ones(32) for key in model.state_dict() if key.endswith("gamma")}
    blocks = {key: value for key, value in tensors.items() if key.startswith("blocks.")}
    model.load_state_dict({**names, **scales, **blocks})
    model.embeds.pos_embed_align_corners = aligned
    encoder = encoder_of(tmp_path, hub_file(), positions="radio_aligned" if aligned else "radio")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        tokens = model.forward_features((image(*size) - mean) / std)
    patches = tokens["patches"] if isinstance(tokens, dict) else tokens
    ours = encoder(image(*size)).patches_BHWD.flatten(1, 2)
    error = (ours - patches[:, -ours.shape[1] :]).norm() / ours.norm()
    assert error < 2e-6


def test_the_rules_differ_and_the_card_tells_which(tmp_path: Path) -> None:
    """The two rules give other features under the same weights; the card holds the rule."""
    plain, aligned = (encoder_of(tmp_path, hub_file(), positions=rule) for rule in ("radio", "radio_aligned"))
    assert (plain(image(64, 64)).patches_BHWD - aligned(image(64, 64)).patches_BHWD).abs().max() > 1e-3
    assert [encoder.card.spec["positions"] for encoder in (plain, aligned)] == ["radio", "radio_aligned"]
    assert not plain.card.same_features(aligned.card)
    assert plain.structure.positions == "learnt, radio rule for other grids"


def test_positions_of_the_whole_table() -> None:
    """At the table's own grid nothing is interpolated; the crop keeps the upper left part of the longer side's."""
    table = torch.randn(1, 36, 2, generator=torch.Generator().manual_seed(0))
    for aligned in (False, True):
        torch.testing.assert_close(cropped(table, (6, 6), aligned=aligned), table)
        wide = cropped(table, (2, 4), aligned=aligned).unflatten(1, (2, 4))
        square = cropped(table, (4, 4), aligned=aligned).unflatten(1, (4, 4))
        assert torch.equal(wide, square[:, :2])


def test_both_files_make_one_encoder(tmp_path: Path) -> None:
    """A release gives what the hub's file gives: as safetensors, as a bare state dict, and in fp16 up to rounding."""
    expected = encoder_of(tmp_path, hub_file())(image(48, 64))
    from_release = encoder_of(tmp_path, release())
    assert torch.equal(from_release(image(48, 64)).patches_BHWD, expected.patches_BHWD)
    assert torch.equal(from_release(image(48, 64)).pooled_BD, expected.pooled_BD)
    torch.save(release(), tmp_path / "w.pth")
    entry = read_entry("mine", {"family": "radiov2.5", "model": "tiny", "weights": str(tmp_path / "w.pth")})
    assert torch.equal(load(entry, DigestMemo(None))(image(48, 64)).patches_BHWD, expected.patches_BHWD)
    rounded = encoder_of(tmp_path, {key: value.half() for key, value in release().items()})
    assert all(parameter.dtype == torch.float32 for parameter in rounded.parameters())
    torch.testing.assert_close(rounded(image(48, 64)).patches_BHWD, expected.patches_BHWD, rtol=0.02, atol=0.02)


QKV = "radio_model.model.blocks.1.attn.qkv.weight"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"radio_model.model.patch_generator.pos_embed": None}, r"missing: embeddings\.position_embedding"),
        ({QKV: None}, r"missing: encoder\.layer\.1\.attention\.k_proj\.weight"),
        ({QKV: torch.zeros(97, 32)}, "does not fit RadioModel"),
        ({"radio_model.model.norm.weight": torch.ones(32)}, r"unexpected: .*norm\.weight"),
        ({"radio_model.summary_idxs": torch.tensor([0, 1, 3])}, r"prefix of encoder 'mine' is not like"),
        ({"radio_model.input_conditioner.norm_mean": torch.full((3, 1, 1), 0.5)}, "mean and std of encoder 'mine'"),
    ],
)
def test_files_that_do_not_fit(changes: dict[str, Tensor | None], words: str, tmp_path: Path) -> None:
    """A tensor too few, too many or of another shape, another summary, and other colours are refused."""
    tensors = {key: value for key, value in {**hub_file(), **changes}.items() if value is not None}
    with pytest.raises((WeightsError, UsageError), match=words):
        encoder_of(tmp_path, tensors)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"positions": "library"}, "positions of encoder 'mine' is 'library'; it is one of radio, radio_aligned"),
        ({"global_feature": "cls"}, "global_feature of encoder 'mine'"),
        ({"model": "radio_v9"}, r"unknown model of encoder 'mine' .*radio_v2\.5-b"),
        ({"prefix": None}, "lacks prefix"),
        ({"text": True}, "needs a class token clip in prefix, and text_tower"),
        ({"text": True, "text_tower": "dfn", "prefix": "a b c (sam) reg*4"}, "needs a class token clip"),
        ({"normalise": "half"}, "mean and std of encoder 'mine'"),
        ({"patch": 14}, "does not fit RadioModel"),
    ],
)
def test_entries_that_do_not_fit(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    """Positions, global feature, version, prefix, text and colours are held against the model."""
    with pytest.raises((UsageError, WeightsError), match=words):
        encoder_of(tmp_path, hub_file(), **changes)


def test_radiov25_has_the_published_number_of_values() -> None:
    """98,233,353 parameters and buffers, as in nvidia/RADIO-B: without the layer scales that are all 1."""
    encoder = blueprint(resolve("radiov2.5-b"))
    buffers = (tensor for name, tensor in encoder.named_buffers() if name != "configuration")
    assert sum(tensor.numel() for tensor in (*encoder.parameters(), *buffers)) == 98_233_353
    assert encoder.card.params == 98_233_353 - 9
    structure = encoder.structure.describe()
    assert structure["prefix"] == "clip siglip dino_v2 (sam) reg reg reg reg"
    assert structure["alternatives"] == "clip siglip dino_v2"
    assert (structure["norm"], encoder.spec.size, encoder.depth) == ("none_exists", 768, 12)


@pytest.mark.parametrize("with_head", [False, True])
def test_names_and_shapes_alone_make_a_blueprint(with_head: bool, tmp_path: Path) -> None:
    """Where no values are read, a file that fits gives a model without values, and one that does not is refused."""
    save_file(release(), tmp_path / "w.safetensors")
    values: dict[str, object] = {"family": "radiov2.5", "model": "tiny", "weights": str(tmp_path / "w.safetensors")}
    entry = read_entry("mine", {**values, **({"text": True, "text_tower": "dfn-h14-378"} if with_head else {})})
    known = card(replace(entry, weights="random"), DigestMemo(None))
    with torch.device("meta"):
        sketch = radio.build(entry, known)
        assert all(tensor.is_meta for tensor in (*sketch.parameters(), *sketch.buffers()))
        assert sketch.dim == 32
    save_file({**release(), "base_model.norm.weight": torch.ones(32)}, tmp_path / "w.safetensors")
    with torch.device("meta"), pytest.raises(WeightsError, match=r"unexpected: .*norm\.weight"):
        radio.build(entry, known)


def test_the_summary_is_three_class_tokens() -> None:
    """2304 numbers for 768 channels, under random weights of the published architecture."""
    encoder = load(resolve("radiov2.5-b", weights="random"), DigestMemo(None))
    features = encoder(image(32, 48))
    assert features.pooled_BD is not None
    assert features.pooled_BD.shape == (2, 2304)
    assert torch.equal(features.pooled_BD, torch.cat([features.others[name] for name in features.others], dim=1))


@pytest.mark.parametrize("start", ["_heads.clip.", "_heads.0."])
def test_the_head_reads_the_clip_token(start: str, tmp_path: Path, towers: list[object]) -> None:
    """Images meet text by upstream's formula on class token 0, from the summary alone; features are as without text."""
    encoder, plain = with_text(tmp_path, release(start)), encoder_of(tmp_path, hub_file())
    features = encoder(image(48, 64))
    assert torch.equal(features.pooled_BD, plain(image(48, 64)).pooled_BD)
    weights, functional = head(), nn.functional

    def layer(name: str, x: Tensor) -> Tensor:
        normed = functional.layer_norm(x, x.shape[1:], weights[f"{name}.0.weight"], weights[f"{name}.0.bias"])
        return functional.linear(functional.gelu(normed), weights[f"{name}.2.weight"], weights[f"{name}.2.bias"])

    x = functional.linear(features.others["clip"], weights["fc1.weight"], weights["fc1.bias"])
    for name in ("blocks.0", "blocks.1"):
        x = x + layer(name, x)
    expected = functional.normalize(layer("final", x), dim=1)
    bare = Features(features.pooled_BD, torch.zeros(2, 0, 0, 32))
    torch.testing.assert_close(encoder.encode_image(bare), expected)
    assert encoder.card.params == plain.card.params + sum(value.numel() for value in weights.values())
    assert encoder.card.text
    assert towers == []


def test_text_comes_from_another_encoders_tower(tmp_path: Path, towers: list[Mapping[str, object]]) -> None:
    """The tower is loaded once, when the first prompt comes, and adds no tensor to the encoder."""
    encoder = with_text(tmp_path, release())
    before = digest(encoder)
    assert torch.equal(encoder.encode_text(["abc", "x"]).argmax(dim=1), torch.tensor([3, 1]))
    encoder.encode_text(["again"])
    assert [asked["name"] for asked in towers] == ["dfn"]
    assert digest(encoder) == before


def test_the_tower_is_part_of_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another text tower makes another encoder; one that is not here leaves images usable, and text says why."""

    def absent(**options: object) -> Tower:
        raise UnavailableError("weights", "the text tower is not here")

    digests = []
    for identity in ("0" * 64, "f" * 64):
        monkeypatch.setattr(text, "tower_identity", lambda identity=identity, **options: identity)
        digests.append(digest(with_text(tmp_path, release())))
    assert digests[0] != digests[1]
    monkeypatch.setattr(text, "tower_identity", absent)
    monkeypatch.setattr(text, "load_tower", absent)
    encoder = with_text(tmp_path, release())
    assert encoder.encode_image(encoder(image(32, 32))).shape == (2, 10)
    with pytest.raises(UnavailableError, match="not here"):
        encoder.encode_text(["a"])


@pytest.mark.parametrize("text", [False, True])
def test_the_configuration_is_part_of_the_digest(
    text: bool, tmp_path: Path, towers: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epsilon stands in no tensor of the file, and makes another encoder."""
    make = with_text if text else encoder_of
    first = digest(make(tmp_path, release()))
    monkeypatch.setitem(SIZES, "tiny", {**TINY, "layer_norm_eps": 1e-3})
    assert digest(make(tmp_path, release())) != first


def test_random_encoders_meet_a_random_tower(towers: list[Mapping[str, object]]) -> None:
    """Without weights there is a floor for text too, from the same seed, with upstream's sizes of the head."""
    encoder = load(resolve("radiov2.5-b-clip", weights="random", seed=3), DigestMemo(None))
    assert isinstance(encoder, RadioClip)
    assert encoder.encode_image(encoder(image(32, 32))).shape == (2, 1024)
    with pytest.raises(WeightsError, match="gives 1024 numbers, its text tower 10"):
        encoder.encode_text(["a"])
    assert (towers[0]["weights"], towers[0]["seed"]) == ("random", 3)


def test_the_entry_with_text_asks_for_the_release() -> None:
    """There are no weights for it on the hub: what to pass is told."""
    with pytest.raises(UnavailableError, match=r"convert that.*Pass the file with --weights PATH"):
        load(resolve("radiov2.5-b-clip"), DigestMemo(None))


V1 = {"fc1.weight": torch.zeros(24, 32), "norm.weight": torch.ones(24), "fc2.weight": torch.zeros(10, 24)}


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({**head(), "fc1.weight": torch.zeros(24, 33)}, r"the head _heads\.clip\.\* is of another kind"),
        (V1, r"of another kind than fc1 .*fc2\.weight \(10, 24\)"),
        ({**head(), "blocks.1.2.weight": torch.zeros(24, 23)}, r"of another shape: blocks\.1\.2\.weight"),
        ({key: value for key, value in head().items() if key != "final.0.bias"}, r"missing: final\.0\.bias"),
        ({**head(), "pre_norm.0.weight": torch.ones(32)}, r"unexpected: pre_norm\.0\.weight"),
    ],
)
def test_heads_of_another_kind(own: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    """A head that is not the documented one is refused with what it holds, never run as if it were."""
    with pytest.raises(WeightsError, match=words):
        with_text(tmp_path, release(own=own))


def test_a_file_without_the_head(tmp_path: Path) -> None:
    """The hub's file has no head: which file has it is told."""
    with pytest.raises(WeightsError, match=r"has no keys _heads\.clip\.\* or _heads\.0\.\*.*eupe-eval convert"):
        with_text(tmp_path, hub_file())
