"""The numbered choices of docs/training.md: each key exists with its default, and changes what is learned.

Choices that the code fixes are rows without a key.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from eupe.align import bicubic_matrix
from eupe.compose import recipes
from eupe.config import Stage
from eupe.losses import teacher_loss
from eupe.processes import Stop, World
from eupe.schedules import CosineRate
from eupe.train import export_student, set_up, train
from evals.context import silent_bar
from evals.encoders.exports.files import read_heads
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import UsageError, WeightsError
from evals.files import DigestMemo
from tests.eupe.tiny import SIDE, pictures, raw_stage, stage

ALONE = World(0, 1, torch.device("cpu"))
PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()

pytestmark = pytest.mark.usefixtures("alone")


def table(title: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    text = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


CHOICES = table("Choices")


def test_every_choice_has_a_row() -> None:
    """Thirty-six, in order."""
    assert [int(row[0]) for row in CHOICES] == list(range(1, 37))


KEYS = [(row[0], *pair) for row in CHOICES for pair in re.findall(r"`([\w.<>-]+)` = `([^`]*)`", row[2])]


@pytest.mark.parametrize(("row", "key", "default"), KEYS, ids=[f"{row}-{key}" for row, key, _ in KEYS])
def test_a_key_exists_with_its_default(row: str, key: str, default: str) -> None:
    """`<name>` stands for any teacher, student or source; a default is that of the dataclass."""
    found = at(Stage, key.split("."))
    assert plain(found) == yaml.safe_load(default), row


def at(kind: Any, path: list[str]) -> Any:
    """The default at a dotted path of nested dataclasses."""
    for part in path[:-1]:
        # The values of a mapping stand behind any name.
        kind = get_args(kind)[1] if part == "<name>" else get_type_hints(kind)[part]
    item = {item.name: item for item in dataclasses.fields(kind)}[path[-1]]
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


def plain(value: Any) -> Any:
    """As YAML would have it."""
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return dict(value) if isinstance(value, Mapping) else value


def test_rows_without_a_key_say_why() -> None:
    """They begin with `fixed`."""
    for row in CHOICES:
        assert row[2].startswith("fixed") or "`" in row[2], row[0]


def test_recipes_and_tables_meet() -> None:
    """Every recipe of a table of the paper or of a control is named on the page, and every named one exists."""
    named = set(re.findall(r"`((?:stage[123]|table\d+|control)[\w-]*)`", PAGE))
    assert named <= set(recipes())
    assert {name for name in recipes() if name.startswith(("table", "control"))} <= named


def test_vectors_of_the_page_are_those_of_the_code() -> None:
    """Patch loss, resizing and rates, to the digits that are printed."""
    z, t = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]]), torch.tensor([[[[1.0, 1.0], [0.0, -1.0]]]])
    loss = teacher_loss(None, z, None, t)
    row, other = bicubic_matrix(2, 4)[:2].tolist()
    rate = CosineRate(2e-5, 390_000, 10_000)
    values = {
        "patch loss": (
            f"cosine {loss.patch_cosine:.5f}, smooth L1 {loss.patch_smooth_l1:.5f}, together {loss.total():.5f}"
        ),
        "bicubic, 2 -> 4": f"{row[0]:.5f} {row[1]:.5f} and {other[0]:.5f} {other[1]:.5f}",
        "rate of stage 2": ", ".join(f"{rate.at(step, 8192):.4e}" for step in (0, 9_999, 200_000, 389_999)),
    }
    assert {row[0]: row[2] for row in table("The loss") if row[0] in values} == values


def test_tests_that_are_named_exist() -> None:
    """The table of known defects names tests by file and function."""
    guards = [re.findall(r"`([\w/]+\.py)`::(\w+)", row[-1]) for row in table("Known defects and the test that guards")]
    assert all(guards)
    for file, function in {pair for pairs in guards for pair in pairs}:
        assert f"def {function}(" in (Path(__file__).parent / file).read_text(), f"{file}::{function}"


BASE = raw_stage(Path("pictures"))
VIT, CONVNEXT = BASE["students"]["vit"], BASE["students"]["convnext"]
TEACHERS = BASE["teachers"]
ALTERNATIVES: dict[str, dict[str, Any]] = {
    "2 cosine of whole maps": {"loss": {"over": "map"}},
    "3 weight of a teacher": {"teachers": {**TEACHERS, "vit": {**TEACHERS["vit"], "cls_weight": 0.5}}},
    "4 beta and shares": {"loss": {"beta": 0.5, "cosine": 0.5, "smooth_l1": 0.5}},
    "5 fewer images": {"statistics": {"batches": 2, "batch": 4}},
    "6 a higher floor": {"statistics": {"batches": 3, "batch": 8, "floor": 0.9}},
    "8 grid of the student": {"loss": {"grid": "student"}},
    "8 grid of the teacher": {"loss": {"grid": "teacher"}, "sides": [2 * SIDE]},
    "9 mean of patches": {"teachers": {**TEACHERS, "pixels": {**TEACHERS["pixels"], "cls": "mean"}}},
    "13 teachers see no colours": {"augment": {"teacher": "clean"}},
    "15 the blur of public code": {"augment": {"blur": 0.9}},
    "16 linear scaling": {"rate": {"base": 1e-3, "steps": 20, "warmup": 2, "scaling": "linear_256"}},
    "17 no warm-up": {"rate": {"base": 1e-3, "steps": 20}},
    "19 betas": {"optimisation": {"betas": [0.5, 0.99]}},
    "21 layer-wise decay": {"optimisation": {"layer_decay": 0.9, "patch_rate": 0.2}},
    "22 clip": {"optimisation": {"clip": 0.01}},
    "23 no registers, no rescaling": {
        "students": {"vit": {**VIT, "options": {**VIT["options"], "num_reg_tokens": 0}}},
        "rope_rescale": 1.0,
    },
    "24 average": {"average": 0.5},
    "25 full precision and not": {"dtype": "bf16"},
    "28 lamb, heads first": {"optimisation": {"name": "lamb"}, "heads_only": 1},
    "30 images of both sources in a batch": {"mixing": "images"},
    "31 several sides": {"sides": [32, 64], "teacher_sides": [32, 64]},
    "33 no class feature of a ConvNeXt": {"students": {"convnext": {**CONVNEXT, "cls": "none"}}},
    "34 a ConvNeXt at twice the side": {"students": {"convnext": CONVNEXT}, "sides": [2 * SIDE]},
    "35 gamma": {"teachers": {**TEACHERS, "vit": {**TEACHERS["vit"], "patch_weight": 2.0}}},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures(folder / "a", 12)
    pictures(folder / "b", 12)
    return folder


def learned(root: Path, folder: Path, changes: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Every weight after three steps."""
    sources = {name: {"kind": "folder", "root": str(root / name), "share": 0.5} for name in "ab"}
    run = set_up(stage(root, sources=sources, batch=4, **changes), folder, ALONE, silent_bar)
    train(run, None, silent_bar, Stop(), until=3)
    found: dict[str, torch.Tensor] = {}
    for name, pupil in run.pupils.items():
        weights = pupil.learner.state_dict() if pupil.average is None else pupil.average.weights
        found.update({f"{name}.{key}": value.clone() for key, value in weights.items()})
    return found


