"""One number that logits are divided by so that confidences agree with accuracies.

Reference: Guo et al., arXiv:1706.04599. The likeliest class, and so every accuracy, stays.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from vtrain.report.calibration import ece, equal_width_bins
from vtrain.report.intervals import Interval, mean_interval
from vtrain.report.scores import Array, Scores, halves, log_softmax, row_slices

LIMITS = (0.05, 20.0)
"""Of the temperature: where every answer is right, the best one would be 0."""


@dataclass(frozen=True)
class Temperature:
    """The temperature for use, and what one is worth on images that it was not fitted on."""

    temperature: float
    """Fitted on all images."""
    at_limit: bool
    """Then there is no best one: every answer is right, or as bad as guessing."""
    images: int
    """How many the judgement is of: the half that nothing was fitted on."""
    half_temperature: float
    """Fitted on the other half."""
    nll_before: float
    nll_after: float
    nll_change_interval: Interval
    """Of the change of the NLL on the judged images, each beside itself."""
    ece_before: float
    ece_after: float


def judge_temperature(scores: Scores, seed: int = 0) -> Temperature | None:
    """Fit on one half and judge on the other; None where there are no two halves."""
    if len(scores) < 2:
        return None
    fitted, judged = (scores.take(half) for half in halves(len(scores), seed))
    half = fit_temperature(fitted.logits, fitted.targets)
    scaled = Scores(scale(judged.logits, half), judged.targets)
    temperature = fit_temperature(scores.logits, scores.targets)
    return Temperature(
        temperature=temperature,
        # A bounded search stops just short of its bounds: within 1 % counts as there.
        at_limit=bool(scores.correct.all())
        or not 1.01 * LIMITS[0] < temperature < LIMITS[1] / 1.01,
        images=len(judged),
        half_temperature=half,
        nll_before=float(judged.loss.mean()),
        nll_after=float(scaled.loss.mean()),
        nll_change_interval=mean_interval(scaled.loss - judged.loss),
        ece_before=_ece(judged),
        ece_after=_ece(scaled),
    )


def fit_temperature(logits: Array, targets: Array) -> float:
    """Return the temperature with the least cross entropy. Shape: (N, K), (N,).

    The cross entropy is convex in the inverse temperature, so it has one minimum.
    """
    # In logarithms, in which 1/2 and 2 are equally far from 1.
    low, high = np.log(LIMITS)
    best = minimize_scalar(
        lambda x: mean_loss(logits, targets, np.exp(x)),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-3},  # 0.1 % of the temperature
    )
    # Where every answer is certain and right, any temperature will do: then it stays 1.
    return float(np.exp(best.x)) if best.fun < mean_loss(logits, targets) else 1.0


def mean_loss(logits: Array, targets: Array, temperature: float = 1.0) -> float:
    """Return the mean cross entropy of logits that are divided by a temperature."""
    total = 0.0
    for rows in row_slices(*logits.shape):
        log_probs = log_softmax(logits[rows] / temperature)
        total -= float(np.take_along_axis(log_probs, targets[rows, None], 1).sum())
    return total / len(targets)


def scale(logits: Array, temperature: float) -> Array:
    """Divide logits by a temperature, in float32. Shape: (N, K)."""
    return np.asarray(logits / np.float32(temperature), np.float32)


def _ece(scores: Scores) -> float:
    return ece(scores.confidence, scores.correct, equal_width_bins(scores.confidence))
