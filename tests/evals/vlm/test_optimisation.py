"""AdamW, its schedule, and the norm of gradients."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from evals.vlm.optimisation import Optimisation, gradient_norm
from evals.vlm.recipe import ALIGNMENT, INSTRUCTION, StageRecipe

PUBLISHED = Optimisation(1e-3, 2181, 66, (0.9, 0.999), 0.0, None)


@pytest.mark.parametrize(
    ("stage", "samples", "steps", "warmup"), [(ALIGNMENT, 558_128, 2181, 66), (INSTRUCTION, 665_298, 5198, 156)]
)
def test_the_rate_is_that_of_transformers(stage: StageRecipe, samples: int, steps: int, warmup: int) -> None:
    """Every step of both published stages: from 0 to the peak, then a cosine towards 0."""
    made = Optimisation(stage.rate, stage.steps(samples), stage.warmup_steps(samples), stage.betas, 0.0, None)
    assert (made.steps, made.warmup) == (steps, warmup)
    reference = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=stage.rate)
    scheduler = get_cosine_schedule_with_warmup(reference, warmup, steps)
    for step in range(steps):
        assert made.at(step) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        reference.step()
        scheduler.step()
    assert made.at(0) == 0
    assert made.at(warmup) == stage.rate


def test_matrices_decay_and_vectors_do_not() -> None:
    """Without a gradient to follow, a weight shrinks by rate x decay and a bias stays."""
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimiser = replace(PUBLISHED, rate=0.5, weight_decay=0.1).build(list(layer.parameters()))
    layer.weight.grad, layer.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    optimiser.step()
    torch.testing.assert_close(layer.weight.detach(), before[0] * 0.95)
    assert torch.equal(layer.bias.detach(), before[1])


def test_the_norm_is_of_all_gradients_together() -> None:
    """3, 4 and 12 make 13; a clip of 6.5 halves them, a larger one and none leave them."""
    ones = [nn.Parameter(torch.zeros(1)) for _ in range(4)]
    for clip, factor in ((None, 1.0), (26.0, 1.0), (6.5, 0.5)):
        for one, value in zip(ones, (3.0, 4.0, 12.0), strict=False):
            one.grad = torch.tensor([value])
        assert gradient_norm(ones, clip) == pytest.approx(13)
        assert ones[0].grad is not None
        assert ones[0].grad.item() == pytest.approx(3 * factor, rel=1e-6)
