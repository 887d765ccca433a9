"""How sure a figure is: Wilson's interval for shares, the bootstrap or a variance for others."""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from vtrain.report.scores import Array

LEVEL = 0.95
UPPER = (1 + LEVEL) / 2
DRAWS = 1000
"""Bootstrap samples: the interval's ends then vary by about 1 % of its length (Efron, 1987)."""
BLOCK = 2**22  # resampled images held at a time


class Interval(NamedTuple):
    """The ends of an interval at level `LEVEL`."""

    low: float
    high: float


UNKNOWN = Interval(float("nan"), float("nan"))
"""One image does not say how images differ."""


def wilson(hits: float, count: float, level: float = LEVEL) -> Interval:
    """Return the interval of a share of independent hits; of no trial it is [0, 1].

    Reference: Wilson, J. Am. Stat. Assoc. 22 (1927).
    """
    low, high = wilson_arrays(np.array([hits]), np.array([count]), level)
    return Interval(float(low[0]), float(high[0]))


def wilson_arrays(hits: Array, counts: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Return the intervals' ends of many shares. Shape: (M,), (M,) -> (M,), (M,)."""
    z2 = ndtri((1 + level) / 2) ** 2
    # Only against a division by 0: what no trial gives is set at the end.
    n = np.maximum(counts, 1)
    share = hits / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = np.sqrt(z2) / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    # Where all or none hit, an end is exact and must not be spoilt by rounding.
    low = np.where((counts == 0) | (hits == 0), 0.0, middle - reach)
    high = np.where((counts == 0) | (hits == counts), 1.0, middle + reach)
    return low, high


def share_interval(value: float, variance: float, count: int, most: float = inf) -> Interval:
    """Return the interval of a figure in 0 .. 1 that is no share of trials, from its variance.

    It is Wilson's of as many trials as would vary as much, fewer by Student's t as the variance is
    known from `count` images only, and never more than `most` trials. Where nothing varies, as of a
    figure of 1, it is that of `count` trials.

    Reference: Korn and Graubard, Survey Methodology 24 (1998), with Wilson's interval.
    """
    spread = value * (1 - value)
    trials: float = count
    if count > 1 and variance > 0 < spread:
        trials = spread / variance * (ndtri(UPPER) / stdtrit(count - 1, UPPER)) ** 2
        trials = min(max(1.0, trials), most)
    return wilson(value * trials, trials)


def percentile_interval(values: Array, level: float = LEVEL) -> Interval:
    """Return the middle part of resampled values. Shape: (draws,)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def mean_interval(values: Array, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Return the bootstrap interval of a mean over images; of one it is unknown. Shape: (N,)."""
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    n = len(values)
    if n < 2:
        return UNKNOWN
    if len(distinct) <= 1000:  # few values, such as -1, 0, 1: draw how often each comes
        weights = rng.multinomial(n, counts / n, size=draws)
        return percentile_interval(weights @ distinct / n)
    means = [values[rng.integers(n, size=n)].mean() for _ in range(draws)]
    return percentile_interval(np.array(means))


def resampled(count: int, draws: int, seed: int) -> Iterator[Array]:
    """Yield blocks of bootstrap weights: how often each image was drawn. Shape: (d, N) float32."""
    rng = np.random.default_rng(seed)
    per_block = max(1, BLOCK // count)
    for start in range(0, draws, per_block):
        rows = min(per_block, draws - start)
        drawn = (rng.integers(count, size=count) for _ in range(rows))
        yield np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.float32)
