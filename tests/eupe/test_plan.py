"""What a stage costs, against figures that were counted independently."""

from typing import Any

import pytest

from eupe.config import Stage, read
from eupe.plan import plan
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


def test_students_and_a_teacher_cost_what_they_do() -> None:
    """Forward FLOPs of five students and of DINOv3-H+ to one part in a thousand; nothing is read from disk."""
    planned = plan(stage({model: {"model": model} for model in FORWARD}))
    for model, wanted in FORWARD.items():
        assert planned.students[model] / 1e9 == pytest.approx(wanted, rel=1e-3)
    assert planned.teachers["t"] / 1e9 == pytest.approx(449.5, rel=1e-3)


@pytest.mark.parametrize(("side", "wanted"), [(256, 0.986), (384, 2.253), (448, 3.109), (512, 4.131)])
def test_the_proxy_costs_what_it_does(side: int, wanted: float) -> None:
    """1.85 billion parameters, 1536 wide and 50 deep, TFLOP an image at four sides."""
    proxy = {"proxy": {"model": "vit_base_patch16_dinov3_qkvb", "options": PROXY}}
    planned = plan(stage(proxy, sides=[side]))
    assert planned.students["proxy"] / 1e12 == pytest.approx(wanted, rel=1e-3)
    heads = 2 * (1536 * 3072 + 3072 * 1280 + 3072)
    assert (planned.parameters["proxy"] - heads) / 1e9 == pytest.approx(1.85, abs=0.005)


def test_heads_cost_their_products() -> None:
    """Two products a token: 256 patches and one class token of a ViT-B, 768 to 3072 to the teacher's 1280."""
    model = "vit_base_patch16_dinov3_qkvb"
    planned = plan(stage({"b": {"model": model}}))
    assert planned.heads["b"] == pytest.approx(2 * 257 * (768 * 3072 + 3072 * 1280), rel=1e-6)
    assert planned.image == planned.teachers["t"] + 3 * (planned.students["b"] + planned.heads["b"])
    assert planned.total == planned.image * 8192 * 390_000


def test_stage_three_costs_at_most_a_third_more_than_stage_two() -> None:
    """With one pick of scales a step for all processes: proxy and ViT-B over nine pairs, at equal batch."""
    student = {"b": {"model": "vit_base_patch16_dinov3_qkvb"}}
    sides = {"sides": [256, 384, 512], "teacher_sides": [256, 384, 512]}
    two, three = plan(stage(student)), plan(stage(student, **sides))
    ratio = (three.image / two.image) * (4096 / 8192)
    assert ratio < 1.35


def test_batches_that_do_not_divide_are_refused() -> None:
    """Processes and micro-batches must share the batch evenly: the gradient is a plain mean."""
    student = {"b": {"model": "vit_tiny_patch16_dinov3_qkvb"}}
    with pytest.raises(UsageError, match="8192 does not divide into 3 processes"):
        plan(stage(student), ranks=3)
    with pytest.raises(UsageError, match="micro-batches of 100"):
        plan(stage(student, micro=100))
