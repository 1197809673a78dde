"""Position tables at other grids, against each upstream's formula written out plainly."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from evals.encoders.entry import Positions
from evals.encoders.load import blueprint
from evals.encoders.positions import RULES, install, resample, table_of
from evals.encoders.registry import resolve
from evals.errors import UsageError
from evals.types import Ask

NATIVE = (6, 6)
GRIDS = [(6, 6), (4, 4), (9, 9), (4, 9), (12, 5), (3, 7)]


def table(side: int = 6, seed: int = 0) -> Tensor:
    """A smooth table [1, side * side, 8] with noise on it."""
    axis = torch.linspace(0, 3, side)
    smooth = torch.sin(axis[:, None, None] + torch.arange(8)) * torch.cos(axis[None, :, None] * 2)
    noise = torch.randn(side, side, 8, generator=torch.Generator().manual_seed(seed))
    return (smooth + 0.1 * noise).reshape(1, side * side, 8)


def dinov2(grid: tuple[int, int]) -> Tensor:
    """dinov2/models/vision_transformer.py: scale factors with 0.1 added to the sides, bicubic."""
    square = table().reshape(1, 6, 6, 8).permute(0, 3, 1, 2)
    factors = (float(grid[0] + 0.1) / 6, float(grid[1] + 0.1) / 6)
    made = functional.interpolate(square, scale_factor=factors, mode="bicubic", antialias=False)
    return made.permute(0, 2, 3, 1).reshape(1, -1, 8)


def bilinear_by_hand(grid: tuple[int, int], corners: bool, square: bool) -> Tensor:
    """Half-pixel (or corner-aligned) bilinear weights, point by point."""
    source = table().reshape(6, 6, 8)
    size = (max(grid), max(grid)) if square else grid

    def place(at: int, new: int) -> tuple[int, int, float]:
        where = at * 5 / (new - 1) if corners else max(0.0, (at + 0.5) * 6 / new - 0.5)
        low = min(math.floor(where), 5)
        return low, min(low + 1, 5), where - low

    made = torch.empty(*grid, 8)
    for row in range(grid[0]):
        for column in range(grid[1]):
            (r0, r1, r), (c0, c1, c) = place(row, size[0]), place(column, size[1])
            top = source[r0, c0] * (1 - c) + source[r0, c1] * c
            bottom = source[r1, c0] * (1 - c) + source[r1, c1] * c
            made[row, column] = top * (1 - r) + bottom * r
    return made.reshape(1, -1, 8)


def antialiased(grid: tuple[int, int]) -> Tensor:
    """Scenic's and TIPS's resize: a triangle as wide as the shrinking factor, normalised, axis by axis."""
    made = table().reshape(6, 6, 8)
    for axis, new in enumerate(grid):
        scale = 6 / new
        reach = max(scale, 1.0)
        centres = (torch.arange(new) + 0.5) * scale - 0.5
        weights = (1 - (torch.arange(6)[None, :] - centres[:, None]).abs() / reach).clamp(min=0)
        weights = weights / weights.sum(1, keepdim=True)
        made = torch.tensordot(weights, made.movedim(axis, 0), dims=1).movedim(0, axis)
    return made.reshape(1, -1, 8)


FORMULAS: dict[Positions, Callable[[tuple[int, int]], Tensor]] = {
    "dinov2": dinov2,
    "bilinear": lambda grid: bilinear_by_hand(grid, corners=False, square=False),
    "bilinear_antialias": antialiased,
    "radio": lambda grid: bilinear_by_hand(grid, corners=False, square=True),
    "radio_aligned": lambda grid: bilinear_by_hand(grid, corners=True, square=True),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("rule", RULES)
def test_rules_are_their_upstreams(rule: Positions, grid: tuple[int, int]) -> None:
    """At shrunk, enlarged and oblong grids to rounding; on the native grid the very table."""
    made = resample(table(), NATIVE, grid, RULES[rule])
    if grid == NATIVE:
        assert torch.equal(made, table())
    else:
        torch.testing.assert_close(made, FORMULAS[rule](grid), rtol=0, atol=2e-6)


def test_rules_differ_from_each_other() -> None:
    """No rule is another under a second name."""
    made = [resample(table(), NATIVE, (4, 9), rule) for rule in RULES.values()]
    assert all((one - other).abs().max() > 1e-3 for i, one in enumerate(made) for other in made[:i])


def test_the_scale_with_an_offset_always_gives_the_grid() -> None:
    """0.1 is there so that rounding never loses a row: every grid up to 80, from DINOv2's own 37 and DUNE's 32."""
    for native in (37, 32, 16):
        flat = torch.zeros(1, native * native, 1)
        for side in range(1, 81):
            assert resample(flat, (native, native), (side, native + 1), RULES["dinov2"]).shape[1] == side * (native + 1)


def small(name: str, **options: object) -> nn.Module:
    """A small transformer of timm with a table that is not flat, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(name, num_classes=0, embed_dim=48, depth=1, num_heads=3, **options)
        table = table_of(model)
        assert table is not None
        nn.init.normal_(table, std=1.0)
    return model.requires_grad_(False).eval()


