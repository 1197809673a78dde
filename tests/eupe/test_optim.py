"""Which parameters decay, and what happens to gradients that are too large or not finite."""

import pytest
import timm
import torch
from torch import nn

from eupe.optim import PATIENCE, Guard, Optimisation, parameter_groups
from evals.errors import NumericsError


@pytest.mark.parametrize("model", ["vit_tiny_patch16_dinov3_qkvb", "convnext_atto"])
def test_only_matrices_decay(model: str) -> None:
    """Norms (also those between the stages of a ConvNeXt), biases, tokens and layer scales do not."""
    with torch.device("meta"):
        network = timm.create_model(model, num_classes=0)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed, kept = (
        {names[id(parameter)] for parameter in group["params"]}
        for group in parameter_groups(network.named_parameters(), 1e-4)
    )
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.LayerNorm)}
    assert {f"{name}.weight" for name in norms} <= kept
    assert not [name for name in decayed if name.endswith("bias") or "token" in name or "gamma" in name]
    assert all(name.endswith("weight") for name in decayed)
    assert decayed | kept == set(names.values())


@pytest.mark.parametrize("model", ["vit_tiny_patch16_dinov3_qkvb", "convnext_atto"])
def test_lower_layers_learn_as_slowly_as_asked(model: str) -> None:
    """A power of the decay by layer, patches slower still, heads at the whole rate; decay of weights as before."""
    network = nn.Module()
    network.backbone = timm.create_model(model, num_classes=0)
    network.heads = nn.Linear(3, 3)
    optimiser = Optimisation(layer_decay=0.5, patch_rate=0.2).build(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    shares = {names[id(one)]: group["share"] for group in optimiser.param_groups for one in group["params"]}
    decay = {names[id(one)]: group["weight_decay"] for group in optimiser.param_groups for one in group["params"]}
    assert set(shares) == set(names.values())
    assert {shares["heads.weight"], shares["heads.bias"]} == {1.0}
    if model.startswith("vit"):
        assert shares["backbone.blocks.11.mlp.fc1.weight"] == shares["backbone.norm.weight"] == 1.0
        assert shares["backbone.blocks.9.mlp.fc1.weight"] == 0.25
        assert shares["backbone.cls_token"] == 0.5**12
        assert shares["backbone.patch_embed.proj.weight"] == pytest.approx(0.2 * 0.5**12)
        assert decay["backbone.blocks.9.mlp.fc1.weight"] == 1e-4
    else:
        first = shares["backbone.stages.0.blocks.0.mlp.fc1.weight"]
        assert shares["backbone.stem.0.weight"] == pytest.approx(0.2 * 0.5 * first)
    guard = Guard("s", network, optimiser, clip=3.0)
    sum(parameter.sum() for parameter in network.parameters()).backward()
    guard.step(1e-3)
    rates = {names[id(one)]: group["lr"] for group in optimiser.param_groups for one in group["params"]}
    assert rates == {name: 1e-3 * share for name, share in shares.items()}


def test_the_rate_is_set_and_gradients_are_clipped_together() -> None:
    """The norm before clipping is returned; the step is as long as the clipped gradient says."""
    model = nn.Linear(2, 1, bias=False)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    before = model.weight.detach().clone()
    (model.weight * torch.tensor([[30.0, 40.0]])).sum().backward()
    norm = Guard("s", model, optimiser, clip=5.0).step(0.1)
    assert norm.item() == pytest.approx(50.0)
    assert (before - model.weight).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_a_step_that_is_not_finite_is_skipped_and_three_in_a_row_stop() -> None:
    """The weights stay as they were; a good step in between starts the count anew."""
    model = nn.Linear(2, 1)
    guard = Guard("vit-t", model, Optimisation().build(model), clip=3.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]

    def step(factor: float) -> None:
        (sum(parameter.sum() for parameter in model.parameters()) * factor).backward()
        guard.step(1e-3)
        guard.check()

    for _ in range(PATIENCE - 1):
        step(float("nan"))
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    step(1.0)
    assert guard.skipped == 0
    for _ in range(PATIENCE - 1):
        step(float("inf"))
    with pytest.raises(NumericsError, match=r"student vit-t .* 3 steps in a row"):
        step(float("inf"))
