"""How good the predictions are, over all images and for each class."""

from dataclasses import dataclass

import numpy as np

from vtrain.report.intervals import (
    DRAWS,
    UNKNOWN,
    Interval,
    mean_interval,
    percentile_interval,
    wilson,
    wilson_arrays,
)
from vtrain.report.scores import Array, Scores


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
    weighted_f1: float
    mean_average_precision: float
    mean_roc_auc: float
    nll: float
    nll_interval: Interval
    brier: float
    """Mean over images of sum_k (p_k - y_k)^2, in 0 .. 2."""
    brier_interval: Interval


@dataclass(frozen=True)
class PerClass:
    """Figures of each class, NaN where they are not defined. Shape: (K,) each."""

    support: Array
    predicted: Array
    """How many images were given this class."""
    precision: Array
    recall: Array
    f1: Array
    average_precision: Array
    roc_auc: Array
    precision_low: Array
    """Wilson's interval, as of the recall; it takes the number of predictions as given."""
    precision_high: Array
    recall_low: Array
    recall_high: Array

    def worst_first(self) -> Array:
        """Return the classes by F1, the worst first; those without images come last."""
        # No F1 is above 1, so 2 sorts last.
        key = np.where(np.isnan(self.f1), 2.0, self.f1)
        return np.lexsort((np.arange(len(key)), -self.support, key))


def confusion_matrix(scores: Scores) -> Array:
    """Return how many images of each class (row) were given each class. Shape: (K, K) int64."""
    k = scores.num_classes
    cells = scores.targets * k + scores.predicted
    return np.bincount(cells, minlength=k * k).reshape(k, k)


def per_class(scores: Scores) -> PerClass:
    """Return each class's figures, one against the rest.

    A class with images that is never predicted has precision 0, as in scikit-learn with
    zero_division=0. A class without images has no recall, F1, average precision or ROC AUC.
    """
    k = scores.num_classes
    support = np.bincount(scores.targets, minlength=k)
    predicted = np.bincount(scores.predicted, minlength=k)
    hits = np.bincount(scores.targets[scores.correct], minlength=k)
    precision, recall, f1 = _precision_recall_f1(hits, support, predicted)
    average_precision, roc_auc = _ranking(scores)
    # In the order of the fields: both ends of the precision, then both of the recall.
    intervals = [
        np.where(np.isnan(share), np.nan, end)
        for share, trials in ((precision, predicted), (recall, support))
        for end in wilson_arrays(hits, trials)
    ]
    return PerClass(
        support, predicted, precision, recall, f1, average_precision, roc_auc, *intervals
    )


def _precision_recall_f1(hits: Array, support: Array, predicted: Array) -> tuple[Array, ...]:
    """Shape: (..., K) counts -> (..., K) floats."""
    nothing = (support == 0) & (predicted == 0)
    precision = np.where(nothing, np.nan, hits / np.maximum(predicted, 1))
    recall = np.where(support == 0, np.nan, hits / np.maximum(support, 1))
    # 2PR / (P + R) without its 0 / 0: a class with images that is never hit has F1 = 0
    f1 = np.where(support == 0, np.nan, 2 * hits / np.maximum(support + predicted, 1))
    return precision, recall, f1


def _ranking(scores: Scores) -> tuple[Array, Array]:
    """Return average precision and ROC AUC of each class. Shape: (K,), (K,).

    Both need no curve: only how many images of each kind lie above each positive one. So a class
    costs one sort, which is 20 times as fast as scikit-learn's two curves for 1,000 classes.
    """
    total, k = scores.logits.shape
    precision, auc = np.full(k, np.nan), np.full(k, np.nan)
    for label in np.unique(scores.targets):
        # Logarithms tell sure images apart whose probabilities round to the same 1.
        column = scores.log_probs[:, label]
        ranked = np.sort(column)
        positives = np.sort(column[scores.targets == label])
        n = len(positives)
        below, up_to = (np.searchsorted(ranked, positives, side) for side in ("left", "right"))
        own_below, own_up_to = (
            np.searchsorted(positives, positives, side) for side in ("left", "right")
        )
        # A threshold at a score takes all its equals with it.
        precision[label] = np.mean((n - own_below) / (total - below))
        if total > n:
            negatives_below = below - own_below
            ties = (up_to - below) - (own_up_to - own_below)
            auc[label] = np.mean(negatives_below + ties / 2) / (total - n)
    return precision, auc


def overall(scores: Scores, classes: PerClass) -> Overall:
    """Return the figures over all images."""
    count = len(scores)
    present = classes.support > 0
    weights = classes.support[present] / count
    hits, top5 = int(scores.correct.sum()), int((scores.true_rank < 5).sum())
    squares = squared_errors(scores)
    of_precision, of_recall, of_f1 = macro_intervals(scores)
    return Overall(
        images=count,
        classes=scores.num_classes,
        accuracy=hits / count,
        accuracy_interval=wilson(hits, count),
        top5=top5 / count,
        top5_interval=wilson(top5, count),
        balanced_accuracy=float(classes.recall[present].mean()),
        balanced_accuracy_interval=of_recall,
        macro_precision=float(classes.precision[present].mean()),
        macro_precision_interval=of_precision,
        macro_f1=float(classes.f1[present].mean()),
        macro_f1_interval=of_f1,
        weighted_precision=float(weights @ classes.precision[present]),
        weighted_f1=float(weights @ classes.f1[present]),
        mean_average_precision=float(classes.average_precision[present].mean()),
        # NaN of a class that has all images: there is no other to rank it above.
        mean_roc_auc=_mean(classes.roc_auc[present]),
        nll=float(scores.loss.mean()),
        nll_interval=mean_interval(scores.loss),
        brier=float(squares.mean()),
        brier_interval=mean_interval(squares),
    )


def squared_errors(scores: Scores) -> Array:
    """Return sum_k (p_k - y_k)^2 = sum_k p_k^2 - 2 p_true + 1 of each image. Shape: (N,)."""
    squares = np.einsum("nk,nk->n", scores.probs, scores.probs, dtype=np.float64)
    return np.asarray(squares - 2 * np.exp(-scores.loss) + 1)


def macro_intervals(
    scores: Scores, draws: int = DRAWS, seed: int = 0
) -> tuple[Interval, Interval, Interval]:
    """Return the bootstrap intervals over images of macro precision, recall and F1.

    The means are over the classes that are in a draw.
    """
    if len(scores) < 2:
        return UNKNOWN, UNKNOWN, UNKNOWN
    k = scores.num_classes
    cells, counts = np.unique(scores.targets * k + scores.predicted, return_counts=True)
    true, given = cells // k, cells % k
    rng = np.random.default_rng(seed)
    values = np.empty((draws, 3))
    for draw in range(draws):
        # Resampling images is resampling the cells of the confusion matrix that they fall into.
        resample = rng.multinomial(len(scores), counts / counts.sum())
        support = np.bincount(true, resample, k)
        predicted = np.bincount(given, resample, k)
        hits = np.bincount(true, resample * (true == given), k)
        present = support > 0
        figures = _precision_recall_f1(hits[present], support[present], predicted[present])
        values[draw] = [figure.mean() for figure in figures]
    precision, recall, f1 = (percentile_interval(column) for column in values.T)
    return precision, recall, f1


def _mean(values: Array) -> float:
    """Return the mean of the values that are defined, NaN if none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