MODELS = {
    "class and position": lambda: small("vit_small_patch14_dinov2", img_size=84, dynamic_img_size=True),
    "registers without position": lambda: small("vit_small_patch14_reg4_dinov2", img_size=84, dynamic_img_size=True),
    "rotary beside the table": lambda: small("vit_pe_spatial_tiny_patch16_512", img_size=96, dynamic_img_size=True),
}


def flexible() -> nn.Module:
    """A small transformer whose table is larger than any grid here, as RADIO's is."""
    return small("naflexvit_base_patch16_radio_v3")


@pytest.mark.parametrize("kind", MODELS)
def test_only_the_table_differs_from_the_library(kind: str) -> None:
    """On the native grid the model gives the library's bits; elsewhere it gives those of a model with that table."""
    ours, theirs = MODELS[kind](), MODELS[kind]()
    install(ours, "bilinear")
    patch = ours.patch_embed.patch_size[0]  # type: ignore[union-attr, index]
    native = torch.rand(1, 3, 6 * patch, 6 * patch, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours.forward_features(native), theirs.forward_features(native))  # type: ignore[operator]
    oblong = torch.rand(1, 3, 4 * patch, 9 * patch, generator=torch.Generator().manual_seed(1))
    kept = 0 if theirs.no_embed_class else theirs.num_prefix_tokens
    whole: Tensor = theirs.pos_embed  # type: ignore[assignment]
    moved = functional.interpolate(
        whole[:, kept:].unflatten(1, (6, 6)).permute(0, 3, 1, 2), size=(4, 9), mode="bilinear"
    )
    table_moved = torch.cat([whole[:, :kept], moved.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
    theirs.pos_embed = nn.Parameter(table_moved, requires_grad=False)
    theirs.patch_embed.grid_size = (4, 9)  # type: ignore[union-attr]
    wanted = theirs.forward_features(oblong)  # type: ignore[operator]
    torch.testing.assert_close(ours.forward_features(oblong), wanted, rtol=0, atol=1e-5)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "positions"),
    [*((kind, rule) for kind in MODELS for rule in RULES), ("flexible", "radio"), ("flexible", "radio_aligned")],
)
def test_sizes_do_not_leave_traces(kind: str, positions: Positions) -> None:
    """Sizes A, B, A: the table stays as it is, and the third pass repeats the first bit for bit."""
    model: Any = {**MODELS, "flexible": flexible}[kind]()
    install(model, positions)
    table = table_of(model)
    assert table is not None
    before = table.clone()
    # Multiples of both patches, 14 and 16.
    image = torch.rand(1, 3, 112, 224, generator=torch.Generator().manual_seed(1))
    first = model.forward_features(image)
    model.forward_features(torch.zeros(1, 3, 224, 112))
    assert torch.equal(first, model.forward_features(image))
    assert torch.equal(before, table)


