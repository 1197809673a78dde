"""What a stage costs, against figures that were counted independently."""

from typing import Any

import pytest
import torch

from eupe.config import Stage, read
from eupe.plan import Costs, costs, plan
from eupe.show import choices, plan_table
from eupe.students import Architecture, Learner, Target
from evals.errors import UsageError

PROXY = {"embed_dim": 1536, "depth": 50, "num_heads": 16, "mlp_ratio": 8960 / 1536}
FORWARD = {
    # GFLOP at 256 px, two a multiply-accumulate (docs/training.md)
    "vit_tiny_patch16_dinov3_qkvb": 3.474,
    "vit_small_patch16_dinov3_qkvb": 12.491,
    "vit_base_patch16_dinov3_qkvb": 47.149,
    "convnext_tiny.eupe_lvd1689m": 11.637,
    "convnext_base.eupe_lvd1689m": 40.108,
}


def stage(students: dict[str, Any], **changes: Any) -> Stage:
    """A stage 2 with a small teacher."""
    raw = {
        "name": "s",
        "teachers": {"t": {"encoder": "timm:vit_huge_plus_patch16_dinov3.lvd1689m", "side": 256}},
        "students": students,
        "sources": {"d": {"kind": "folder", "root": "nowhere"}},
        "rate": {"base": 2e-5, "steps": 390_000},
        "batch": 8192,
        **changes,
    }
    made: Stage = read(Stage, raw, "stage")
    return made


def blank(model: str, options: dict[str, Any] | None = None, **targets: Target) -> Learner:
    """A learner without weights."""
    with torch.device("meta"):
        return Learner(Architecture(model, options or {}).build(), targets, 3072)


def test_students_cost_what_they_do() -> None:
    """Forward FLOPs of five students to one part in a thousand, without heads."""
    students = {model: {"model": model} for model in FORWARD}
    counted = costs(stage(students), {}, {model: blank(model) for model in FORWARD})
    for model, wanted in FORWARD.items():
        assert counted.students[model][256] / 1e9 == pytest.approx(wanted, rel=1e-3)


@pytest.fixture(scope="module")
def proxy() -> dict[int, float]:
    """FLOPs forward of the proxy by side."""
    made = blank("vit_base_patch16_dinov3_qkvb", PROXY)
    assert sum(parameter.numel() for parameter in made.parameters()) / 1e9 == pytest.approx(1.85, abs=0.005)
    config = stage({"proxy": {"model": "vit_base_patch16_dinov3_qkvb"}}, sides=[256, 384, 448, 512])
    return dict(costs(config, {}, {"proxy": made}).students["proxy"])


@pytest.mark.golden
def test_the_proxy_costs_what_it_does(proxy: dict[int, float]) -> None:
    """1.85 billion parameters, 1536 wide and 50 deep, TFLOP an image at four sides."""
    wanted = {256: 0.986, 384: 2.253, 448: 3.109, 512: 4.131}
    assert {side: round(flops / 1e12, 3) for side, flops in proxy.items()} == wanted


BASE = {"b": {"model": "vit_base_patch16_dinov3_qkvb"}}


def test_heads_cost_their_products() -> None:
    """Two products a token: 256 patches and one class token of a ViT-B, 768 to 3072 to the teacher's 1280."""
    planned = plan(stage(BASE))
    assert planned.teachers["t"] / 1e9 == pytest.approx(449.5, rel=1e-3)
    assert planned.heads["b"] == pytest.approx(2 * 257 * (768 * 3072 + 3072 * 1280), rel=1e-6)
    assert planned.image == pytest.approx(planned.teachers["t"] + 3 * (planned.students["b"] + planned.heads["b"]))
    assert planned.total == planned.image * 8192 * 390_000


