"""Adapter heads: their formula, their statistics, and what a released file has of them."""

import pytest
import torch
from torch.nn import functional as F

from evals.encoders.exports.heads import (
    Head,
    Statistics,
    adapters,
    check_statistics,
    fold,
    released_heads,
    target_statistics,
)
from evals.encoders.registry import names, resolve
from evals.encoders.weights import seeded
from evals.errors import WeightsError
from tests.evals.encoders.exporting import teacher


def drawn(dim: int = 6, hidden: int = 10, target: int = 4) -> tuple[Head, Statistics]:
    """A head and statistics with every tensor drawn at random."""
    with seeded(3):
        head = Head(dim, hidden, target)
        for parameter in head.parameters():
            parameter.data = torch.randn(parameter.shape)
        return head, Statistics(5 * torch.randn(target), 0.1 + 4 * torch.rand(target))


def test_a_head_is_the_formula_of_the_paper() -> None:
    """Linear, LayerNorm with eps 1e-5, exact GELU, Linear, written out in float64; no biases but that of the norm."""
    head, _ = drawn()
    tokens = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    state = {key: value.double() for key, value in head.state_dict().items()}
    assert sorted(state) == ["inner.weight", "norm.bias", "norm.weight", "outer.weight"]
    hidden = tokens.double() @ state["inner.weight"].T
    hidden = (hidden - hidden.mean(-1, keepdim=True)) / (hidden.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    hidden = hidden * state["norm.weight"] + state["norm.bias"]
    expected = (hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))) @ state["outer.weight"].T
    torch.testing.assert_close(head(tokens).double(), expected, rtol=1e-5, atol=1e-5)


def test_fresh_heads_start_small() -> None:
    """Weights of a deviation of 0.02, so that the outputs of unit tokens are 0.72 of the length of their targets."""
    with seeded(0):
        head = Head(768, 3072, 1536)
    assert head.outer.weight.std().item() == pytest.approx(0.02, rel=0.01)
    tokens = torch.randn(64, 768, generator=torch.Generator().manual_seed(1))
    ratio = head(tokens).norm(dim=1).mean().item() / 1536**0.5
    assert ratio == pytest.approx(0.72, abs=0.03)


def test_statistics_are_undone_exactly() -> None:
    """Two coordinates by hand, there and back."""
    statistics = Statistics(torch.tensor([10.0, -1.0]), torch.tensor([2.0, 0.5]))
    values = torch.tensor([[14.0, -1.0], [10.0, 0.0]])
    assert statistics.standardise(values).tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert torch.equal(statistics.restore(statistics.standardise(values)), values)


def test_folded_is_unfolded() -> None:
    """The last Linear with de-standardisation inside gives what the two give one after the other."""
    head, statistics = drawn()
    tokens = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    stream = torch.get_rng_state()
    folded = fold(head, statistics)
    assert torch.equal(stream, torch.get_rng_state()), "nothing is drawn"
    torch.testing.assert_close(folded(tokens), statistics.restore(head(tokens)), rtol=1e-5, atol=1e-5)
    assert torch.equal(folded.outer.bias, statistics.mean)
    assert torch.equal(folded.outer.weight[1], head.outer.weight[1] * statistics.std[1])
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_each_teacher_has_what_it_taught() -> None:
    """A teacher without a class token has no class head, one before its text space brings its projection."""
    teachers = (teacher("a", cls=None), teacher("b", patch=None, projection=7, hidden=9))
    found = {key: tuple(value.shape) for key, value in adapters(teachers, 5).state_dict().items()}
    assert found == {
        "a.patch.inner.weight": (64, 5),
        "a.patch.norm.weight": (64,),
        "a.patch.norm.bias": (64,),
        "a.patch.outer.weight": (24, 64),
        "b.cls.inner.weight": (9, 5),
        "b.cls.norm.weight": (9,),
        "b.cls.norm.bias": (9,),
        "b.cls.outer.weight": (20, 9),
        "b.projection.weight": (7, 20),
        "b.projection.bias": (7,),
    }
    shapes = {key: tuple(value.shape) for key, value in target_statistics(teachers).state_dict().items()}
    assert shapes == {"a.patch.mean": (24,), "a.patch.std": (24,), "b.cls.mean": (20,), "b.cls.std": (20,)}


@pytest.mark.parametrize(("key", "value"), [("a.cls.mean", float("nan")), ("a.cls.std", 0.0), ("a.cls.std", -1.0)])
def test_statistics_that_divide_by_nothing_are_refused(key: str, value: float) -> None:
    """Means and deviations are finite, deviations above 0."""
    tensors = {"a.cls.mean": torch.zeros(3), "a.cls.std": torch.ones(3)}
    check_statistics(tensors, what="x")
    tensors[key][1] = value
    with pytest.raises(WeightsError, match=f"x: {key} must be finite"):
        check_statistics(tensors, what="x")


def test_heads_of_a_released_file_are_listed() -> None:
    """Two heads of the shapes that the size of a released ViT-T tells: 192 to 3072 to 1536, no bias but the norm's."""
    shapes = {"0.weight": (3072, 192), "1.weight": (3072,), "1.bias": (3072,), "3.weight": (1536, 3072)}
    with torch.device("meta"):
        tensors = {
            f"projectors.heads.dinov3radio.{kind}.{key}": torch.empty(shape)
            for kind in ("cls", "patch")
            for key, shape in shapes.items()
        }
        tensors["cls_token"] = torch.empty(1, 1, 192)
    first, second = released_heads(tensors)
    assert (first.name, second.name) == ("heads.dinov3radio.cls", "heads.dinov3radio.patch")
    assert first.shapes == shapes
    assert first.widths == second.widths == (192, 3072, 1536)
    assert released_heads({"cls_token": torch.zeros(1)}) == ()


def test_a_head_of_one_layer_is_listed_too() -> None:
    """The name is what is left when layer and parameter are taken off."""
    (head,) = released_heads({"projectors.heads.dinov3radio.0.weight": torch.zeros(8, 192)})
    assert (head.name, head.widths) == ("heads.dinov3radio", (192, 8))
    assert F.linear(torch.zeros(1, 192), torch.zeros(head.shapes["0.weight"])).shape == (1, 8)


@pytest.mark.parametrize("name", [name for name in names() if resolve(name).source == "eupe"])
def test_released_encoders_say_why_they_have_no_text(name: str) -> None:
    """The reason is in the entry, which `eupe-eval info` prints."""
    entry = resolve(name)
    assert not entry.text
    assert entry.note is not None and "projectors.*" in entry.note and "were not released" in entry.note
