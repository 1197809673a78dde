"""The loss against a plain NumPy account of the paper's equations, and its value before training."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eupe.align import resize_map
from eupe.losses import Loss, teacher_loss, total


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean over all vectors of 1 - cosine."""
    product = (one * other).sum(-1)
    return float((1 - product / (np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1))).mean())


def smooth_l1(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean over all numbers; a parabola up to a distance of 1, a line beyond."""
    distance = np.abs(one - other)
    return float(np.where(distance < 1, 0.5 * distance**2, distance - 0.5).mean())


def drawn(*shape: int, seed: int) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equals_the_equations() -> None:
    """Class term, patch cosine token by token, smooth L1 as a mean over channels, weighted 0.9 and 0.1."""
    z_c, y_c, z_p, y_p = drawn(3, 8, seed=0), drawn(3, 8, seed=1), drawn(3, 4, 5, 8, seed=2), drawn(3, 4, 5, 8, seed=3)
    loss = teacher_loss(z_c, z_p, y_c, y_p)
    n_c, m_c, n_p, m_p = (tensor.double().numpy() for tensor in (z_c, y_c, z_p, y_p))
    patch = 0.9 * cosine(n_p, m_p) + 0.1 * smooth_l1(n_p, m_p)
    assert loss.total().item() == pytest.approx(cosine(n_c, m_c) + patch, abs=1e-5)
    assert loss.total(cls_weight=0.5, patch_weight=2.0).item() == pytest.approx(
        0.5 * cosine(n_c, m_c) + 2 * patch, abs=1e-5
    )


def test_cosine_is_taken_token_by_token() -> None:
    """One token of huge norm does not drown the others, as it would in a cosine of flattened maps."""
    z_p, y_p = drawn(1, 2, 2, 8, seed=0), drawn(1, 2, 2, 8, seed=1)
    before = teacher_loss(None, z_p, None, y_p).patch_cosine
    y_p[0, 0, 0] *= 1000
    assert teacher_loss(None, z_p, None, y_p).patch_cosine.item() == pytest.approx(before.item(), abs=1e-5)


@pytest.mark.parametrize(("student", "teacher"), [(8, 16), (16, 8), (16, 16)])
def test_the_smaller_map_is_enlarged(student: int, teacher: int) -> None:
    """Whichever side it is on; gradients reach the student either way."""
    z_p = drawn(2, student, student, 4, seed=0).requires_grad_()
    loss = teacher_loss(None, z_p, None, drawn(2, teacher, teacher, 4, seed=1)).total()
    loss.backward()
    assert z_p.grad is not None
    assert z_p.grad.abs().sum() > 0


def test_a_teacher_without_class_token_has_no_class_term() -> None:
    """What the student says of a class token is then not asked for."""
    z_p, y_p = drawn(2, 4, 4, 8, seed=0), drawn(2, 4, 4, 8, seed=1)
    loss = teacher_loss(drawn(2, 8, seed=2), z_p, None, y_p)
    assert loss.cls is None
    assert loss.total().item() == pytest.approx(loss.patch().item())


def test_before_training_each_teacher_costs_nearly_two() -> None:
    """Unrelated targets of unit variance: 1 + 0.9 + 0.1 x (0.42 to 0.59), whatever the teacher."""
    for seed, dim in ((0, 64), (10, 256), (20, 1280)):
        z_c, z_p = 0.72 * drawn(256, dim, seed=seed), 0.72 * drawn(16, 16, 16, dim, seed=seed + 1)
        loss = teacher_loss(z_c, z_p, drawn(256, dim, seed=seed + 2), drawn(16, 16, 16, dim, seed=seed + 3))
        assert 1.90 <= loss.total().item() <= 2.05


def test_teachers_add_up() -> None:
    """Sum, not mean, each with its own weights."""
    z_p = drawn(2, 4, 4, 8, seed=0)
    one, other = (teacher_loss(None, z_p, None, drawn(2, 4, 4, 8, seed=seed)) for seed in (1, 2))
    whole = total({"a": one, "b": other}, {"a": (1.0, 1.0), "b": (1.0, 2.0)})
    assert whole.item() == pytest.approx((one.patch() + 2 * other.patch()).item(), abs=1e-6)


def test_cosine_of_whole_maps_and_other_weights_are_there_to_compare() -> None:
    """Counted by hand: the maps (1, 0, 0, 2) and (1, 1, 0, -1) have the product -1 and lengths of roots of 5 and 3."""
    z_p, y_p = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]]), torch.tensor([[[[1.0, 1.0], [0.0, -1.0]]]])
    loss = teacher_loss(None, z_p, None, y_p, Loss(over="map", cosine=2.0, smooth_l1=3.0, beta=2.0))
    assert loss.patch_cosine.item() == pytest.approx(1 + 1 / 15**0.5)
    # Distances 0, 1, 0, 3: 1 / (2 x 2) and 3 - 2 / 2, over four numbers.
    assert loss.patch_smooth_l1.item() == pytest.approx((0.25 + 2) / 4)
    assert loss.total().item() == pytest.approx(2 * loss.patch_cosine.item() + 3 * loss.patch_smooth_l1.item())


@pytest.mark.parametrize(("grid", "side"), [("student", 8), ("teacher", 4)])
def test_maps_can_meet_on_the_grid_of_either(grid: str, side: int) -> None:
    """The other one is resized to it, finer or not."""
    z_p, y_p = drawn(1, 8, 8, 4, seed=0), drawn(1, 4, 4, 4, seed=1)
    wanted = teacher_loss(None, resize_map(z_p, (side, side)), None, resize_map(y_p, (side, side)))
    found = teacher_loss(None, z_p, None, y_p, Loss(grid=grid))  # type: ignore[arg-type]
    assert found.total().item() == pytest.approx(wanted.total().item(), abs=1e-6)


def test_forms_of_the_cosine_have_one_gradient() -> None:
    """1 - cos, -cos and half the squared distance of unit vectors differ by constants."""
    z, y = drawn(5, 8, seed=0).requires_grad_(), drawn(5, 8, seed=1)
    unit_z, unit_y = (torch.nn.functional.normalize(each, dim=-1) for each in (z, y))
    others = (-(unit_z * unit_y).sum(-1).mean(), 0.5 * (unit_z - unit_y).square().sum(-1).mean())
    (ours,) = torch.autograd.grad(teacher_loss(z, drawn(5, 1, 1, 2, seed=2), y, drawn(5, 1, 1, 2, seed=3)).cls, z)
    for other in others:
        torch.testing.assert_close(torch.autograd.grad(other, z, retain_graph=True)[0], ours)


def test_a_student_without_class_token_has_no_class_term() -> None:
    """Also where the teacher has one."""
    z_p, y_p = drawn(2, 4, 4, 8, seed=0), drawn(2, 4, 4, 8, seed=1)
    assert teacher_loss(None, z_p, drawn(2, 8, seed=2), y_p).cls is None
