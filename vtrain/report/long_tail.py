"""Whether rare classes fare worse, and what adjusting the logits for rarity would change."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from vtrain.report.scores import Array, Scores

GROUPS = 3
BALANCED = 1.5
"""Up to this ratio of the largest class to the smallest there is no tail to speak of."""


@dataclass(frozen=True)
class Group:
    """Classes of similar frequency in training."""

    fewest: int
    most: int
    classes: int
    images: int
    recall: float
    """Mean over the classes that have images to evaluate; NaN if none has."""
    adjusted_recall: float


@dataclass(frozen=True)
class LongTail:
    """How recall depends on the number of training images of a class."""

    balanced: bool
    groups: list[Group]
    """Rare, middling and frequent classes."""
    rank_correlation: float
    """Spearman's, of frequency and recall; NaN if either is the same everywhere."""
    accuracy: float
    adjusted_accuracy: float
    balanced_accuracy: float
    adjusted_balanced_accuracy: float


def long_tail(scores: Scores, train_counts: Array) -> LongTail:
    """Return recall by frequency. Shape: `train_counts` (K,) training images of each class."""
    support = np.bincount(scores.targets, minlength=scores.num_classes)
    adjusted = adjust_logits(scores.logits, train_counts).argmax(1)
    plain_recall = _recall(scores.predicted, scores.targets, support)
    adjusted_recall = _recall(adjusted, scores.targets, support)
    order = np.argsort(train_counts, kind="stable")
    groups = [
        Group(
            int(train_counts[members].min()),
            int(train_counts[members].max()),
            len(members),
            int(support[members].sum()),
            _mean(plain_recall[members]),
            _mean(adjusted_recall[members]),
        )
        # A third of the classes each, and not of the images: most of these are of few classes.
        for members in np.array_split(order, min(GROUPS, len(order)))
    ]
    present = support > 0
    return LongTail(
        balanced=bool(train_counts.max() <= BALANCED * max(1, train_counts.min())),
        groups=groups,
        rank_correlation=spearman(train_counts[present], plain_recall[present]),
        accuracy=float(scores.correct.mean()),
        adjusted_accuracy=float(np.mean(adjusted == scores.targets)),
        balanced_accuracy=_mean(plain_recall),
        adjusted_balanced_accuracy=_mean(adjusted_recall),
    )


def adjust_logits(logits: Array, train_counts: Array) -> Array:
    """Subtract the logarithm of each class's frequency in training. Shape: (N, K), (K,) -> (N, K).

    Reference: Menon et al., arXiv:2007.07314, section 4.1, tau = 1. A class that training never saw
    counts as seen once.
    """
    counts = np.maximum(train_counts, 1)
    return np.asarray(logits - np.log(counts / counts.sum()).astype(np.float32))


def spearman(a: Array, b: Array) -> float:
    """Return the rank correlation, NaN where one side does not vary. Shape: (n,), (n,)."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _recall(predicted: Array, targets: Array, support: Array) -> Array:
    """Shape: (N,), (N,), (K,) -> (K,), NaN for classes without images."""
    hits = np.bincount(targets[predicted == targets], minlength=len(support))
    return np.where(support, hits / np.maximum(support, 1), np.nan)


def _mean(values: Array) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