@pytest.fixture(scope="module")
def default(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What is learned without changes."""
    return learned(root, tmp_path_factory.mktemp("default"), {})


@pytest.mark.golden
@pytest.mark.parametrize("name", ALTERNATIVES)
def test_an_alternative_changes_what_is_learned(
    name: str, default: dict[str, torch.Tensor], root: Path, tmp_path: Path
) -> None:
    """It trains, stays finite, and ends with other weights."""
    weights = learned(root, tmp_path, ALTERNATIVES[name])
    assert all(bool(value.isfinite().all()) for value in weights.values())
    shared = [key for key in weights if key in default and weights[key].shape == default[key].shape]
    assert len(shared) > 10
    assert any(not torch.equal(weights[key], default[key]) for key in shared)


def test_a_student_without_class_heads_is_exported(root: Path, tmp_path: Path) -> None:
    """Row 33: heads and statistics of patches alone, and the suite reads it."""
    students = {"convnext": {**CONVNEXT, "cls": "none"}}
    run = set_up(stage(root, students=students, batch=4), tmp_path / "run", ALONE, silent_bar)
    train(run, None, silent_bar, Stop(), until=1)
    assert not [key for key in run.pupils["convnext"].learner.state_dict() if ".cls." in key]
    export_student(run, "convnext", tmp_path / "export")
    heads, statistics = read_heads(tmp_path / "export")
    assert not [key for part in (heads, statistics) for key in part.state_dict() if ".cls." in key]
    assert load(resolve(str(tmp_path / "export")), DigestMemo(None)).dim == 32


def test_statistics_divide_into_processes_or_say_so() -> None:
    """Before anything is loaded."""
    made = stage(Path("nowhere"), statistics={"batches": 2, "batch": 6})
    assert made.share(2) == 4
    with pytest.raises(UsageError, match=r"a statistics\.batch of 6 does not divide into 4 processes"):
        made.share(4)


def test_what_is_dropped_belongs_to_the_step(root: Path, tmp_path: Path) -> None:
    """Row 23: with drop path six steps are three and three, bit by bit, wherever torch's own stream stands."""
    students = {"vit": {**VIT, "options": {**VIT["options"], "drop_path_rate": 0.5}}, "convnext": CONVNEXT}
    ends = []
    for name, stops in (("a", [6]), ("b", [3, 6])):
        for until in stops:
            torch.manual_seed(until)
            run = set_up(stage(root, students=students, batch=4), tmp_path / name, ALONE, silent_bar)
            train(run, None, silent_bar, Stop(), until)
            assert run.pupils["vit"].learner.drops
        ends.append(run.pupils["vit"].learner.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_a_student_starts_from_weights_of_others(name: str, root: Path, tmp_path: Path) -> None:
    """Row 29: a file of timm's fills the backbone, its classifier is left out; what does not fit is refused."""
    config = BASE["students"][name]
    theirs = timm.create_model(config["model"], num_classes=10, **config["options"])
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    started = {name: {**config, "start": str(tmp_path / "weights.safetensors")}}
    run = set_up(stage(root, students=started), tmp_path / "run", ALONE, silent_bar)
    for key, value in run.pupils[name].learner.backbone.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key])
    save_file({"norm.weight": torch.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        set_up(stage(root, students=started), tmp_path / "other", ALONE, silent_bar)
