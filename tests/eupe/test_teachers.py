"""Teachers: what they say, and that they cannot learn."""

from functools import cache
from typing import Any, cast

import pytest
import torch

from eupe.compose import compose
from eupe.parallel import halve
from eupe.teachers import Teacher
from evals.encoders.load import blueprint, load
from evals.encoders.registry import resolve
from evals.errors import UsageError
from evals.files import DigestMemo
from evals.types import Encoder, TextAlignedEncoder


def encoder(name: str) -> Encoder:
    """With random weights."""
    return load(resolve(name, weights="random"), DigestMemo(None))


def images() -> torch.Tensor:
    """Two images."""
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_targets_are_the_encoders_own_features() -> None:
    """The documented global feature and the patches, detached, in fp32, able to go into a backward pass."""
    model = encoder("eupe-vit-t")
    lesson, features = Teacher("t", model, side=64, dtype="fp32")(images()), model(images())
    assert lesson.cls_BD is not None
    assert torch.equal(lesson.cls_BD, features.pooled_BD)
    assert torch.equal(lesson.patches_BHWD, features.patches_BHWD)
    student = torch.zeros_like(lesson.patches_BHWD, requires_grad=True)
    torch.nn.functional.smooth_l1_loss(student, lesson.patches_BHWD).backward()
    assert student.grad is not None


@pytest.mark.parametrize(("cls", "dim"), [("global", 192), ("none", None), ("mean", 192), ("cls", 192)])
def test_the_class_feature_is_chosen_by_name(cls: str, dim: int | None) -> None:
    """And its width is known before training."""
    teacher = Teacher("t", encoder("eupe-vit-t"), side=64, cls=cls, dtype="fp32")
    assert (teacher.target().cls_dim, teacher.target().patch_dim) == (dim, 192)
    lesson = teacher(images())
    assert (None if lesson.cls_BD is None else lesson.cls_BD.shape[1]) == dim
    if cls == "mean":
        assert lesson.cls_BD is not None
        torch.testing.assert_close(lesson.cls_BD, lesson.patches_BHWD.mean((1, 2)))


def test_an_encoder_without_global_feature_cannot_be_asked_for_one() -> None:
    """PE-spatial's class token was never an output: the choices are named."""
    with pytest.raises(UsageError, match="has no class feature 'global'; it has: none, mean"):
        Teacher("spatial", encoder("pe-spatial-t"), side=64)


def test_an_encoder_that_could_learn_is_refused() -> None:
    """One parameter that wants a gradient is enough, and it is named."""
    model = encoder("eupe-vit-t")
    model.get_parameter("model.norm.weight").requires_grad_(True)
    with pytest.raises(UsageError, match=r"teacher t is not frozen: model\.norm\.weight and 0 more"):
        Teacher("t", model, side=64)


@pytest.mark.parametrize(("cls", "meets"), [("projected", True), ("global", False), ("none", False), ("mean", False)])
def test_which_target_meets_text(cls: str, meets: bool) -> None:
    """Of a PE the projected vector, which is what its text tower compares with, in bf16 too; not the one before it."""
    model = PE()
    halve(model, "bf16")
    teacher = Teacher("pe", model, side=28, cls=cls)
    assert teacher.meets_text() == meets
    assert teacher.target().cls_dim == {"projected": 512, "global": 192, "mean": 192, "none": None}[cls]


def test_the_paper_s_global_expert_teaches_in_text_space() -> None:
    """The default of PE-core-G is the 1280 numbers that zero-shot uses, not the 1536 before the projection."""
    order = compose(["recipe=stage1", "sources.web.root=a", "sources.imagenet.root=b"])
    config = order.stage.teachers["pe-core-g"]
    model = cast("Any", blueprint(resolve(config.encoder)))
    assert config.cls in model.structure.alternatives
    assert model.trunk.get_classifier().out_features == 1280


@cache
def PE() -> TextAlignedEncoder:
    """The smallest PE with a text tower, with random weights."""
    model = encoder("pe-core-t")
    assert isinstance(model, TextAlignedEncoder)
    return model