@pytest.mark.golden
def test_stage_three_costs_at_most_a_third_more_than_stage_two(proxy: dict[int, float]) -> None:
    """With one pick of scales a step for all processes, over nine pairs of proxy and ViT-B, at the paper's batches."""
    sides = (256, 384, 512)
    student = blank(BASE["b"]["model"], proxy=Target(1536, 1536))
    learnt = costs(stage(BASE, sides=list(sides)), {}, {"b": student}).students["b"]
    whole = Costs({"proxy": proxy}, {"b": learnt}, {"proxy": 256})
    assert whole.image(256, None) / 1e9 == pytest.approx(1139, rel=2e-3)
    three = sum(whole.image(mine, theirs) for mine in sides for theirs in sides) / 9
    assert three / 1e9 == pytest.approx(2857, rel=2e-3)
    assert three * 4096 < 1.35 * whole.image(256, None) * 8192


def test_batches_that_do_not_divide_are_refused() -> None:
    """Processes and micro-batches must share the batch evenly: the gradient is a plain mean."""
    with pytest.raises(UsageError, match="8192 does not divide into 3 processes"):
        plan(stage(BASE), ranks=3)
    with pytest.raises(UsageError, match="micro-batches of 100"):
        plan(stage(BASE, micro=100))


SMALL = {"model": "vit_tiny_patch16_dinov3_qkvb", "options": {"embed_dim": 48, "depth": 4, "num_heads": 3}}


def small(**changes: Any) -> Stage:
    """A stage of stand-ins, of which one student is sharded."""
    teachers = {"t": {"encoder": "timm:test_vit.r160_in1k", "side": 64}}
    students = {"copied": SMALL, "sharded": {**SMALL, "shard": True}}
    return stage(students, teachers=teachers, batch=64, sides=[64], hidden=32, **changes)


def test_memory_counts_processes_averages_and_precision() -> None:
    """fp32 weight, gradient and two moments a parameter, shared out where sharded; the copies that compute are not."""
    alone, four = plan(small()), plan(small(micro=8, average=0.9), ranks=4)
    each, frozen = alone.parameters["copied"], alone.parameters["t"]
    assert each == alone.parameters["sharded"]
    assert alone.memory.frozen == 2 * frozen
    assert alone.memory.trained == 2 * (16 + 2) * each
    assert four.memory.trained == (20 + 2) * each + 20 * each // 4 + (2 + 4) * each
    assert plan(small(dtype="fp32")).memory.trained == 2 * 16 * each
    # 64 images at once against 8.
    assert alone.memory.activations == 8 * four.memory.activations


def test_recomputing_trades_memory_for_arithmetic() -> None:
    """A forward pass of the blocks more, for a fraction of what is kept."""
    sizes: dict[str, Any] = {"teachers": {"t": {"encoder": "pixels", "side": 64}}, "sides": [64], "hidden": 32}
    dear = plan(stage({"s": SMALL}, **sizes))
    cheap = plan(stage({"s": {**SMALL, "recompute": True}}, **sizes))
    assert cheap.memory.activations < 0.5 * dear.memory.activations
    assert cheap.image == pytest.approx(dear.image + dear.students["s"])


def test_the_table_tells_what_is_in_force() -> None:
    """The rate after scaling, how batches and students are spread, and that activations are an estimate."""
    config = small(micro=8, rate={"base": 2e-5, "steps": 1000, "warmup": 10}, compile=True)
    table = plan_table(config, plan(config, ranks=4), 4, tflops=100)
    for words in (
        "learning rate     2e-05 at the peak (base 2e-05, scaling sqrt_1024), after 10 steps of warm-up",
        "64 = 4 x 16, 2 micro-batches of 8",
        "copied: a copy on each process, sharded: sharded",
        "compile on",
        "about 0.0 GB of activations",
        "0.01 TB over the stage",
    ):
        assert words in table
    wide = stage({"s": SMALL}, teachers={"t": {"encoder": "pixels", "side": 64}}, sides=[64])
    assert "learning rate     0.000226 at the peak (base 2e-05" in "\n".join(choices(wide, 1))
