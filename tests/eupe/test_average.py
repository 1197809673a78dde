"""The moving average of weights."""

import pytest
import torch
from torch import nn

from eupe.average import Average


def test_it_is_the_average_that_it_says() -> None:
    """Shadow <- 0.9 shadow + 0.1 weights, from where the weights began; in fp32 and apart from them."""
    model = nn.Linear(2, 1)
    wanted = {name: value.detach().double().clone() for name, value in model.named_parameters()}
    average = Average(model, 0.9)
    for step in range(5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(step)
        average.update()
        wanted = {name: 0.9 * wanted[name] + 0.1 * value.double() for name, value in model.named_parameters()}
    for name, value in average.whole().items():
        assert value.dtype == torch.float32
        assert value.flatten().tolist() == pytest.approx(wanted[name].flatten().tolist(), abs=1e-6)
        assert not torch.equal(value, dict(model.named_parameters())[name])
