"""Whether a confidence of 0.8 means right in 80 of 100: expected calibration error and its parts.

Reference: Guo et al., arXiv:1706.04599 (ECE, 15 bins); Nixon et al., arXiv:1904.01685 (equal mass,
classwise).
"""

from dataclasses import dataclass

import numpy as np

from vtrain.report.intervals import DRAWS, Interval, bootstrap, wilson_arrays
from vtrain.report.scores import Array, Scores

BINS = 15
CHANCE_DRAWS = 200


@dataclass(frozen=True)
class Bin:
    """The images of one range of confidences."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean; NaN in an empty bin, like the accuracy."""
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class Calibration:
    """Calibration errors, each a mean distance of accuracy from confidence.

    `by_chance` is what a perfectly calibrated model would show on as many images: never 0.
    """

    ece: float
    ece_interval: Interval
    ece_by_chance: float
    equal_mass_ece: float
    equal_mass_ece_interval: Interval
    equal_mass_ece_by_chance: float
    max_error: float
    classwise_ece: float
    mean_confidence: float
    bins: list[Bin]


def calibrate(scores: Scores) -> Calibration:
    """Return how well confidences agree with accuracies."""
    confidence, correct = scores.confidence, scores.correct
    width, mass = equal_width_bins(confidence), equal_mass_bins(confidence)
    bins = reliability_bins(confidence, correct)
    gaps = [abs(b.accuracy - b.confidence) for b in bins if b.count]
    return Calibration(
        ece=ece(confidence, correct, width),
        ece_interval=ece_interval(confidence, correct, width),
        ece_by_chance=ece_by_chance(confidence, width),
        equal_mass_ece=ece(confidence, correct, mass),
        equal_mass_ece_interval=ece_interval(confidence, correct, mass),
        equal_mass_ece_by_chance=ece_by_chance(confidence, mass),
        max_error=max(gaps),
        classwise_ece=classwise_ece(scores),
        mean_confidence=float(confidence.mean()),
        bins=bins,
    )


def equal_width_bins(confidence: Array, bins: int = BINS) -> Array:
    """Return the bin of each confidence; 1.0 falls into the last one. Shape: (N,) -> (N,) int64."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def equal_mass_bins(confidence: Array, bins: int = BINS) -> Array:
    """Return bins that hold equally many images, up to one. Shape: (N,) -> (N,) int64."""
    result = np.empty(len(confidence), np.int64)
    order = np.argsort(confidence, kind="stable")
    for number, members in enumerate(np.array_split(order, bins)):
        result[members] = number
    return result


def ece(confidence: Array, correct: Array, bins: Array) -> float:
    """Return the sum over bins of n_b / N |accuracy_b - confidence_b|. Shape: (N,) each."""
    # n_b times the gap of two means is the gap of two sums, so n_b need not be known.
    return float(np.abs(np.bincount(bins, correct - confidence)).sum() / len(bins))


def ece_interval(
    confidence: Array, correct: Array, bins: Array, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Return the bootstrap interval of the ECE, with its bins kept."""
    gaps = np.zeros((len(bins), BINS), np.float32)
    gaps[np.arange(len(bins)), bins] = correct - confidence
    # (d, N) weights times (N, bins) gaps: each draw's sum of accuracy - confidence in each bin
    return bootstrap(lambda w: np.abs(w @ gaps).sum(1) / len(bins), len(bins), draws, seed)


def ece_by_chance(
    confidence: Array, bins: Array, draws: int = CHANCE_DRAWS, seed: int = 0
) -> float:
    """Return the mean ECE if each image were right with exactly its confidence."""
    rng = np.random.default_rng(seed)
    simulated = (rng.random(len(bins)) < confidence for _ in range(draws))
    return float(np.mean([ece(confidence, correct, bins) for correct in simulated]))


def classwise_ece(scores: Scores, bins: int = BINS) -> float:
    """Return the mean over classes of the ECE of "it is this class" with its probability."""
    errors = []
    for label in range(scores.num_classes):
        probability = scores.probs[:, label].astype(np.float64)
        is_class = scores.targets == label
        errors.append(ece(probability, is_class, equal_width_bins(probability, bins)))
    return float(np.mean(errors))


def reliability_bins(confidence: Array, correct: Array, bins: int = BINS) -> list[Bin]:
    """Return what a reliability diagram draws: `bins` ranges of equal width."""
    members = equal_width_bins(confidence, bins)
    counts = np.bincount(members, minlength=bins)
    hits = np.bincount(members, correct, bins)
    # NaN, so that an empty bin has no mean, and not a mean of 0.
    filled = np.where(counts, counts, np.nan)
    means = np.bincount(members, confidence, bins) / filled
    lows, highs = wilson_arrays(hits, counts)
    return [
        Bin(
            b / bins,
            (b + 1) / bins,
            int(counts[b]),
            float(means[b]),
            float(hits[b] / filled[b]),
            Interval(float(lows[b]), float(highs[b])),
        )
        for b in range(bins)
    ]
