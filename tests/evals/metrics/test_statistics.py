"""Bootstrap intervals against scipy, the normal approximation and their own promise of coverage."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from evals.metrics.statistics import bootstrap, bootstrap_mean


def test_mean_agrees_with_the_general_form() -> None:
    """Both forms draw the same resamples, so the interval of a mean is the same up to rounding."""
    values = np.random.default_rng(1).normal(size=57)
    general = bootstrap(57, lambda w: float(w @ values / w.sum()), seed=3, cluster="image")
    mean = bootstrap_mean(values, seed=3, cluster="image")
    assert (mean.low, mean.high) == pytest.approx((general.low, general.high), abs=1e-12)
    assert (mean.method, mean.n, mean.cluster, mean.level) == ("cluster-bootstrap", 1000, "image", 0.95)


def test_weights_are_draws_with_replacement() -> None:
    """Each resample draws as many clusters as there are, and some more than once."""
    seen: list[np.ndarray] = []

    def statistic(weights: np.ndarray) -> float:
        seen.append(weights)
        return 0.0

    bootstrap(20, statistic, seed=0, cluster="pair", resamples=200)
    counts = np.stack(seen)
    assert counts.shape == (200, 20)
    assert (counts.sum(axis=1) == 20).all()
    assert counts.max() > 1
    assert counts.mean(axis=0) == pytest.approx(np.ones(20), abs=0.3)


def test_agrees_with_scipy() -> None:
    """The percentile interval of scipy.stats.bootstrap, up to the noise of the resamples."""
    values = np.random.default_rng(7).exponential(size=200)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = bootstrap_mean(values, seed=0, cluster="image", resamples=20_000)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_hits_have_the_binomial_width() -> None:
    """For 0/1 values of mean p the half width is 1.96 sqrt(p (1 - p) / n)."""
    hits = np.arange(4000) % 4 == 0
    interval = bootstrap_mean(hits, seed=0, cluster="image", resamples=4000)
    half = 1.96 * np.sqrt(0.25 * 0.75 / 4000)
    assert interval.low == pytest.approx(0.25 - half, abs=0.1 * half)
    assert interval.high == pytest.approx(0.25 + half, abs=0.1 * half)


def test_clusters_widen_the_interval() -> None:
    """Nine equal samples a cluster carry the information of one: the interval is about three times as wide."""
    hits = np.random.default_rng(5).random(300) < 0.5
    clustered = bootstrap(300, lambda w: float(w @ (9 * hits) / (9 * w.sum())), seed=0, cluster="pair")
    naive = bootstrap_mean(np.repeat(hits, 9), seed=0, cluster="point")
    assert (clustered.high - clustered.low) / (naive.high - naive.low) == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_covers_the_truth_as_often_as_promised(level: float) -> None:
    """Over 500 samples of 80 values the interval holds the true mean at the promised rate, within noise."""
    generator = np.random.default_rng(11)
    inside = 0
    for seed in range(500):
        interval = bootstrap_mean(generator.normal(size=80), seed=seed, cluster="image", resamples=400, level=level)
        inside += interval.low <= 0 <= interval.high
    assert inside / 500 == pytest.approx(level, abs=0.04)


def test_same_seed_same_interval() -> None:
    """The seed alone decides the draw."""
    values = np.random.default_rng(2).normal(size=40)
    first, again, other = (bootstrap_mean(values, seed=seed, cluster="image") for seed in (4, 4, 5))
    assert first == again
    assert first != other


def test_one_cluster_gives_a_point() -> None:
    """With one cluster every resample is the sample."""
    interval = bootstrap_mean(np.array([0.25]), seed=0, cluster="image")
    assert interval.low == interval.high == 0.25


@pytest.mark.parametrize(("n", "level"), [(0, 0.95), (5, 1.0), (5, 0.0)])
def test_refuses_what_has_no_interval(n: int, level: float) -> None:
    """No clusters, or a level outside (0, 1), is an error and never an interval."""
    with pytest.raises(ValueError, match="at least one cluster"):
        bootstrap_mean(np.ones(n), seed=0, cluster="image", level=level)


def test_needs_no_torch() -> None:
    """Tables use it, so it stays light."""
    code = "import sys, evals.metrics.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_draws_without_a_value_are_left_out() -> None:
    """The interval is that of the other draws, and tells how many these are; without any there is none."""
    interval = bootstrap(3, lambda w: float("nan") if w[0] == 0 else float(w[0]), seed=0, cluster="question")
    drawn = np.array([np.bincount(d, minlength=3)[0] for d in np.random.default_rng(0).integers(3, size=(1000, 3))])
    assert interval.n == (drawn > 0).sum() < 1000
    assert (interval.low, interval.high) == tuple(np.quantile(drawn[drawn > 0], [0.025, 0.975]))
    with pytest.raises(ValueError, match="none of 1000 draws of 3 clusters"):
        bootstrap(3, lambda w: float("nan"), seed=0, cluster="question")
