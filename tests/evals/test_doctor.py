"""The battery: sound encoders pass, and every check fails on an encoder with the fault that it looks for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

from evals.__main__ import app
from evals.doctor import visit as visiting
from evals.doctor.battery import BATTERY, examine
from evals.doctor.card import as_text, as_values
from evals.doctor.check import Check
from evals.doctor.norms import forms
from evals.doctor.subject import distance
from evals.encoders.entry import EncoderEntry
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import DataError, UnavailableError
from evals.files import DigestMemo
from evals.types import Ask, Encoder, Features, Structure
from tests.evals.sound import DEPTH, DIM, PREFIX, Block, Sound, SoundConv, draw

NAMES = tuple(trial.name for trial in BATTERY)
NOTES = {"token-norms", "text-case"}
"""Checks that never fail: there is something to know, and nothing to forbid."""


def checks(encoder: Encoder) -> Mapping[str, Check]:
    """The verdicts by name."""
    return {check.name: check for check in examine(encoder, torch.device("cpu"))}


def verdicts(encoder: Encoder, verdict: str) -> set[str]:
    """The names of the checks that ended so."""
    return {name for name, check in checks(encoder).items() if check.verdict == verdict}


class OneRegisterLess(Sound):
    """Starts one token too early and drops the last patch, so that the number is right."""

    first = len(PREFIX) - 1

    def as_map(self, tokens_BND: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens on their grid."""
        return super().as_map(tokens_BND[:, :-1], rows, columns)


class Miscounted(Sound):
    """Takes a register for a patch, so that there is one too many."""

    first = len(PREFIX) - 1


