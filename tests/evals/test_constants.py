"""Values of protocol constants: what their annotations allow, and nothing else."""

import pytest

from evals.benchmarks import base
from evals.errors import UsageError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("in1k-knn.vote=3", "weighted or majority; got 3"),
        ("in1k-knn.normalize='abc'", "true or false"),
        ("in1k-knn.normalize=1", "true or false"),
        ("in1k-knn.temperature=0", "a number above 0"),
        ("in1k-knn.dtype='foo'", "fp32 or bf16"),
        ("in1k-knn.side='abc'", "a whole number from 1"),
        ("in1k-knn.side=True", "a whole number from 1"),
        ("in1k-knn.ks=20", r"a list such as \[10, 20\]"),
        ("in1k-knn.ks=(1.5,)", "each a whole number from 1"),
        ("in1k-knn.ks=()", "a list"),
        ("in1k-knn.short=100", "short=100 must be at least side=224"),
        ("in1k-knn.limit=0", "a whole number from 1 or null"),
        ("spair-pck.renorm='x'", "before or after"),
        ("spair-pck.alphas=(-1.0,)", "each a number above 0"),
        ("spair-pck.alphas=0.1", "a list such as"),
        ("spair-pck.draw=0", "a whole number from 1"),
        ("ade20k-linear.stride=0", "a whole number from 1"),
        ("ade20k-linear.steps=-3", "a whole number from 1"),
        ("ade20k-linear.dropout=1.5", "a share below 1"),
        ("ade20k-linear.report='foo'", "best or last"),
        ("ade20k-linear.rate=float('inf')", "a number above 0"),
        ("nyuv2-linear.clip=0", "a number above 0"),
        ("nyuv2-linear.head_seed=-1", "a whole number from 0"),
        ("cost.sides=(0,)", "each a whole number from 1"),
    ],
)
def test_nonsense_is_refused_by_name(change: str, message: str) -> None:
    """The message has the constant, what it takes and what it got."""
    key, value = change.split("=", 1)
    name, constant = key.split(".")
    with pytest.raises(UsageError, match=message):
        base.find(name).of(None, **{constant: eval(value, {})})


def test_what_fits_is_taken() -> None:
    """An int stands for a float, 0 where it means something, null where nothing is a choice."""
    _, benchmark = base.find("ade20k-linear").of("official", rate=1, dropout=0.0, warmup=0, classes=None)
    assert benchmark.params()["rate"] == 1
    assert base.find("in1k-knn").of("official", ks=(5,), normalize=True)[1].params()["ks"] == (5,)


@pytest.mark.parametrize("name", base.names())
def test_every_protocol_passes_its_own_check(name: str) -> None:
    """The constants of every protocol fit their annotations."""
    kind = base.find(name)
    for protocol in kind.protocols:
        _, made = kind.of(protocol)
        kind.of(protocol, **made.params())
