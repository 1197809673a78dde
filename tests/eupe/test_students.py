"""Networks that learn, by kind."""

import pytest
import timm
import torch

from eupe.students import Architecture, Target, learner
from evals.errors import UsageError

TARGETS = {"teacher": Target(5, 7)}


@pytest.mark.parametrize(
    ("model", "options", "kind", "stride"),
    [
        ("vit_tiny_patch16_dinov3_qkvb", {"embed_dim": 48, "depth": 1, "num_heads": 3}, "cls", 16),
        ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}, "gap_norm", 32),
        ("resnet10t", {"channels": [8, 16, 24, 32], "norm_layer": "groupnorm1"}, "avg_pool", 32),
        ("resnet10t", {"channels": [8, 16, 24, 32], "norm_layer": "groupnorm1", "output_stride": 16}, "avg_pool", 16),
    ],
)
def test_each_kind_has_its_features(model: str, options: dict[str, object], kind: str, stride: int) -> None:
    """Which global feature it has, and the grid of its map."""
    made = learner(Architecture(model, options), TARGETS, hidden=16, seed=0)
    assert (made.global_feature, made.patch) == (kind, stride)
    cls, patches = made(torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)))["teacher"]
    assert cls.shape == (2, 5)
    assert patches.shape == (2, 64 // stride, 96 // stride, 7)


def test_a_resnet_gives_the_mean_of_its_map() -> None:
    """As timm computes it, of normalised images."""
    options = {"channels": [8, 16, 24, 32], "norm_layer": "groupnorm1"}
    made = learner(Architecture("resnet10t", options), TARGETS, hidden=16, seed=0)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    same = timm.create_model("resnet10t", num_classes=0, **options)
    same.load_state_dict(made.backbone.state_dict())
    torch.testing.assert_close(made.features(images)[0], same((images - made.mean) / made.std))


def test_batch_norms_are_refused() -> None:
    """Their statistics are those of one process's share of a batch: two processes would not train what one does."""
    with pytest.raises(UsageError, match=r"batch norms .*groupnorm1"):
        learner(Architecture("resnet10t"), TARGETS, hidden=16, seed=0)
