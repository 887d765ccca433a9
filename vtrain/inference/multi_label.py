"""How good a model of several labels an image is: ranking, thresholds, and what they name.

Of N images and K classes; computed in float64, on the CPU. A figure of a class that no image has is
not defined, NaN, and left out of means over classes; scikit-learn makes it 0, with a warning.
"""

import torch
from torch import Tensor

from vtrain.data.labels import PRESENT

UNFITTED = 0.5
"""The threshold of a class that has nothing to fit one to."""


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """Return each class's average precision: the mean precision at its images, best first.

    It needs no curve: only how many images of either kind are at least as sure as each one that has
    the class. Equal scores are taken together, as in scikit-learn.

    Shape: (N, K), (N, K) bool -> (K,) float64.
    """
    return torch.stack(
        [_average_precision(*column) for column in zip(scores.T, truth.T, strict=True)]
    )


def _average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    ranked, own = scores.contiguous().sort().values, scores[truth].sort().values
    # At least as sure as each: all but those below it.
    among_all = len(ranked) - torch.searchsorted(ranked, own)
    among_own = len(own) - torch.searchsorted(own, own)
    return (among_own / among_all.double()).mean()


def micro_average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """Return the average precision of all pairs of image and class in one ranking. Shape: ()."""
    return _average_precision(scores.flatten(), truth.flatten())


def fitted_thresholds(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return for each class the probability from which on naming it gives the best F1.

    It lies half way between two images, and of equally good ones it is the highest. They are fitted
    to these very images: F1 at them flatters a little, the more the fewer images have the class.

    Shape: (N, K) float64, (N, K) bool -> (K,) float64.
    """
    order = probabilities.argsort(dim=0, descending=True, stable=True)
    ranked, own = probabilities.gather(0, order), truth.gather(0, order)  # (N, K) each
    named = torch.arange(1, len(ranked) + 1)[:, None]  # the first n of the ranking
    f1 = 2 * own.cumsum(0) / (named + own.sum(0)).double()
    # Of equal probabilities none can be named without the others.
    f1[:-1].masked_fill_(ranked[:-1] == ranked[1:], -1)
    best = f1.argmax(0, keepdim=True)  # the first of equals: the fewest are named
    following = torch.cat([ranked[1:], torch.zeros_like(ranked[:1])]).gather(0, best)[0]
    last = ranked.gather(0, best)[0]
    middle = (last + following) / 2
    # Between neighbours among the floats there is no middle.
    middle = torch.where(middle > following, middle, last)
    return torch.where(truth.any(0), middle, UNFITTED)


def f1_scores(named: Tensor, truth: Tensor) -> Tensor:
    """Return each class's F1. Shape: (N, K) bool each -> (K,) float64."""
    hits, sizes = (named & truth).sum(0), named.sum(0) + truth.sum(0)
    return torch.where(truth.any(0), 2 * hits / sizes.double(), torch.nan)


def micro_f1(named: Tensor, truth: Tensor) -> float:
    """Return the F1 of all pairs of image and class; 0 where there is nothing to name."""
    sizes = int(named.sum() + truth.sum())
    return 2 * int((named & truth).sum()) / sizes if sizes else 0.0


def defined_mean(values: Tensor) -> float:
    """Return the mean of the values that are defined; 0 if none is. Shape: (K,)."""
    return float(values.nanmean().nan_to_num())


def metrics(
    logits: Tensor, targets: Tensor, probabilities: Tensor, thresholds: Tensor
) -> dict[str, float]:
    """Return the figures of an evaluation, but for the loss.

    Shape: `logits`, `targets`, `probabilities` (N, K), `thresholds` (K,) float64.
    """
    truth, named = targets >= PRESENT, probabilities >= thresholds
    return {
        "val/map": defined_mean(average_precision(logits, truth)),
        "val/map_micro": float(micro_average_precision(logits, truth).nan_to_num()),
        "val/f1": defined_mean(f1_scores(named, truth)),
        "val/f1_micro": micro_f1(named, truth),
        "val/exact_match": float((named == truth).all(1).double().mean()),
    }
