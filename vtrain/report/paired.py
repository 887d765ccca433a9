"""Which of two models is better on the same images, and whether that may be chance."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from vtrain.report.intervals import DRAWS, Interval, mean_interval
from vtrain.report.label_scores import LabelScores
from vtrain.report.scores import Scores

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Paired:
    """Two sets of predictions of the same images: `b` against the base `a`."""

    images: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    """Accuracy of b minus that of a."""
    difference_interval: Interval
    only_a: int
    """Images that a gets right and b wrong."""
    only_b: int
    p_value: float
    """McNemar's exact test."""
    nll_difference: float
    nll_difference_interval: Interval

    @property
    def is_different(self) -> bool:
        """Whether McNemar's test tells the two apart at 5 %."""
        return self.p_value < SIGNIFICANCE


def compare(
    a: Scores | LabelScores, b: Scores | LabelScores, draws: int = DRAWS, seed: int = 0
) -> Paired:
    """Compare two models' scores; image n of one is image n of the other.

    Of several labels an image accuracy is the share of images of which all are right.
    """
    assert np.array_equal(a.targets, b.targets), "the same images in the same order"
    only_a, only_b = int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())
    # -1, 0 or 1 for each image: what both get right or wrong adds nothing to the spread.
    gains = b.correct.astype(np.float64) - a.correct
    losses = b.loss - a.loss
    return Paired(
        images=len(a),
        accuracy_a=float(a.correct.mean()),
        accuracy_b=float(b.correct.mean()),
        difference=float(gains.mean()),
        difference_interval=mean_interval(gains, draws, seed),
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar(only_a, only_b),
        nll_difference=float(losses.mean()),
        nll_difference_interval=mean_interval(losses, draws, seed),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p-value: a fair coin decides each image that one gets wrong."""
    discordant = only_a + only_b
    return float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
