"""The distillation loss of the paper: cosine for class tokens, cosine and smooth L1 for patches (section 3.2).

Everything is computed in fp32 whatever the models computed in. Targets are standardised (eupe.statistics) before.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from eupe.align import Grid, common_grid, resize_map


@dataclass(frozen=True, slots=True)
class Loss:
    """How what a student says is compared with a target; the defaults are the paper's."""

    cosine: float = 0.9
    """Weight of the cosine of patches."""
    smooth_l1: float = 0.1
    """Weight of the smooth L1 of patches, a mean over channels (row 4)."""
    beta: float = 1.0
    """Where smooth L1 turns from a parabola into a line."""
    over: Literal["tokens", "map"] = "tokens"
    """The cosine of patches: token by token, or of each whole map as one vector (row 2)."""
    grid: Literal["finer", "student", "teacher"] = "finer"
    """Where patches are compared (row 8)."""

    def common(self, student: Grid, teacher: Grid) -> Grid:
        """The grid on which two maps meet."""
        return {"finer": common_grid(student, teacher), "student": student, "teacher": teacher}[self.grid]


PAPER = Loss()


@dataclass(frozen=True, slots=True)
class TeacherLoss:
    """The parts of one teacher's loss, each a scalar."""

    cls: Float[Tensor, ""] | None
    """1 - cosine of class tokens, mean over the batch; None for a teacher without one."""
    patch_cosine: Float[Tensor, ""]
    """1 - cosine token by token, mean over tokens and batch."""
    patch_smooth_l1: Float[Tensor, ""]
    """Mean over channels, tokens and batch: a sum over channels would outweigh the cosine by their number."""
    how: Loss = PAPER

    def patch(self) -> Float[Tensor, ""]:
        """The two patch terms together."""
        return self.how.cosine * self.patch_cosine + self.how.smooth_l1 * self.patch_smooth_l1

    def total(self, *, cls_weight: float = 1.0, patch_weight: float = 1.0) -> Float[Tensor, ""]:
        """What is minimised (equation 5): class term plus gamma times patch term."""
        patch = patch_weight * self.patch()
        return patch if self.cls is None else cls_weight * self.cls + patch


def cosine_loss(given: Float[Tensor, "*S D"], target: Float[Tensor, "*S D"]) -> Float[Tensor, ""]:
    """1 - cosine over the channels, mean over everything else."""
    return 1.0 - functional.cosine_similarity(given.float(), target.float(), dim=-1).mean()


def teacher_loss(
    cls_BD: Float[Tensor, "B D"] | None,
    patches_BHWD: Float[Tensor, "B H W D"],
    target_cls_BD: Float[Tensor, "B D"] | None,
    target_patches_BYXD: Float[Tensor, "B Y X D"],
    how: Loss = PAPER,
) -> TeacherLoss:
    """Loss of what the heads of a student say against the standardised outputs of one teacher.

    The smaller map is brought to the finer grid, whichever side it is on. Where the teacher or the student has no
    class token there is no class term.
    """
    (rows, columns), (theirs, across) = patches_BHWD.shape[1:3], target_patches_BYXD.shape[1:3]
    grid = how.common((rows, columns), (theirs, across))
    given = resize_map(patches_BHWD.float(), grid)
    target = resize_map(target_patches_BYXD.float(), grid)
    cls = None if cls_BD is None or target_cls_BD is None else cosine_loss(cls_BD, target_cls_BD)
    smooth: Tensor = functional.smooth_l1_loss(given, target, beta=how.beta)
    if how.over == "map":
        given, target = given.flatten(1), target.flatten(1)
    return TeacherLoss(cls, cosine_loss(given, target), smooth, how)


def total(losses: dict[str, TeacherLoss], weights: dict[str, tuple[float, float]]) -> Float[Tensor, ""]:
    """Sum over teachers (equation 6); `weights` are (class, patch) by teacher."""
    parts = [loss.total(cls_weight=weights[name][0], patch_weight=weights[name][1]) for name, loss in losses.items()]
    return torch.stack(parts).sum()
