"""How good the predictions are, over all images and for each class."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vtrain.report.intervals import (
    UNKNOWN,
    Interval,
    mean_interval,
    share_interval,
    wilson,
    wilson_arrays,
)
from vtrain.report.ranking import Ranking, rankings
from vtrain.report.scores import Array, Scores, precision_recall_f1, worst_first


@dataclass(frozen=True)
class Overall:
    """Figures over all images. Accuracies are fractions; `macro` is over classes with images."""

    images: int
    classes: int
    accuracy: float
    accuracy_interval: Interval
    top5: float
    top5_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    macro_precision: float
    macro_precision_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    weighted_precision: float
    weighted_precision_interval: Interval
    weighted_f1: float
    weighted_f1_interval: Interval
    mean_average_precision: float
    mean_average_precision_interval: Interval
    mean_roc_auc: float
    mean_roc_auc_interval: Interval
    nll: float
    nll_interval: Interval
    brier: float
    """Mean over images of sum_k (p_k - y_k)^2, in 0 .. 2."""
    brier_interval: Interval


@dataclass(frozen=True)
class PerClass:
    """Figures of each class, NaN where they are not defined. Shape: (K,) each.

    The intervals of precision, recall and F1 are Wilson's; that of the precision takes the number
    of predictions as given, that of F1 the number of images that are of the class or given it.
    """

    support: Array
    predicted: Array
    """How many images were given this class."""
    precision: Array
    recall: Array
    f1: Array
    average_precision: Array
    roc_auc: Array
    precision_low: Array
    precision_high: Array
    recall_low: Array
    recall_high: Array
    f1_low: Array
    f1_high: Array
    average_precision_low: Array
    average_precision_high: Array
    roc_auc_low: Array
    roc_auc_high: Array

    def worst_first(self) -> Array:
        """Return the classes by F1, the worst first; those without images come last."""
        return worst_first(self.f1, self.support)


def confusion_matrix(scores: Scores) -> Array:
    """Return how many images of each class (row) were given each class. Shape: (K, K) int64."""
    k = scores.num_classes
    cells = scores.targets * k + scores.predicted
    return np.bincount(cells, minlength=k * k).reshape(k, k)


def per_class(scores: Scores, ranked: tuple[Ranking, Ranking]) -> PerClass:
    """Return each class's figures, one against the rest.

    A class with images that is never predicted has precision 0, as in scikit-learn with
    zero_division=0. A class without images has no recall, F1, average precision or ROC AUC.

    Args:
        scores: Of all images.
        ranked: What `rankings` says of them.
    """
    k = scores.num_classes
    support = np.bincount(scores.targets, minlength=k)
    predicted = np.bincount(scores.predicted, minlength=k)
    hits = np.bincount(scores.targets[scores.correct], minlength=k)
    precision, recall, f1 = precision_recall_f1(hits, support, predicted)
    average_precision, roc_auc = ranked
    # F1 = 2 J / (1 + J) of the share J of hits among the images of the class or given it.
    shares = [wilson_arrays(hits, n) for n in (predicted, support, support + predicted - hits)]
    low, high = shares[2]
    shares[2] = 2 * low / (1 + low), 2 * high / (1 + high)
    intervals = [
        np.where(np.isnan(figure), np.nan, end)
        for figure, ends in zip((precision, recall, f1), shares, strict=True)
        for end in ends
    ]
    intervals += [end for ranking in ranked for end in (ranking.low, ranking.high)]
    return PerClass(
        support,
        predicted,
        precision,
        recall,
        f1,
        average_precision.values,
        roc_auc.values,
        *intervals,
    )


def figures(scores: Scores) -> tuple[Overall, PerClass]:
    """Return the figures over all images, and those of each class."""
    ranked = rankings(scores)
    classes = per_class(scores, ranked)
    return overall(scores, classes, ranked), classes


def overall(scores: Scores, classes: PerClass, ranked: tuple[Ranking, Ranking]) -> Overall:
    """Return the figures over all images."""
    count = len(scores)
    present = classes.support > 0
    weights = classes.support[present] / count
    hits, top5 = int(scores.correct.sum()), int((scores.true_rank < 5).sum())
    squares = squared_errors(scores)
    intervals = mean_intervals(scores)
    average_precision, roc_auc = ranked
    return Overall(
        images=count,
        classes=scores.num_classes,
        accuracy=hits / count,
        accuracy_interval=wilson(hits, count),
        top5=top5 / count,
        top5_interval=wilson(top5, count),
        balanced_accuracy=float(classes.recall[present].mean()),
        balanced_accuracy_interval=intervals.macro_recall,
        macro_precision=float(classes.precision[present].mean()),
        macro_precision_interval=intervals.macro_precision,
        macro_f1=float(classes.f1[present].mean()),
        macro_f1_interval=intervals.macro_f1,
        weighted_precision=float(weights @ classes.precision[present]),
        weighted_precision_interval=intervals.weighted_precision,
        weighted_f1=float(weights @ classes.f1[present]),
        weighted_f1_interval=intervals.weighted_f1,
        mean_average_precision=average_precision.mean,
        mean_average_precision_interval=average_precision.mean_interval,
        mean_roc_auc=roc_auc.mean,
        mean_roc_auc_interval=roc_auc.mean_interval,
        nll=float(scores.loss.mean()),
        nll_interval=mean_interval(scores.loss),
        brier=float(squares.mean()),
        brier_interval=mean_interval(squares),
    )


def squared_errors(scores: Scores) -> Array:
    """Return sum_k (p_k - y_k)^2 = sum_k p_k^2 - 2 p_true + 1 of each image. Shape: (N,)."""
    squares = np.einsum("nk,nk->n", scores.probs, scores.probs, dtype=np.float64)
    return np.asarray(squares - 2 * np.exp(-scores.loss) + 1)


class MeanIntervals(NamedTuple):
    """Intervals of means over the classes, each class alike or by its images.

    The mean of the recall by images is the accuracy, whose interval is Wilson's.
    """

    macro_precision: Interval
    macro_recall: Interval
    macro_f1: Interval
    weighted_precision: Interval
    weighted_f1: Interval


def mean_intervals(scores: Scores) -> MeanIntervals:
    """Return the intervals of means over the classes, from the influence of each image.

    A bootstrap's would be beside the figures where a class has few images: a resample has fewer
    different ones still, and a mean over classes moves with that.
    """
    n, k = scores.logits.shape
    if n < 2:
        return MeanIntervals(*[UNKNOWN] * 5)
    # Images of one cell of the confusion matrix have the same influence.
    cells, counts = np.unique(scores.targets * k + scores.predicted, return_counts=True)
    true, given = cells // k, cells % k
    hit = (true == given).astype(np.float64)
    support = np.bincount(true, counts, k)
    predicted = np.bincount(given, counts, k)
    by_class = precision_recall_f1(np.bincount(true, counts * hit, k), support, predicted)
    # Classes without images count in no mean.
    precision, recall, f1 = (np.where(support > 0, figure, 0) for figure in by_class)
    both = np.maximum(support + predicted, 1)
    # By how much a further such image would change the figure of the class that it is of, and that
    # of the class that it was given.
    nothing = np.zeros(len(cells))
    changes = {
        "precision": (precision, nothing, (hit - precision[given]) / predicted[given]),
        "recall": (recall, (hit - recall[true]) / support[true], nothing),
        "f1": (f1, (hit - f1[true]) / both[true], (hit - f1[given]) / both[given]),
    }
    present = int((support > 0).sum())

    def macro(name: str, too_low: float = 0.0) -> Interval:
        figure, at_true, at_given = changes[name]
        influence = (at_true + np.where(support[given] > 0, at_given, 0)) / present
        value = float(figure.sum()) / present
        # Each class has a figure of its own, from which its images deviate too little.
        interval = _share_interval(value + too_low, influence, counts, n - present)
        return Interval(min(interval.low, value), interval.high)

    def weighted(name: str) -> Interval:
        figure, at_true, at_given = changes[name]
        value = figure @ support / n
        # The image also changes how much its class weighs.
        change = support[true] * at_true + support[given] * at_given + figure[true] - value
        return _share_interval(value, change / n, counts, n - 1)

    # F1 = 2 hits / (support + predicted) of few images is too low in the mean; by how much, to the
    # second order of a ratio, depends on nothing else.
    too_low = float((f1 * (1 - f1) / both).sum()) / present
    macro_f1 = macro("f1", too_low)
    return MeanIntervals(
        macro("precision"), macro("recall"), macro_f1, weighted("precision"), weighted("f1")
    )


def _share_interval(value: float, influence: Array, counts: Array, free: int) -> Interval:
    """Return the interval of a figure from the influence of each kind of image.

    `free` images are more than the means from which they deviate.
    """
    variance = float(counts @ influence**2) * counts.sum() / max(free, 1)
    return share_interval(min(float(value), 1.0), variance, free + 1)
