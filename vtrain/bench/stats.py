"""What can be said about speed from windows of time that were measured in turns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Summary:
    """The middle of some measurements and how far they lie apart."""

    median: float
    low: float
    """The first quartile."""
    high: float
    """The third quartile."""
    n: int

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a share of the median."""
        return (self.high - self.low) / self.median


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios with its 95 % bootstrap interval."""

    median: float
    low: float
    high: float
    n: int

    def excludes(self, value: float) -> bool:
        """Whether the interval lies wholly above or wholly below `value`."""
        return value < self.low or value > self.high

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def summarise(values: Sequence[float]) -> Summary:
    """Return the median and the quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Summary(median, low, high, len(values))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Ratio:
    """Return how many times `theirs` goes into `ours`, pair by pair.

    The two members of a pair were measured one right after the other, so what slows the machine for
    longer than a pair cancels. The interval is the percentile bootstrap of the median (Efron,
    Tibshirani, "An introduction to the bootstrap", 1993, section 13.3): it is drawn from the pairs
    with replacement, from a seed, so that the same windows give the same interval.

    Shape: two sequences of equal length, of positive numbers.
    """
    assert len(ours) == len(theirs) > 0
    # Pair by pair, not median by median: only within a pair was the machine the same.
    ratios = np.asarray(ours, dtype=np.float64) / np.asarray(theirs, dtype=np.float64)
    # Resamples of the pairs: (RESAMPLES, n) row numbers.
    rows = np.random.default_rng(seed).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[rows], axis=1), (0.025, 0.975)).tolist()
    return Ratio(float(np.median(ratios)), low, high, len(ratios))
