"""The benchmarks see what an encoder has learnt: minutes with the world's labels beat every floor, by far.

With -s the scores are printed. EUPE_EVAL_CACHE names the folder where the world is, or is to be, kept.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from evals.benchmarks.base import STANDARD_WORLD, Job, find
from evals.context import Context, Roots
from evals.encoders.load import digest, load
from evals.encoders.registry import resolve
from evals.features import FeatureStore
from evals.files import DigestMemo
from evals.miniature import world
from evals.record import Score
from evals.types import Encoder
from tests.parity.small_encoder import SmallEncoder, untrained
from tests.parity.small_lessons import Lessons, train

FACTORS = {"in1k-knn": 1.4, "ade20k-linear": 1.8, "nyuv2-linear": 1.15, "spair-pck": 3.0}
"""Benchmark -> by what factor the trained encoder is at least better than the better floor."""
FLOORS = ("pixels", "random")
STEPS = 400
"""Steps of training: five minutes of one core."""

Scores = Mapping[tuple[str, str], Score]
"""(Encoder, benchmark) -> headline."""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The standard world, with a new cache of features."""
    folder = tmp_path_factory.mktemp("trained")
    kept = Path(os.environ.get("EUPE_EVAL_CACHE", folder)) / "miniature" / STANDARD_WORLD
    root = world.make(kept, size="small")
    roots = Roots({name: root / name for name in ("imagenet", "ade20k", "nyu", "SPair-71k")}, STANDARD_WORLD)
    return Context(roots, folder / "results", folder / "cache")


@pytest.fixture(scope="module")
def scores(context: Context) -> Scores:
    """Every encoder on every benchmark under the protocol of the world; printed as a table."""
    started = time.monotonic()
    network = train(Lessons.read(context.roots), steps=STEPS, seed=0)
    print(f"\ntrained {STEPS} steps in {time.monotonic() - started:.0f} s")
    encoders = (
        SmallEncoder("trained", network),
        SmallEncoder("random", untrained(0)),
        load(resolve("pixels"), DigestMemo(None)),
    )
    found: dict[tuple[str, str], Score] = {}
    for encoder in encoders:
        for name in FACTORS:
            started = time.monotonic()
            found[encoder.card.name, name] = score = _score(encoder, name, context)
            seconds = time.monotonic() - started
            print(f"{encoder.card.name:8} {name:14} {score.value:8.3f} {score.unit:8} {seconds:6.1f} s", flush=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("benchmark_id", FACTORS)
def test_trained_beats_the_floors(scores: Scores, benchmark_id: str) -> None:
    """Better than raw pixels and than the same architecture untrained, in the direction in which better is."""
    trained = scores["trained", benchmark_id]
    for floor in FLOORS:
        other = scores[floor, benchmark_id]
        assert trained.value is not None
        assert other.value is not None
        assert trained.higher_is_better == other.higher_is_better == (benchmark_id != "nyuv2-linear")
        factor = trained.value / other.value if trained.higher_is_better else other.value / trained.value
        assert factor > FACTORS[benchmark_id], (
            f"{trained.name}: {trained.value:.3f} against {other.value:.3f} ({floor})"
        )


def _score(encoder: Encoder, name: str, context: Context) -> Score:
    """The headline of one benchmark; the encoder must come out of it as it went in."""
    before = digest(encoder)
    _, benchmark = find(name).of("miniature")
    splits = benchmark.splits(context.roots, context.digests)
    work = context.cache / "work" / encoder.card.name / name
    outcome = benchmark.run(Job(encoder, FeatureStore(encoder, context), splits, context, work))
    assert digest(encoder) == before
    (headline,) = (score for score in outcome.metrics if score.primary)
    return headline
