"""How well each class's probability ranks its own images above the others, and how sure that is.

An interval comes from the influence of each image: how much a figure would change if the image
counted a little more (the infinitesimal jackknife: Efron, Biometrika 68 (1981); of ROC AUC it is
the variance of DeLong et al., Biometrics 44 (1988)). It needs one sort a class, where a bootstrap
would need a thousand.
"""

from dataclasses import dataclass

import numpy as np

from vtrain.report.intervals import Interval, share_interval
from vtrain.report.scores import Array, Scores

MOST_TRIALS = 8
"""That an image of a class counts for: where all that there are rank high, an image that does not
may only be absent. 4 made intervals too wide and no limit too short, down to 82 of 100 that hold
the truth; the slow tests of this module count it."""


@dataclass(frozen=True)
class Ranking:
    """A figure of each class against the rest, and its mean; NaN where it is not defined."""

    values: Array
    """Shape: (K,), like the ends."""
    low: Array
    high: Array
    mean: float
    mean_interval: Interval


class _Gathered:
    """A figure as its classes come."""

    def __init__(self, images: int, classes: int) -> None:
        self.values, self.low, self.high = np.full((3, classes), np.nan)
        self.influence = np.zeros(images)
        """On the sum over the classes: an image counts in each of them."""

    def add(self, label: int, value: float, influence: Array, positives: int) -> None:
        # Of few images the mean lies too near to all of them, as in any sample's variance.
        influence = influence * np.sqrt(positives / max(1, positives - 1))
        most = MOST_TRIALS * positives
        interval = share_interval(value, float(influence @ influence), positives, most)
        self.values[label], (self.low[label], self.high[label]) = value, interval
        self.influence += influence

    def ranking(self) -> Ranking:
        defined = self.values[~np.isnan(self.values)]
        if not len(defined):
            nan = float("nan")
            return Ranking(self.values, self.low, self.high, nan, Interval(nan, nan))
        mean, influence = float(defined.mean()), self.influence / len(defined)
        interval = share_interval(mean, float(influence @ influence), len(influence))
        return Ranking(self.values, self.low, self.high, mean, interval)


def rankings(scores: Scores) -> tuple[Ranking, Ranking]:
    """Return average precision and ROC AUC of each class that has images."""
    total, k = scores.logits.shape
    precision, auc = _Gathered(total, k), _Gathered(total, k)
    for label in np.unique(scores.targets).tolist():
        # Logarithms tell sure images apart whose probabilities round to the same 1.
        column, positive = scores.log_probs[:, label], scores.targets == label
        positives = int(positive.sum())
        ranked = _Ranked(column, positive)
        precision.add(label, *ranked.average_precision(), positives)
        if positives < total:
            auc.add(label, *ranked.roc_auc(), positives)
    return precision.ranking(), auc.ranking()


class _Ranked:
    """The images of one class among all, the most probable first.

    Shape: `column` (N,) floats, `positive` (N,) bool.
    """

    def __init__(self, column: Array, positive: Array) -> None:
        self.total, self.positives = len(column), int(positive.sum())
        # What lies below the last positive is no better or worse than any other there.
        reached = np.flatnonzero(column >= column[positive].min())
        self.order = reached[np.argsort(-column[reached], kind="stable")]
        self.hit = positive[self.order]
        ordered = column[self.order]
        # A threshold at a score takes all its equals with it: each image has the place of the
        # first of them, and of the last.
        is_first = np.append(True, ordered[1:] != ordered[:-1])
        self.first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
        is_last = np.append(is_first[1:], True)
        self.last = np.flatnonzero(is_last)[np.cumsum(is_first) - 1]
        self.hits_above = np.append(0, np.cumsum(self.hit))
        """How many positives are among the first n. Shape: (n + 1,)."""

    def average_precision(self) -> tuple[float, Array]:
        """Return the mean over the positives of the precision at their place, and influences."""
        kept = self.last + 1
        precision = self.hits_above[kept] / kept
        value = float(precision[self.hit].mean())
        # An image that counts more changes the precision at every positive behind it.
        behind = _sums_behind(np.where(self.hit, 1 / kept, 0))[self.first]
        lost = _sums_behind(np.where(self.hit, precision / kept, 0))[self.first]
        own = np.where(self.hit, precision - value + behind, 0)
        influence = np.zeros(self.total)
        influence[self.order] = (own - lost) / self.positives
        return value, influence

    def roc_auc(self) -> tuple[float, Array]:
        """Return the share of pairs that are in order, an equal one as half, and influences."""
        negatives = self.total - self.positives
        above, up_to = self.hits_above[self.first], self.hits_above[self.last + 1]
        negatives_above, negatives_up_to = self.first - above, self.last + 1 - up_to
        # Of a positive the share of negatives below it, of a negative that of positives above it.
        below = 1 - (negatives_above + negatives_up_to) / 2 / negatives
        ahead = (above + up_to) / 2 / self.positives
        value = float(below[self.hit].mean())
        influence = np.full(self.total, (1 - value) / negatives)
        influence[self.order] = np.where(
            self.hit, (below - value) / self.positives, (ahead - value) / negatives
        )
        return value, influence


def _sums_behind(values: Array) -> Array:
    """Return the sum of each value and all behind it. Shape: (n,)."""
    return np.cumsum(values[::-1])[::-1]
