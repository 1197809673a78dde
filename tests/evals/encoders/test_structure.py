"""What models of timm are made of, as their entries and they themselves tell it."""

import pytest
import timm
import torch

from evals.encoders.entry import EncoderEntry, read_entry
from evals.encoders.load import blueprint
from evals.encoders.structure import agreed_norm, class_token_of, class_tokens, derived_prefix, prefixes
from evals.errors import UsageError
from evals.types import Prefix, Structure

VIT = {"source": "timm", "model": "vit_tiny_patch16_224", "licence": "x", "size": 224, "patch": 16}
RADIO = {**VIT, "model": "naflexvit_base_patch16_radio_v3", "global_feature": "summary"}


def entry_of(**changes: object) -> EncoderEntry:
    """An entry of a small transformer."""
    return read_entry("mine", {**VIT, "global_feature": "cls", **changes})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("vit_small_patch14_reg4_dinov2", ("cls", "reg", "reg", "reg", "reg")),
        ("vit_pe_spatial_tiny_patch16_512", ("(cls)",)),  # no norm, so no output
        ("vit_pe_core_tiny_patch16_384", ("(cls)",)),  # the pool gives the output
        ("vit_pe_lang_gigantic_patch14_448", ()),
        ("deit_tiny_distilled_patch16_224", ("cls", "dist")),  # two outputs, no register
        ("aimv2_large_patch14_224", ()),
        ("naflexvit_base_patch16_radio_v3", ("(cls)", *["reg"] * 7)),  # which are class tokens only upstream tells
    ],
)
def test_what_a_model_tells_of_its_prefix(model: str, words: tuple[str, ...]) -> None:
    """The class token is an output where a norm follows it and no pool takes its part."""
    with torch.device("meta"):
        built = timm.create_model(model, num_classes=0)
    assert derived_prefix(built) == words
    assert (class_token_of(built) is None) == (words == ())


def test_words_of_a_prefix() -> None:
    """Parentheses say that a token was never trained as an output."""
    assert prefixes(("clip", "(sam)", "reg")) == (Prefix("clip"), Prefix("sam", trained=False), Prefix("reg"))


def test_class_tokens_are_the_trained_ones_by_name() -> None:
    """Registers and untrained class tokens are no features."""
    structure = Structure(prefixes(("clip", "(sam)", "dino", "reg")), "final", "none", ("clip", "dino"))
    tokens = torch.arange(5.0).reshape(1, 5, 1).expand(2, 5, 3)
    found = class_tokens(structure, tokens)
    assert {name: value.tolist() for name, value in found.items()} == {
        "clip": [[0.0] * 3] * 2,
        "dino": [[2.0] * 3] * 2,
    }


def test_the_number_of_prefix_tokens_is_held_against_the_model() -> None:
    """Tokens taken for patches, or patches for tokens, are refused before anything runs."""
    with pytest.raises(UsageError, match=r"is 'cls reg', 2 tokens; vit_tiny_patch16_224 has 1\."):
        blueprint(entry_of(prefix="cls reg"))


@pytest.mark.parametrize(
    ("said", "own"), [("none_exists", "final"), ("final", "none_exists"), ("untrained", "none_exists")]
)
def test_a_norm_that_is_denied_or_made_up_is_refused(said: str, own: str) -> None:
    """An entry cannot say that there is no norm where one runs, nor the reverse."""
    with pytest.raises(UsageError, match=f"says norm '{said}'.*leave norm out"):
        agreed_norm(entry_of(norm=said), own)  # type: ignore[arg-type]


def test_a_norm_is_untrained_where_the_entry_knows_it() -> None:
    """Whether distillation trained the norm no model tells."""
    assert agreed_norm(entry_of(norm="untrained"), "final") == "untrained"
    assert agreed_norm(entry_of(), "final") == "final"


def test_a_summary_needs_names_of_class_tokens() -> None:
    """Without a prefix in the entry nobody knows which tokens are the summary."""
    with pytest.raises(UsageError, match="naflexvit_base_patch16_radio_v3 has none, cls"):
        blueprint(read_entry("mine", RADIO))
    built = blueprint(read_entry("mine", {**RADIO, "prefix": "a (b) c reg*5"}))
    assert built.structure.alternatives == ("a", "c")
