"""Recipes: each composes from its name, fits the recipes that it goes on from, and takes a step on stand-ins.

Stand-ins keep what a recipe decides (how many teachers and students, class features, sides, weights, heads-only steps)
at half of every side and of every patch, so that grids are the real ones.
"""

import re
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from eupe import measure
from eupe.compose import compose, foreseen, recipes
from eupe.config import Stage, StudentConfig, TeacherConfig
from eupe.data.loader import Crops, batches
from eupe.data.open import open_sources
from eupe.optim import Guard
from eupe.plan import Plan, plan
from eupe.sampling import Mixture, StepSampler
from eupe.step import Pupil, train_step
from eupe.students import Architecture, learner
from eupe.teachers import Teacher
from evals.encoders.entry import config_folder
from evals.encoders.load import blueprint
from evals.encoders.registry import resolve
from evals.record import EncoderCard
from evals.types import Ask, Encoder, Features, ImageSpec, Structure
from tests.eupe.tiny import pictures

CPU = torch.device("cpu")
OWN = [name for name in recipes() if name.startswith(("stage", "table", "control"))]
"""The recipes of the paper and its controls; those of the embedded family have tests of their own."""
EXPORT = re.compile(r"^OUT/(?P<recipe>[^/]+)/exports/(?P<student>[^/]+)$")

pytestmark = pytest.mark.usefixtures("alone")


@cache
def recipe(name: str) -> Stage:
    """A recipe with the values filled in that only a user knows."""
    text = (config_folder() / "recipe" / f"{name}.yaml").read_text()
    web = "metaclip" if "metaclip" in text else "web"
    roots = [f"sources.{source}.root=DATA/{source}" for source in (web, "imagenet")]
    return compose([f"recipe={name}", "out=OUT", *roots]).stage


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    return pictures(tmp_path_factory.mktemp("pictures"), 8)


@pytest.mark.parametrize("name", OWN)
def test_a_recipe_goes_on_from_what_another_leaves(name: str) -> None:
    """Its run has its name; exports that it names are those of a recipe, of the same network and width of heads."""
    stage = recipe(name)
    assert stage.name == name
    for teacher in stage.teachers.values():
        if found := EXPORT.match(teacher.encoder):
            taught = recipe(found["recipe"])
            assert found["student"] in taught.students
            assert taught.hidden == 1536
    for key, student in stage.students.items():
        if student.start is not None:
            found = EXPORT.match(student.start)
            assert found is not None
            before = recipe(found["recipe"])
            earlier = before.students[found["student"]]
            assert found["student"] == key
            assert (earlier.model, earlier.options) == (student.model, student.options)
            assert (before.hidden, before.teachers.keys()) == (stage.hidden, stage.teachers.keys())


@pytest.mark.parametrize("name", OWN)
def test_a_recipe_takes_a_step(name: str, root: Path) -> None:
    """Losses are what its weights say, every head learns, and the backbone where it may."""
    stage = small(recipe(name), root)
    teachers = {
        key: Teacher(key, stand_in(config), cls=config.cls, side=config.side, dtype="fp32")
        for key, config in stage.teachers.items()
    }
    sources = open_sources(stage.sources)
    mixture = Mixture((len(sources[0]),), (1.0,), 0)
    crops = Crops(sources, stage.augment, stage.canvas, 0)
    images = list(batches(crops, StepSampler(mixture, range(2), batch=stage.batch), workers=0, pin=False))
    standards = measure.measure(stage, teachers, iter(images[:1]), CPU, lambda count: None)
    pupils = {key: pupil(stage, key, teachers) for key in stage.students}
    before = {key: weights(one) for key, one in pupils.items()}
    numbers = train_step(stage, 0, images[1].images_B3SS.float() / 255, teachers, standards, pupils)
    for key, one in pupils.items():
        assert numbers[f"{key}/loss"].item() == pytest.approx(expected(stage, key, numbers), rel=1e-5)
        # Decay alone moves a weight by a ten-millionth here.
        moved = {
            name for name, value in weights(one).items() if not value.allclose(before[key][name], rtol=1e-5, atol=0)
        }
        assert any(name.startswith("backbone") for name in moved) == (stage.heads_only == 0)
        for teacher, config in stage.teachers.items():
            wanted = {"cls", "patch"} if config.cls != "none" else {"patch"}
            assert {
                kind for kind in ("cls", "patch") if f"heads.{teacher}.{kind}.outer.weight" in before[key]
            } == wanted
            learned = {kind for kind in wanted if getattr(config, f"{kind}_weight")}
            assert {kind for kind in wanted if f"heads.{teacher}.{kind}.outer.weight" in moved} == learned


