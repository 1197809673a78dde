"""Recipes: what was published, what follows from it, and what a file may say."""

from pathlib import Path

import pytest

from evals.errors import UsageError
from evals.vlm.recipe import ALIGNMENT, INSTRUCTION, Recipe, SideRule, StageRecipe, View, find, names, read_recipe


def test_published_numbers() -> None:
    """Steps and warm-up of both stages, as the published runs had them."""
    assert (ALIGNMENT.steps(558_128), ALIGNMENT.warmup_steps(558_128)) == (2181, 66)
    assert (INSTRUCTION.steps(665_298), INSTRUCTION.warmup_steps(665_298)) == (5198, 156)


def test_the_published_recipe_departs_from_no_default() -> None:
    """llava-1.5 is the defaults, whose values are the published ones."""
    recipe = find("llava-1.5")
    assert recipe == Recipe(name="llava-1.5")
    first, second = (stage for _, stage in recipe.stages)
    assert [(s.rate, s.batch, s.micro, s.template, s.padding, s.trained, s.grouped) for s in (first, second)] == [
        (1e-3, 256, 32, "plain", "crop", "projector", False),
        (2e-5, 128, 16, "v1", "pad", "all", True),
    ]
    for stage in (first, second):
        assert (stage.betas, stage.eps, stage.weight_decay, stage.clip) == ((0.9, 0.999), 1e-8, 0, None)
        assert (stage.max_length, stage.seed, stage.epochs, stage.warmup) == (2048, 42, 1, 0.03)
    assert (recipe.language, recipe.pad_token, recipe.dtype) == ("lmsys/vicuna-7b-v1.5", "<unk>", "bf16")


def test_every_recipe_is_read_under_its_name() -> None:
    """File and protocol are called alike."""
    assert names() == ["llava-1.5", "miniature", "vlm-proxy"]
    assert [find(name).name for name in names()] == names()
    assert [name for name, _ in find("vlm-proxy").stages] == ["alignment"]
    assert find("miniature").sides.view(16, convolutional=False) == View(128, 8, "named")


@pytest.mark.parametrize(
    ("patch", "convolutional", "expected"),
    [
        (14, False, View(336, 24, "named")),
        (16, False, View(384, 24, "named")),
        (32, True, View(384, 24, "grid")),
        (64, True, View(384, 24, "grid")),
        (32, False, View(384, 12, "nearest")),
        (8, False, View(384, 48, "nearest")),
        (15, False, View(390, 26, "nearest")),
    ],
)
def test_sides(patch: int, convolutional: bool, expected: View) -> None:
    """Patch 14 and 16 give the published 576 tokens, convolutions too; others take the nearest side."""
    assert SideRule().view(patch, convolutional=convolutional) == expected
    assert expected.tokens == expected.grid**2


def test_a_named_side_that_the_patch_does_not_divide_is_not_called_named() -> None:
    """What moved is recorded as such."""
    assert SideRule(side_14=128).view(14, convolutional=False) == View(126, 9, "nearest")


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    """Other keys keep the published values, down to those of a stage."""
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nlayer: -2\ninstruction: {clip: 1.0, betas: [0.9, 0.95], warmup: 0}\n")
    recipe = find(str(path))
    assert (recipe.layer, recipe.alignment) == (-2, ALIGNMENT)
    assert recipe.instruction == StageRecipe(**{**_values(INSTRUCTION), "clip": 1.0, "betas": (0.9, 0.95), "warmup": 0})
    assert recipe.describe()["instruction"]["clip"] == 1.0


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "test.yaml lacks name"),
        ({"name": 3}, "test.yaml: name must be a name; got 3"),
        ({"name": "a", "rate": 1}, "unknown key of test.yaml 'rate'"),
        ({"name": "a", "alignment": None}, "test.yaml: alignment must hold `key: value` lines"),
        ({"name": "a", "alignment": {"lr": 1}}, "unknown key of test.yaml: alignment 'lr'"),
        ({"name": "a", "alignment": {"rate": "1e-3"}}, "alignment: rate must be a number above 0.*write 1.0e-3"),
        ({"name": "a", "instruction": {"batch": 20}}, "instruction: a batch of 20 does not divide .* of 16"),
        ({"name": "a", "instruction": {"batch": 16.0}}, "instruction: batch must be a whole number from 1"),
        ({"name": "a", "instruction": {"betas": [0.9]}}, "instruction: betas must be a list of 2; got"),
        ({"name": "a", "instruction": {"betas": [0.9, 1.0]}}, "instruction: betas must be below 1"),
        ({"name": "a", "instruction": {"warmup": 30}}, "warmup is a share of the steps"),
        ({"name": "a", "instruction": {"padding": "fit"}}, "padding must be crop or pad; got 'fit'"),
        ({"name": "a", "layer": -1}, "layer must be final or -2; got -1"),
        ({"name": "a", "language": ""}, "language must be a name"),
    ],
)
def test_what_is_amiss_is_named(raw: dict[str, object], message: str) -> None:
    """File, key, what it takes, what was given."""
    with pytest.raises(UsageError, match=message):
        read_recipe(raw, "test.yaml")


def test_unknown_and_unreadable_recipes(tmp_path: Path) -> None:
    """A name that does not exist lists those that do; a file says why it cannot be read."""
    with pytest.raises(UsageError, match=r"unknown recipe .* Nearest: llava-1.5\."):
        find("llava-15")
    with pytest.raises(UsageError, match=r"none\.yaml cannot be read as YAML"):
        find(str(tmp_path / "none.yaml"))
    (tmp_path / "list.yaml").write_text("- name\n")
    with pytest.raises(UsageError, match="must hold `key: value` lines"):
        find(str(tmp_path / "list.yaml"))


def _values(stage: StageRecipe) -> dict[str, object]:
    return {name: getattr(stage, name) for name in stage.__dataclass_fields__}
