"""The entries of encoders that timm builds, as blueprints, against a table that was counted by hand."""

from functools import cache
from pathlib import Path

import pytest
import timm

from evals.encoders.keys import prefix
from evals.encoders.load import blueprint
from evals.encoders.registry import names, resolve
from evals.encoders.upstream import told
from evals.types import Encoder

_4 = "cls reg*4"
_V3 = "clip siglip2-g dino_v2 (sam) reg*4"
_V4 = "siglip2-g dino_v3 (sam3) reg*7"

TABLE = f"""
dinov3-vit-s         16  384 12   21.6 final       cls       library             {_4}
dinov3-vit-s-plus    16  384 12   28.7 final       cls       library             {_4}
dinov3-vit-b         16  768 12   85.6 final       cls       library             {_4}
dinov3-vit-l         16 1024 24  303.1 final       cls       library             {_4}
dinov3-vit-h-plus    16 1280 32  840.5 final       cls       library             {_4}
dinov3-vit-7b        16 4096 40 6716.0 final       cls       library             {_4}
dinov3-convnext-t    32  768  4   27.8 final       gap_norm  library             none
dinov3-convnext-s    32  768  4   49.5 final       gap_norm  library             none
dinov3-convnext-b    32 1024  4   87.6 final       gap_norm  library             none
dinov3-convnext-l    32 1536  4  196.2 final       gap_norm  library             none
dinov2-s             14  384 12   22.1 final       cls       dinov2              cls
dinov2-b             14  768 12   86.6 final       cls       dinov2              cls
dinov2-l             14 1024 24  304.4 final       cls       dinov2              cls
dinov2-g             14 1536 40 1136.5 final       cls       dinov2              cls
dinov2-reg-s         14  384 12   22.1 final       cls       library             {_4}
dinov2-reg-b         14  768 12   86.6 final       cls       library             {_4}
dinov2-reg-l         14 1024 24  304.4 final       cls       library             {_4}
dinov2-reg-g         14 1536 40 1136.5 final       cls       library             {_4}
pe-lang-l            14 1024 23  291.4 none_exists none      bilinear            (cls)
pe-lang-l-tiling     14 1024 23  291.4 none_exists none      bilinear            (cls)
pe-lang-g            14 1536 47 1740.9 none_exists none      bilinear            none
pe-lang-g-tiling     14 1536 47 1740.9 none_exists none      bilinear            none
pe-spatial-t         16  192 12    5.7 none_exists none      bilinear            (cls)
pe-spatial-s         16  384 12   22.0 none_exists none      bilinear            (cls)
pe-spatial-b         16  768 12   86.4 none_exists none      bilinear            (cls)
pe-spatial-l         14 1024 24  304.0 none_exists none      bilinear            (cls)
pe-spatial-g         14 1536 50 1851.9 none_exists none      bilinear            none
aimv2-l              14 1024 24  309.2 final       none      library             none
aimv2-l-336          14 1024 24  309.5 final       none      library             none
aimv2-l-448          14 1024 24  310.0 final       none      library             none
aimv2-h              14 1536 24  680.9 final       none      library             none
aimv2-h-336          14 1536 24  681.3 final       none      library             none
aimv2-h-448          14 1536 24  682.0 final       none      library             none
aimv2-1b             14 2048 24 1235.0 final       none      library             none
aimv2-1b-336         14 2048 24 1235.6 final       none      library             none
aimv2-1b-448         14 2048 24 1236.5 final       none      library             none
aimv2-3b             14 3072 24 2720.7 final       none      library             none
aimv2-3b-336         14 3072 24 2721.6 final       none      library             none
aimv2-3b-448         14 3072 24 2723.0 final       none      library             none
tipsv2-b             14  768 12   86.3 final       cls       bilinear_antialias  cls cls2
tipsv2-l             14 1024 24  304.0 final       cls       bilinear_antialias  cls cls2
tipsv2-so400m        14 1152 27  413.4 final       cls       bilinear_antialias  cls cls2
tipsv2-g             14 1536 40 1135.9 final       cls       bilinear_antialias  cls cls2
fastvit-t8           32  768  4    3.3 none_exists avg_pool  library             none
fastvit-t12          32 1024  4    6.5 none_exists avg_pool  library             none
fastvit-s12          32 1024  4    8.4 none_exists avg_pool  library             none
fastvit-sa12         32 1024  4   10.6 none_exists avg_pool  library             none
fastvit-sa24         32 1024  4   20.5 none_exists avg_pool  library             none
fastvit-sa36         32 1024  4   30.5 none_exists avg_pool  library             none
fastvit-ma36         32 1216  4   42.9 none_exists avg_pool  library             none
c-radiov3-b          16  768 12   98.3 none_exists summary   radio_aligned       {_V3}
c-radiov3-l          16 1024 24  319.9 none_exists summary   radio               {_V3}
c-radiov3-h          16 1280 32  651.6 none_exists summary   radio_aligned       {_V3}
c-radiov3-g          16 1536 40 1159.6 none_exists summary   radio               {_V3}
c-radiov4-so400m     16 1152 27  431.2 none_exists summary   radio               {_V4}
c-radiov4-h          16 1280 32  651.6 none_exists summary   radio               {_V4}
"""
"""Entry, pixels a token, width, depth, millions of parameters, norm, global feature, rule of positions, prefix.

Parameters are those of the image side without a classifier: C-RADIOv3 with its table of 128 x 128 positions (for L,
304.20 million with 32 x 32, and 15360 x 1024 more), FastViT with the branches that it has in training.
"""
ROWS = [line.split(maxsplit=8) for line in TABLE.strip().splitlines()]