def expected(stage: Stage, student: str, numbers: dict[str, Tensor]) -> float:
    """Sum over teachers of class loss and weighted patch loss, from the parts that are logged."""
    whole = 0.0
    for teacher, config in stage.teachers.items():
        assert (f"{student}/{teacher}/cls" in numbers) == (config.cls != "none")
        whole += config.patch_weight * numbers[f"{student}/{teacher}/patch"].item()
        whole += config.cls_weight * numbers[f"{student}/{teacher}/cls"].item() if config.cls != "none" else 0.0
    return whole


def small(stage: Stage, root: Path) -> Stage:
    """The same decisions at half of every side, on a folder of pictures, with students that cost next to nothing."""
    return replace(
        stage,
        teachers={key: replace(config, side=config.side // 2) for key, config in stage.teachers.items()},
        students={key: tiny(config) for key, config in stage.students.items()},
        sources={"pictures": replace(next(iter(stage.sources.values())), kind="folder", root=str(root), share=1.0)},
        sides=tuple(side // 2 for side in stage.sides),
        teacher_sides=tuple(side // 2 for side in stage.teacher_sides),
        batch=2,
        hidden=16,
        heads_only=min(1, stage.heads_only),
        rate=replace(stage.rate, warmup=0, scaling="none", base=1e-3),
        dtype="fp32",
    )


def tiny(config: StudentConfig) -> StudentConfig:
    """A network of the same kind."""
    options: dict[str, Any] = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8}
    if config.model.startswith("convnext"):
        options = {"depths": [1, 1, 1, 1], "dims": [4, 8, 12, 16]}
    return replace(config, options={**config.options, **options}, start=None)


def pupil(stage: Stage, name: str, teachers: dict[str, Teacher]) -> Pupil:
    """A fresh student with its heads and optimiser."""
    config = stage.students[name]
    targets = {key: teacher.target().asked(config.cls) for key, teacher in teachers.items()}
    made = learner(Architecture(config.model, config.options), targets, hidden=stage.hidden, seed=0).train()
    optimiser = stage.optimisation.build(made)
    return Pupil(name, made, made, optimiser, Guard(name, made, optimiser, stage.optimisation.clip))


def weights(one: Pupil) -> dict[str, Tensor]:
    """A copy of every parameter."""
    return {name: value.detach().clone() for name, value in one.learner.named_parameters()}


class StandIn(Encoder):
    """Averages of patches through a fixed matrix; a global feature, and one in a text space where that is asked for."""

    def __init__(self, patch: int, cls: str) -> None:
        card = EncoderCard("stand-in", "none", "none", "none", "0", "none", patch, patch, cls, text=False)
        spec = ImageSpec(patch, patch, "bicubic", antialias=True, resize="crop", mean=(0.5,) * 3, std=(0.5,) * 3)
        alternatives = ("projected",) if cls == "projected" else ()
        super().__init__(card, spec, dim=12, depth=0, structure=Structure(alternatives=alternatives))
        self.register_buffer("matrix", torch.randn(3, 12, generator=torch.Generator().manual_seed(0)))

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """Maps on the grid of the patch."""
        averages_B3HW = functional.avg_pool2d(images_B3YX, self.spec.patch)
        patches_BHWD = averages_B3HW.permute(0, 2, 3, 1) @ self.get_buffer("matrix")
        pooled_BD = patches_BHWD.mean((1, 2))
        return Features(pooled_BD, patches_BHWD, others=dict.fromkeys(self.structure.alternatives, pooled_BD[:, :8]))


def stand_in(config: TeacherConfig) -> Encoder:
    """Of half the patch of the real encoder, with the class feature that is asked of it."""
    patch = 16 if EXPORT.match(config.encoder) else resolve(config.encoder).patch
    return StandIn(patch // 2, config.cls).eval()


def test_peaks_and_lengths_are_the_papers() -> None:
    """Learning rates after scaling, batches, steps and sides of the three stages (section 4.1)."""
    found = {}
    for name in ("stage1", "stage2-vit-b", "stage2-family", "stage3-vit-b", "stage3-family"):
        stage = recipe(name)
        found[name] = (stage.batch, stage.rate.steps, stage.hidden, stage.optimisation.weight_decay, stage.sides)
    assert found["stage1"] == (1024, 300_000, 1536, 0.02, (256,))
    assert found["stage2-vit-b"] == found["stage2-family"] == (8192, 390_000, 3072, 1e-4, (256,))
    assert found["stage3-vit-b"] == found["stage3-family"] == (4096, 100_000, 3072, 1e-4, (256, 384, 512))
    assert recipe("stage2-vit-b").rate.peak(8192) == pytest.approx(2.263e-4, rel=1e-3)
    assert recipe("stage3-vit-b").rate.peak(4096) == pytest.approx(8e-5)
    assert recipe("stage1").rate.peak(1024) == 1e-3


def test_a_row_differs_from_its_neighbour_in_what_the_table_varies() -> None:
    """Table 10 varies gamma, Table 9 the images, Table 2 the sides, the controls their length, and nothing else."""
    assert differing("table10-gamma2", "table2-stage2-only") == {"teachers"}
    assert recipe("table10-gamma0").teachers["dinov3-h-plus"].patch_weight == 0
    assert differing("table2-stage13", "stage2-vit-b") == {"sides", "teacher_sides"}
    assert differing("table9-metaclip-stage1", "table3-pec-dv3-stage1") == {"sources"}
    assert differing("table9-metaclip-stage2", "table3-pec-dv3-stage2") == {"sources", "teachers"}
    assert differing("table3-pec-dv3-stage1", "stage1") == {"teachers"}
    assert differing("table8-7b-stage1", "stage1") == {"teachers", "students"}
    for name in ("flops", "flops-sixth", "longer", "longer-sixth"):
        assert differing(f"control-stage2-{name}", "table2-stage2-only") == {"rate"}
    assert differing("control-no-proxy", "stage3-vit-b") == {"teachers", "students", "teacher_sides"}


def differing(one: str, other: str) -> set[str]:
    """Keys by which two recipes differ, their names apart."""
    mine, theirs = recipe(one), recipe(other)
    return {
        item.name
        for item in fields(Stage)
        if item.name != "name" and getattr(mine, item.name) != getattr(theirs, item.name)
    }


@pytest.mark.golden
def test_the_teachers_give_what_recipes_ask_of_them() -> None:
    """Every expert, at full size without weights: it has that class feature, and its patch divides its sides."""
    for name in OWN:
        stage = recipe(name)
        for config in stage.teachers.values():
            if not EXPORT.match(config.encoder):
                encoder = real(config.encoder)
                assert config.cls in ("none", "mean", "global", *encoder.structure.alternatives), name
                assert config.cls != "global" or encoder.card.global_feature != "none", name
                assert not [side for side in (*stage.teacher_sides, config.side) if side % encoder.spec.patch], name


@cache
def real(name: str) -> Encoder:
    """Without weights."""
    return blueprint(resolve(name))


@cache
def planned(name: str) -> Plan:
    """The plan of a recipe; a proxy is one that its recipe has yet to train."""
    return plan(recipe(name), coming=foreseen(recipe(name)))


@pytest.mark.golden
def test_stages_cost_what_was_counted_by_hand() -> None:
    """GFLOP an image of each student with its teacher and backward passes, in stage 2 and, by scales, in stage 3."""
    wanted = {
        "vit-t": (1005, 2510),
        "vit-s": (1033, 2586),
        "vit-b": (1139, 2857),
        "convnext-t": (1024, 2548),
        "convnext-s": (1057, 2628),
        "convnext-b": (1110, 2755),
    }
    for at, name in enumerate(("stage2-family", "stage3-family")):
        found = planned(name)
        for student, counts in wanted.items():
            one = found.teachers["proxy"] + 3 * (found.students[student] + found.heads[student])
            assert one / 1e9 == pytest.approx(counts[at], rel=1e-3), (name, student)
    assert planned("stage2-family").image / 1e9 == pytest.approx(1436, rel=2e-3)
    assert planned("stage1").image / 1e12 == pytest.approx(11.40, rel=2e-3)


@pytest.mark.golden
def test_controls_cost_what_they_say() -> None:
    """Steps of the compute-matched controls follow from the planner's FLOPs of stages 1 and 2."""
    one, direct, two = (planned(name) for name in ("stage1", "table2-stage2-only", "stage2-vit-b"))
    step = direct.image * 8192
    for suffix, share in (("", 1), ("-sixth", 6)):
        both = one.total / share + two.total
        assert recipe(f"control-stage2-flops{suffix}").rate.steps == pytest.approx(both / step, rel=1e-3)
        longer = 390_000 + one.total / share / step
        assert recipe(f"control-stage2-longer{suffix}").rate.steps == pytest.approx(longer, rel=1e-3)
