"""How sure a figure is: Wilson's interval for shares, the percentile bootstrap for the rest."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from vtrain.report.scores import Array

LEVEL = 0.95
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


def bootstrap(
    statistic: Callable[[Array], Array], count: int, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Return the percentile bootstrap interval of a statistic of weighted images.

    Args:
        statistic: Maps how often each image was drawn, (d, N), to its d values.
        count: N.
        draws: Bootstrap samples in all.
        seed: Of the resampling.
    """
    if count < 2:
        return UNKNOWN
    blocks = [statistic(weights) for weights in resampled(count, draws, seed)]
    return percentile_interval(np.concatenate(blocks))


def resampled(count: int, draws: int, seed: int) -> Iterator[Array]:
    """Yield blocks of bootstrap weights: how often each image was drawn. Shape: (d, N) float32."""
    rng = np.random.default_rng(seed)
    per_block = max(1, BLOCK // count)
    for start in range(0, draws, per_block):
        rows = min(per_block, draws - start)
        drawn = (rng.integers(count, size=count) for _ in range(rows))
        yield np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.float32)