@cache
def built_of(name: str) -> Encoder:
    """The blueprint of an entry."""
    return blueprint(resolve(name))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_entries_build_as_the_table_says(row: list[str]) -> None:
    """Each builds without memory, with the sizes, the norm and the prefix that its authors gave it, and no text."""
    name, patch, dim, depth, millions, norm, kind, rule, words = row
    entry = resolve(name)
    built = built_of(name)
    tokens = [token.name if token.trained else f"({token.name})" for token in built.structure.prefix]
    assert (built.spec.patch, built.dim, built.depth) == (int(patch), int(dim), int(depth))
    assert (entry.dim, entry.depth) == (built.dim, built.depth)
    assert f"{(built.card.params or 0) / 1e6:.1f}" == millions
    assert (built.structure.norm, built.card.global_feature, entry.positions) == (norm, kind, rule)
    assert tuple(tokens) == prefix("prefix", words)
    assert not built.card.text
    assert all(parameter.is_meta for parameter in built.parameters())


def test_the_table_has_every_entry_of_timm() -> None:
    """None is left out."""
    assert sorted(row[0] for row in ROWS) == [name for name in names() if resolve(name).source == "timm"]


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_colours_and_sizes_are_those_of_the_release(name: str) -> None:
    """Mean, deviation and native size as timm has them; PE and TIPSv2 are resized as their authors do."""
    entry = resolve(name)
    config = timm.get_pretrained_cfg(entry.model)
    assert config is not None
    assert (entry.mean, entry.std) == (config.mean, config.std)
    assert entry.size == config.input_size[1]
    theirs = ("bilinear", "squash") if name.startswith(("pe-", "tipsv2-")) else ("bicubic", "crop")
    assert (entry.interpolation, entry.resize, entry.antialias) == (*theirs, True)
    assert entry.hub is not None
    assert entry.hub.startswith(f"timm/{entry.model}")


@pytest.mark.parametrize(
    ("model", "rounding"),
    [
        ("vit_small_patch16_dinov3.lvd1689m", "bf16"),
        ("vit_small_plus_patch16_dinov3_qkvb.lvd1689m", "bf16"),
        ("vit_large_patch16_dinov3.sat493m", "bf16"),
        ("vit_small_patch16_dinov3", "bf16"),
        ("vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", "fp32"),
        ("vit_tiny_patch16_dinov3_qkvb", "fp32"),
    ],
)
def test_periods_are_rounded_by_name(model: str, rounding: str) -> None:
    """DINOv3's transformers were trained with rounded periods, be they listed or not; EUPE's are not known to be.

    Without a tag the weights are those that timm takes: DINOv3's, but for the size that only EUPE has.
    """
    assert resolve(f"timm:{model}").rope_periods == rounding


def test_an_architecture_alone_rounds_no_periods(tmp_path: Path) -> None:
    """How a file of one's own was trained is told by the tag, by an entry or by the query, not by the architecture."""
    (tmp_path / "w.pt").touch()
    for arch, rounding in (
        ("timm:vit_small_patch16_dinov3", "fp32"),
        ("timm:vit_small_patch16_dinov3&rope_periods=bf16", "bf16"),
        ("timm:vit_small_patch16_dinov3.lvd1689m", "bf16"),
        ("dinov3-vit-s", "bf16"),
    ):
        assert resolve(f"file:{tmp_path / 'w.pt'}?arch={arch}").rope_periods == rounding
    assert told("vit_small_patch16_dinov3") == {}
    assert told("vit_small_patch16_dinov3.mine") == {}


def test_notes_tell_of_their_own_models_alone() -> None:
    """The B models of SigLIP 2 compute another GELU than upstream, gopt does not; EUPE's periods are unknown."""
    assert "exact GELU" in str(resolve("siglip2-b").note)
    assert "GELU" not in str(resolve("siglip2-gopt-256").note)
    assert "tokenizer" in str(resolve("siglip2-gopt-384").note)
    assert "bf16" in str(resolve("eupe-vit-b").note)
    assert "bf16" not in str(resolve("eupe-convnext-t").note)
    for name in ("c-radiov3-b", "c-radiov3-g"):
        assert "held against a released file" in str(resolve(name).note)


@pytest.mark.parametrize(
    "name",
    ["dinov2-s", "dinov2-reg-s", "pe-lang-l", "pe-spatial-t", "aimv2-l", "tipsv2-b", "fastvit-t8", "dinov3-convnext-t",
     "c-radiov3-b", "c-radiov3-l", "c-radiov4-so400m"],
)  # fmt: skip
def test_a_route_agrees_with_the_entry(name: str) -> None:
    """What is derived of a model by its name alone is what its entry says."""
    entry, built = resolve(name), built_of(name)
    route = resolve(f"timm:{entry.model}")
    for key in (
        "global_feature",
        "size",
        "patch",
        "mean",
        "std",
        "interpolation",
        "resize",
        "positions",
        "rope_periods",
    ):
        assert getattr(route, key) == getattr(entry, key), key
    assert (route.norm, " ".join(route.prefix or ()) or "none") == (
        built.structure.norm,
        built.structure.describe()["prefix"],
    )
