"""Bootstrap intervals: how far a score could move with other items of the same kind. numpy only."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from evals.context import batches
from evals.record import Interval

Weights = NDArray[np.int64]
RESAMPLES = 1000
LEVEL = 0.95
METHOD = "cluster-bootstrap"
_DRAWS_AT_ONCE = 1 << 22


def bootstrap(
    n: int,
    statistic: Callable[[Weights], float],
    *,
    seed: int,
    cluster: str,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of a statistic of `n` clusters (Efron 1979; one cluster may hold many samples).

    `statistic` receives how often each cluster was drawn: integers of shape [n] with sum n. `cluster` names the unit
    that is drawn, for the record. The same seed gives the same interval. Draws for which the statistic is not defined
    (NaN, such as an F1 without a yes) are left out, and not counted. Raises ValueError where it never is.
    """
    _check(n, level)
    values = np.array([statistic(weights) for weights in _weights(n, resamples, seed)])
    defined = values[~np.isnan(values)]
    if not len(defined):
        raise ValueError(f"the statistic is defined for none of {resamples} draws of {n} clusters.")
    return _interval(defined, level, cluster)


def bootstrap_mean(
    values_N: NDArray[np.generic], *, seed: int, cluster: str, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """The same interval for a plain mean of one value an item, without a call for each resample."""
    values = np.asarray(values_N, dtype=np.float64)
    _check(len(values), level)
    means = np.concatenate([values[draws].mean(axis=1) for draws in _draws(len(values), resamples, seed)])
    return _interval(means, level, cluster)


def _check(n: int, level: float) -> None:
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"an interval needs at least one cluster and a level in (0, 1); got n = {n}, level = {level}.")


def _draws(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Drawn indices [r, n], in blocks of resamples that fit into little memory."""
    generator = np.random.default_rng(seed)
    for block in batches(resamples, max(1, _DRAWS_AT_ONCE // n)):
        yield generator.integers(n, size=(len(block), n))


def _weights(n: int, resamples: int, seed: int) -> Iterator[Weights]:
    for draws in _draws(n, resamples, seed):
        for draw in draws:
            yield np.bincount(draw, minlength=n)


def _interval(values: NDArray[np.float64], level: float, cluster: str) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, METHOD, len(values), cluster)