@pytest.mark.parametrize("grid", [(37, 37), (28, 28), (55, 55), (10, 23)])
def test_registers_of_dinov2_need_no_rule(grid: tuple[int, int]) -> None:
    """DINOv2 with registers scales its table by an antialiased bicubic filter: the library's, to the last bit."""
    model: Any = small("vit_small_patch14_reg4_dinov2", img_size=518, dynamic_img_size=True)
    install(model, "library")
    image = torch.rand(1, 3, 14 * grid[0], 14 * grid[1], generator=torch.Generator().manual_seed(1))
    square = model.pos_embed.reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(square, size=grid, mode="bicubic", antialias=True)
    table = resized.flatten(2).transpose(1, 2) if grid != (37, 37) else model.pos_embed
    patches = model.patch_embed(image).flatten(1, 2)
    wanted = torch.cat([model.cls_token, model.reg_token, patches + table], dim=1)
    for block in model.blocks:
        wanted = block(wanted)
    assert torch.equal(model.forward_features(image), model.norm(wanted))


@pytest.mark.parametrize(
    ("name", "table", "side"),
    [
        ("dinov2-s", (1, 1 + 37 * 37, 384), 37),
        ("dinov2-reg-s", (1, 37 * 37, 384), 37),
        ("pe-spatial-t", (1, 1 + 32 * 32, 192), 32),
        ("aimv2-l-448", (1, 32 * 32, 1024), 32),
        ("tipsv2-b", (1, 32 * 32, 768), 32),
        ("c-radiov3-b", (1, 128, 128, 768), 32),
    ],
)
def test_tables_are_those_of_the_release(name: str, table: tuple[int, ...], side: int) -> None:
    """The table has the grid that was trained, and images of the native and of another size leave maps of their own."""
    encoder = blueprint(resolve(name))
    own = table_of(encoder.get_submodule("model"))
    assert own is not None
    assert own.shape == table
    for grid in ((side, side), (3, side + 2)):
        image = torch.empty(1, 3, *(cells * encoder.spec.patch for cells in grid), device="meta")
        assert encoder.encode(image, Ask()).patches_BHWD.shape == (1, *grid, encoder.dim)


@pytest.mark.parametrize("positions", ["radio", "radio_aligned"])
def test_flexible_transformers_take_the_rule(positions: Positions) -> None:
    """Timm's NaFlexVit adds the table that the rule gives."""
    model: Any = small("naflexvit_base_patch16_radio_v3")
    install(model, positions)
    side = model.embeds.pos_embed.shape[1]
    flat = model.embeds.pos_embed.reshape(1, side * side, 48)
    added = torch.zeros(1, 4 * 9, 48)
    model.embeds._apply_learned_pos_embed(added, grid_size=[4, 9])
    torch.testing.assert_close(added, resample(flat, (side, side), (4, 9), RULES[positions]), rtol=0, atol=1e-6)


def test_a_model_that_places_its_tokens_itself_takes_no_rule() -> None:
    """A distilled DeiT puts a token of its own before the patches: refused at once, not in the middle of a pass."""
    model = small("deit_tiny_distilled_patch16_224", dynamic_img_size=True)
    with pytest.raises(UsageError, match="cannot be given to VisionTransformerDistilled; leave positions out"):
        install(model, "dinov2")
    install(model, "library")


def test_a_rule_needs_a_table() -> None:
    """Rotary models and convolutions have none; saying a rule for them is a mistake that is told."""
    for name in ("vit_tiny_patch16_dinov3_qkvb", "convnext_atto"):
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0)
        with pytest.raises(UsageError, match="no learnt table"):
            install(model, "dinov2")
        install(model, "library")