class Transposed(Sound):
    """Reads the tokens column by column."""

    def as_map(self, tokens_BND: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens on their grid."""
        return super().as_map(tokens_BND, columns, rows).transpose(1, 2)


class Mirrored(Sound):
    """Rows from bottom to top."""

    def as_map(self, tokens_BND: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens on their grid."""
        return super().as_map(tokens_BND, rows, columns).flip(1)


class NeverNormalised(Sound):
    """Undoes what the contract did."""

    def pixels(self, images_B3YX: Tensor) -> Tensor:
        """What the first layer takes."""
        return images_B3YX * self.std + self.mean


class TwiceNormalised(Sound):
    """Does it again."""

    def pixels(self, images_B3YX: Tensor) -> Tensor:
        """What the first layer takes."""
        return (images_B3YX - self.mean) / self.std


class OtherConstants(Sound):
    """The mean and deviation of another model, close to its own."""

    def pixels(self, images_B3YX: Tensor) -> Tensor:
        """What the first layer takes."""
        return images_B3YX * 1.01


class TrainMode(Sound):
    """BatchNorm learns, and normalises by the batch."""

    def pixels(self, images_B3YX: Tensor) -> Tensor:
        """What the first layer takes."""
        self.stem.training = True
        return images_B3YX


class TableInPlace(Sound):
    """The second size starts from the table of the first."""

    def positions(self, rows: int, columns: int) -> Tensor:
        """The table for a grid."""
        self.table.data = super().positions(rows, columns)
        return self.table


class Remembering(Sound):
    """What sizes came before moves the positions a little; no tensor of the model changes."""

    portraits = 0

    def positions(self, rows: int, columns: int) -> Tensor:
        """The table for a grid."""
        self.portraits += rows > columns
        return super().positions(rows, columns) + 1e-3 * self.portraits


class MeanForClass(Sound):
    """Pools as many libraries do by default."""

    def pooled(self, patches_BHWD: Tensor, others: dict[str, Tensor]) -> Tensor | None:
        """The global feature."""
        return patches_BHWD.mean((1, 2))


class MeanOfTokens(Sound):
    """The mean over all tokens is called the class token."""

    def others(self, final_BTD: Tensor, images_B3YX: Tensor) -> dict[str, Tensor]:
        """The alternatives."""
        return {**super().others(final_BTD, images_B3YX), "cls": final_BTD.mean(1)}


class NoClass(Sound):
    """Documents a class token and gives none."""

    def pooled(self, patches_BHWD: Tensor, others: dict[str, Tensor]) -> Tensor | None:
        """The global feature."""
        return None


class ExtraName(Sound):
    """Gives an alternative that nobody knows of."""

    def others(self, final_BTD: Tensor, images_B3YX: Tensor) -> dict[str, Tensor]:
        """The alternatives."""
        return {**super().others(final_BTD, images_B3YX), "surprise": final_BTD[:, 1]}


class RegisterForClass(Sound):
    """The class token is the first register."""

    def others(self, final_BTD: Tensor, images_B3YX: Tensor) -> dict[str, Tensor]:
        """The alternatives."""
        return {**super().others(final_BTD, images_B3YX), "cls": final_BTD[:, 1]}


class NoNorm(Sound):
    """Leaves the final norm out."""

    def normed(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens after the final norm."""
        return tokens_BTD


class NormOverTokens(Sound):
    """Standardises over the wrong axis."""

    def normed(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens after the final norm."""
        return functional.instance_norm(tokens_BTD.mT).mT


class MadeUpNorm(Sound):
    """Says that there is no norm, and applies one."""

    structure_of = Structure(PREFIX, "none_exists", "learnt", ("cls", "colour"))


class ReversedLayers(Sound):
    """Counts layers from the end."""

    def place(self, layer: int) -> int:
        """Where a layer stands among the blocks."""
        return DEPTH - 1 - layer


class StemIsLayerZero(Sound):
    """Counts the stem as layer 0; the last one is right."""

    def place(self, layer: int) -> int:
        """Where a layer stands among the blocks."""
        return layer if layer == DEPTH - 1 else max(layer - 1, 0)


class BatchMean(Sound):
    """Takes a little of the mean of the batch away."""

    def start(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens before the first block."""
        return tokens_BTD - 1e-2 * tokens_BTD.mean(0, keepdim=True)


class Drawing(Sound):
    """Draws something small at random."""

    def start(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens before the first block."""
        return tokens_BTD + 1e-6 * torch.rand(())


class NoRefusal(Sound):
    """Takes whatever comes."""

    def _check(self, images_B3YX: Tensor, rope_scales_L: Tensor | None) -> None:
        """Nothing is refused."""


class OneSizeWithoutWords(Sound):
    """Gives the native grid whatever the size."""

    def as_map(self, tokens_BND: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens on their grid."""
        x_BDHW = super().as_map(tokens_BND, rows, columns).permute(0, 3, 1, 2)
        return functional.adaptive_avg_pool2d(x_BDHW, 4).permute(0, 2, 3, 1)


class Halves(Sound):
    """Gives patches in half precision."""

    def as_map(self, tokens_BND: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens on their grid."""
        return super().as_map(tokens_BND, rows, columns).half()


class Learning(Sound):
    """Its norm was forgotten when it was frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.norm.requires_grad_(True)


class LargeValues(Sound):
    """Adds much and takes it away again, which eight bits do not survive."""

    def __init__(self) -> None:
        super().__init__()
        self.back = nn.Linear(DIM, DIM, bias=False)
        self.back.weight.data, self.back.weight.requires_grad = torch.eye(DIM), False

    def normed(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens after the final norm."""
        return super().normed((self.back(tokens_BTD + 100) - 100).float())


class NoScales(Sound):
    """Ignores the factors."""

    def scales(self, ask: Ask) -> Tensor:
        """A factor a block."""
        return torch.ones(DEPTH)


class OtherPositions(Sound):
    """Computes positions in another way once factors come."""

    def scales(self, ask: Ask) -> Tensor:
        """A factor a block."""
        return torch.ones(DEPTH) if ask.rope_scales_L is None else ask.rope_scales_L * (1 + 1e-6)


class LongText(Sound):
    """Does not normalise."""

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Vectors."""
        return 2 * super().encode_text(prompts)


class WiderText(Sound):
    """Text and images do not meet."""

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Vectors."""
        return functional.pad(super().encode_text(prompts), (0, 3))


class PaddedToLongest(Sound):
    """Reads a prompt at the end of the longest of its batch."""

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Vectors."""
        return super().encode_text([prompt.ljust(max(map(len, prompts))) for prompt in prompts])


class OtherTower(Sound):
    """Images of another space."""

    def encode_image(self, features: Features) -> Tensor:
        """Unit vectors."""
        return super().encode_image(features)[:, [1, 0, 2, 3]]


class TransposedConv(SoundConv):
    """Takes rows for columns."""

    def as_map(self, x_BDHW: Tensor) -> Tensor:
        """Channels last."""
        batch, channels, rows, columns = x_BDHW.shape
        return super().as_map(x_BDHW.reshape(batch, channels, columns, rows)).transpose(1, 2)


class MirroredConv(SoundConv):
    """Columns from right to left."""

    def as_map(self, x_BDHW: Tensor) -> Tensor:
        """Channels last."""
        return super().as_map(x_BDHW).flip(2)


class RawConv(SoundConv):
    """The norm after the last map is left out, but not for the global feature."""

    def normed(self, x: Tensor) -> Tensor:
        """After the final norm."""
        return x if x.ndim == 4 else super().normed(x)


class MeanConv(SoundConv):
    """The norm comes before the mean."""

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """One pass."""
        features = super().encode(images_B3YX, ask)
        return replace(features, pooled_BD=super().encode(images_B3YX, Ask()).patches_BHWD.mean((1, 2)))


class NormBeforeGrid(SoundConv):
    """The map that is brought to another grid has gone through the norm already."""

    def resized(self, x_BHWD: Tensor, grid: tuple[int, int]) -> Tensor:
        """A map on another grid."""
        return super().resized(self.normed(x_BHWD), grid)


SABOTAGE: Mapping[type[Encoder], set[str]] = {
    OneRegisterLess: {"patch-order", "prefix", "layers"},
    Miscounted: set(NAMES) - {"odd-sizes", "bad-input", "regridding", "text-prompts", "text-case"},
    Transposed: {"patch-order", "prefix", "layers"},
    Mirrored: {"patch-order", "prefix", "layers"},
    NeverNormalised: {"normalisation"},
    TwiceNormalised: {"normalisation"},
    OtherConstants: {"normalisation"},
    TrainMode: {"batch", "unchanged", "eval-mode"},
    TableInPlace: {"sizes", "unchanged"},
    Remembering: {"sizes"},
    MeanForClass: {"global-feature"},
    MeanOfTokens: {"alternatives"},
    NoClass: {"global-feature"},
    ExtraName: {"alternatives"},
    RegisterForClass: {"alternatives"},
    NoNorm: {"final-norm", "alternatives"},
    NormOverTokens: {"final-norm", "alternatives"},
    MadeUpNorm: {"final-norm", "alternatives"},
    ReversedLayers: {"layers"},
    StemIsLayerZero: {"layers"},
    BatchMean: {"batch"},
    Drawing: {"repeat", "sizes", "eval-mode", "layers", "global-feature", "rotary-scales"},
    NoRefusal: {"odd-sizes", "bad-input"},
    OneSizeWithoutWords: {"shapes", "patch-order", "prefix", "layers", "final-norm", "alternatives"},
    Halves: {"shapes", "prefix", "layers", "bf16"},
    Learning: {"frozen"},
    LargeValues: {"bf16"},
    NoScales: {"rotary-scales"},
    OtherPositions: {"rotary-scales"},
    LongText: {"text-vectors"},
    WiderText: {"text-vectors", "text-images"},
    PaddedToLongest: {"text-prompts"},
    OtherTower: {"text-images"},
    TransposedConv: {"patch-order", "layers"},
    MirroredConv: {"patch-order", "layers"},
    RawConv: {"final-norm", "global-feature"},
    MeanConv: {"global-feature", "regridding"},
    NormBeforeGrid: {"regridding"},
}
"""A fault, and the checks that it fails: all of them, and no other."""


@pytest.mark.parametrize("kind", [Sound, SoundConv])
def test_sound_encoders_pass(kind: type[Encoder]) -> None:
    """Nothing fails, and nothing is skipped but what such an encoder does not have."""
    found = checks(kind())
    assert [check.measured for check in found.values() if check.verdict == "fail"] == []
    text = {name for name in NAMES if name.startswith("text-")}
    expected = {"regridding"} if kind is Sound else {"prefix", "rotary-scales", *text}
    assert {name for name, check in found.items() if check.verdict == "skip"} == expected


@pytest.mark.parametrize("kind", SABOTAGE, ids=lambda kind: kind.__name__)
def test_a_fault_fails_its_checks(kind: type[Encoder]) -> None:
    """Each fault is found by the checks that look for it, and does not make others fail."""
    assert verdicts(kind(), "fail") == SABOTAGE[kind]


def test_every_check_finds_a_fault() -> None:
    """No check is empty: each of them but the notes fails on some encoder."""
    assert set().union(*SABOTAGE.values()) == set(NAMES) - NOTES | {"token-norms"}
    assert len(set(NAMES)) == len(NAMES)


def test_what_is_no_fault_is_noted() -> None:
    """Capitals that matter, and a patch far longer than the others."""

    class Cased(Sound):
        def canonical(self, prompt: str) -> str:
            return prompt[:40]

    class Scratch(Sound):
        def normed(self, tokens_BTD: Tensor) -> Tensor:
            longer = torch.ones(tokens_BTD.shape[1], 1)
            longer[-1] = 50
            return super().normed(tokens_BTD) * longer

    cased, scratch = checks(Cased())["text-case"], checks(Scratch())["token-norms"]
    assert (cased.verdict, scratch.verdict) == ("note", "note")
    assert checks(Sound())["text-case"].verdict == "pass"
    assert 45 < float(scratch.measured.split("the greatest ")[1].split(" times")[0]) < 60


def test_random_weights_have_no_limits() -> None:
    """What only training can bring about is noted of weights that were never trained."""

    class Untrained(LargeValues, OtherTower):
        def __init__(self) -> None:
            super().__init__()
            self.card = replace(self.card, random=True)

    found = checks(Untrained())
    assert {found[name].verdict for name in ("bf16", "text-images")} == {"note"}
    assert "random weights" in found["bf16"].measured


def test_an_encoder_of_one_size_is_examined_there() -> None:
    """Sizes that it refuses are noted, and everything else is tried at the native one."""

    class OneSize(Sound):
        def positions(self, rows: int, columns: int) -> Tensor:
            if (rows, columns) != (4, 4):
                raise DataError("4 x 4 alone")
            return super().positions(rows, columns)

    found = checks(OneSize())
    assert {name for name, check in found.items() if check.verdict == "fail"} == set()
    assert (found["shapes"].verdict, found["sizes"].verdict) == ("note", "skip")
    assert "4 x 4 cells of 24; every other size is refused" in found["shapes"].measured
    assert found["patch-order"].measured.startswith("8 of 8")


def test_a_model_that_mixes_places_is_no_fault_of_its_adapter() -> None:
    """Where the last block moves patches, its tokens are still in order: noted, and not failed."""

    class Moving(Block):
        def forward(self, tokens_BTD: Tensor, places_TD: Tensor) -> Tensor:
            moved = super().forward(tokens_BTD, places_TD)
            return torch.cat([moved[:, :3], moved[:, 3:].roll(1, dims=1)], dim=1)

    class Mixing(Sound):
        def __init__(self) -> None:
            super().__init__()
            self.blocks[-1] = Moving()
            draw(self)

    class MixingAndTransposed(Mixing, Transposed):
        """Two faults, of which one is the adapter's."""

    found = checks(Mixing())
    assert {name for name, check in found.items() if check.verdict == "fail"} == set()
    assert (found["patch-order"].verdict, found["prefix"].verdict) == ("note", "note")
    assert "in block 0 15: features are not local" in found["patch-order"].measured
    assert {"patch-order", "prefix", "layers"} == verdicts(MixingAndTransposed(), "fail")


def test_blocks_that_are_in_no_list_are_not_compared() -> None:
    """The order of layers is still tried, and the card says what was not."""

    class Named(Sound):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleDict({str(index): block for index, block in enumerate(self.blocks)})

        def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
            listed = self.blocks
            self.__dict__["blocks"] = list(listed.values())
            try:
                return super().encode(images_B3YX, ask)
            finally:
                del self.__dict__["blocks"]

    found = checks(Named())
    assert found["layers"].verdict == "note"
    assert "no list of 3 blocks" in found["layers"].measured
    assert {name for name, check in found.items() if check.verdict == "fail"} == set()


def test_what_is_not_here_is_skipped() -> None:
    """A tokenizer that is missing skips the checks of text; an encoder that is missing itself is not examined."""

    class NoTokenizer(Sound):
        def encode_text(self, prompts: Sequence[str]) -> Tensor:
            raise UnavailableError("weights", "the tokenizer is not here.\nGet it.")

    class NoModel(Sound):
        def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
            raise UnavailableError("package", "no package")

    found = checks(NoTokenizer())
    text = {name for name in NAMES if name.startswith("text-")}
    assert {name for name, check in found.items() if check.verdict == "skip"} == {"regridding", *text}
    assert found["text-vectors"].measured == "not here: the tokenizer is not here."
    with pytest.raises(UnavailableError):
        checks(NoModel())


def test_text_that_only_the_entry_knows_of_fails() -> None:
    """An entry that promises text for an adapter without a text tower."""
    encoder = SoundConv()
    encoder.card = replace(encoder.card, text=True)
    assert verdicts(encoder, "fail") == {"text-vectors"}


@pytest.mark.parametrize("norm", [nn.LayerNorm(DIM, eps=1e-6), nn.RMSNorm(DIM, eps=1e-5)])
def test_a_norm_is_recognised_from_what_it_does(norm: Any) -> None:
    """Kind, weights and bias are those of torch's module; the inputs themselves are explained by no norm."""
    generator = torch.Generator().manual_seed(0)
    norm.weight.data = torch.randn(DIM, generator=generator)
    if isinstance(norm, nn.LayerNorm):
        norm.bias.data = torch.randn(DIM, generator=generator)
    before = torch.randn(30, DIM, generator=generator) * torch.rand(30, 1, generator=generator) + 0.5
    best = forms(before, norm(before).detach())[0]
    assert best.kind == type(norm).__name__
    assert best.residual < 1e-5
    assert distance(best.weight_D, norm.weight.detach()) < 1e-5
    other = torch.randn(7, DIM, generator=generator)
    assert distance(best.of(other), norm(other).detach()) < 1e-4
    assert forms(before, before)[0].residual > 0.1


@pytest.mark.parametrize(
    ("model", "broken", "name"),
    [
        ("eupe-vit-t", lambda model: setattr(model, "num_prefix_tokens", 4), "prefix"),
        ("eupe-vit-t", lambda model: setattr(model, "norm", nn.Identity()), "final-norm"),
        ("timm:convnext_atto.d2_in1k", lambda model: setattr(model.head, "norm", nn.Identity()), "final-norm"),
        ("eupe-vit-t", lambda model: model.patch_embed.register_forward_pre_hook(_again), "normalisation"),
        ("eupe-vit-t", lambda model: setattr(model.blocks, "_modules", _swapped(model.blocks)), None),
    ],
    ids=["prefix", "norm of a transformer", "norm of a ConvNeXt", "normalised twice", "control"],
)
def test_faults_of_real_adapters_are_found(model: str, broken: Any, name: str | None) -> None:
    """Adapters of timm over a model with a fault; blocks in another order are another encoder, and no fault."""
    encoder: Any = load(resolve(model, weights="random"), DigestMemo(None))
    broken(encoder.model)
    failed = verdicts(encoder, "fail")
    assert (name in failed) if name else failed == set()


def _again(module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
    return ((given[0] - 0.5) / 0.2,)


def _swapped(blocks: Any) -> dict[str, nn.Module]:
    return {str(index): block for index, block in enumerate(reversed(list(blocks)))}


def test_a_fault_is_told_with_its_effect_and_its_mend() -> None:
    """The card has who was examined, a line a check, and for a failure what goes wrong, its effect and the mend."""
    encoder = MeanForClass()
    found = visiting.Visit(encoder.card, "cpu", examine(encoder, torch.device("cpu")))
    told, values = as_text(found), as_values(found)
    lines = told.splitlines()
    (failed,) = [check for check in found.checks if check.verdict == "fail"]
    at = next(index for index, line in enumerate(lines) if line.startswith("FAIL  global-feature"))
    assert found.failed
    words = " ".join(" ".join(lines[at : at + 12]).split())
    for text in (failed.measured, failed.pitfall, failed.effect, failed.mend):
        assert text in words
    assert lines[-1] == "21 passed, 1 failed (1 noted, 1 skipped)"
    assert lines[0].split() == ["encoder", "toy", "(tests:", "toy)"]
    assert max(map(len, lines)) <= 118
    assert (values["passed"], values["failed"], len(values["checks"])) == (21, 1, len(NAMES))
    assert json.loads(json.dumps(values))["checks"][NAMES.index("global-feature")]["mend"] == failed.mend


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The verb, with a cache of its own."""
    monkeypatch.setenv("EUPE_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(visiting, "exact_arithmetic", lambda: None)  # it would hold for every later test
    return lambda *words: CliRunner().invoke(app, ["doctor", *words])


def test_the_verb_prints_a_card(command: Any) -> None:
    """A sound encoder: exit 0, the card as text or JSON on stdout."""
    told = command("-e", "pixels")
    assert told.exit_code == 0, told.output
    assert "0 failed" in told.stdout.splitlines()[-1]
    values = json.loads(command("-e", "pixels", "--json").stdout)
    assert (values["encoder"]["name"], values["failed"]) == ("pixels", 0)
    assert {check["name"] for check in values["checks"]} == set(NAMES)


def test_the_verb_fails_where_a_check_does(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that pools as its library does: exit 1, and the card all the same."""
    monkeypatch.setattr(visiting, "load", lambda entry, digests: MeanForClass())
    told = command("-e", "pixels", "--device", "cpu")
    assert told.exit_code == 1
    assert "FAIL  global-feature" in told.stdout
    assert told.stderr == ""


def test_large_encoders_are_announced(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their parameters and memory, on stderr."""
    monkeypatch.setattr(visiting, "_LARGE", 5_000_000)
    monkeypatch.setattr(visiting, "examine", lambda *words, **options: [])
    told = command("-e", "eupe-vit-t", "--weights", "random", "--json")
    assert "eupe-vit-t has 0.0 billion parameters: 0 GB in fp32" in told.stderr
    assert json.loads(told.stdout)["checks"] == []


def test_missing_weights_are_unavailable(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked for once; without them nothing is examined, and the message says what to get."""
    asked = []

    def fetch(entry: EncoderEntry) -> None:
        asked.append(entry.name)
        raise UnavailableError("weights", "no network")

    monkeypatch.setattr(visiting, "fetch", fetch)
    (tmp_path / "mine.yaml").write_text(
        "source: timm\nmodel: vit_tiny_patch16_dinov3_qkvb\nglobal_feature: cls\nlicence: x\nsize: 32\npatch: 16\n"
        "hub: nobody/nothing\n"
    )
    told = command("-e", "mine", "--config-dir", str(tmp_path))
    assert isinstance(told.exception, UnavailableError)
    assert "nobody/nothing" in str(told.exception)
    assert asked == ["mine"]
