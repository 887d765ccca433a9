"""Whether a confidence of 0.8 means right in 80 of 100: expected calibration error and its parts.

Reference: Guo et al., arXiv:1706.04599 (ECE, 15 bins); Nixon et al., arXiv:1904.01685 (equal mass,
classwise).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from vtrain.report.intervals import DRAWS, UNKNOWN, UPPER, Interval, resampled, wilson_arrays
from vtrain.report.scores import Array, Scores, row_slices

BINS = 15
CHANCE_DRAWS = 200
CLASSWISE_DRAWS = 20
"""Fewer: the mean over the classes varies less, and there are more numbers to draw."""


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
    max_error_by_chance: float
    classwise_ece: float
    classwise_ece_by_chance: float
    mean_confidence: float
    bins: list[Bin]


def calibrate(scores: Scores) -> Calibration:
    """Return how well confidences agree with accuracies."""
    confidence, correct = scores.confidence, scores.correct
    width, mass = equal_width_bins(confidence), equal_mass_bins(confidence)
    bins = reliability_bins(confidence, correct)
    classwise, classwise_by_chance = classwise_ece(scores)
    gaps = [abs(b.accuracy - b.confidence) for b in bins if b.count]
    return Calibration(
        ece=ece(confidence, correct, width),
        ece_interval=ece_interval(confidence, correct, width),
        ece_by_chance=ece_by_chance(confidence, width),
        equal_mass_ece=ece(confidence, correct, mass),
        equal_mass_ece_interval=ece_interval(confidence, correct, mass),
        equal_mass_ece_by_chance=ece_by_chance(confidence, mass),
        max_error=max(gaps),
        max_error_by_chance=max_error_by_chance(confidence, width),
        classwise_ece=classwise,
        classwise_ece_by_chance=classwise_by_chance,
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
    """Return the bootstrap interval of the ECE, with its bins kept.

    Chance adds to an ECE, to a small one most, and a resample adds it once more. So the lower end
    is the basic bootstrap's, which takes that off, and 0 where a calibrated model may show as much;
    the upper end, from which nothing may be taken, is that of a normal distribution.
    """
    n = len(bins)
    if n < 2:
        return UNKNOWN
    gaps = np.zeros((n, BINS), np.float32)
    gaps[np.arange(n), bins] = correct - confidence
    # (d, N) weights times (N, bins) gaps: each draw's sum of accuracy - confidence in each bin
    drawn = np.concatenate([np.abs(w @ gaps).sum(1) / n for w in resampled(n, draws, seed)])
    found = ece(confidence, correct, bins)
    low = max(0.0, 2 * found - float(np.quantile(drawn, UPPER)))
    if found <= np.quantile(eces_by_chance(confidence, bins), UPPER):
        low = 0.0
    return Interval(min(low, found), found + float(ndtri(UPPER) * drawn.std()))


def ece_by_chance(confidence: Array, bins: Array) -> float:
    """Return the mean ECE if each image were right with exactly its confidence."""
    return float(eces_by_chance(confidence, bins).mean())


def eces_by_chance(
    confidence: Array, bins: Array, draws: int = CHANCE_DRAWS, seed: int = 0
) -> Array:
    """Return ECEs of simulated images that are right with their confidence. Shape: (draws,)."""
    rng = np.random.default_rng(seed)
    simulated = (rng.random(len(bins)) < confidence for _ in range(draws))
    return np.array([ece(confidence, correct, bins) for correct in simulated])


def max_error_by_chance(
    confidence: Array, bins: Array, draws: int = CHANCE_DRAWS, seed: int = 0
) -> float:
    """Return the mean of the largest error of a bin, if confidences were right."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(np.bincount(bins), 1)
    largest = []
    for _ in range(draws):
        correct = rng.random(len(bins)) < confidence
        largest.append(np.max(np.abs(np.bincount(bins, correct - confidence)) / counts))
    return float(np.mean(largest))


def classwise_ece(
    scores: Scores, bins: int = BINS, draws: int = CLASSWISE_DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Return the mean over classes of the ECE of "it is this class", and its value by chance."""
    n, k = scores.logits.shape
    rng = np.random.default_rng(seed)
    expected, observed = np.zeros(k * bins), np.zeros(k * bins)
    simulated = np.zeros((draws, k * bins))
    for rows in row_slices(n, k):
        probs, targets = scores.probs[rows].astype(np.float64), scores.targets[rows]
        # A cell is a class's bin, into which all images fall, each of them for each class.
        cells = np.arange(k) * bins + equal_width_bins(probs, bins)
        expected += np.bincount(cells.ravel(), probs.ravel(), k * bins)
        own = np.arange(len(targets))
        observed += np.bincount(cells[own, targets], minlength=k * bins)
        for draw, labels in enumerate(_drawn_labels(probs, draws, rng)):
            simulated[draw] += np.bincount(cells[own, labels], minlength=k * bins)
    by_chance = np.abs(simulated - expected).sum(1).mean()
    return float(np.abs(observed - expected).sum() / (n * k)), float(by_chance / (n * k))


def _drawn_labels(probs: Array, draws: int, rng: np.random.Generator) -> Array:
    """Draw labels from probabilities, several times. Shape: (n, K) -> (draws, n)."""
    n, k = probs.shape
    upper = probs.cumsum(1)
    upper /= upper[:, -1:]
    # All rows behind each other, so that one search finds the place in each.
    offsets = np.arange(n)
    found = np.searchsorted((upper + offsets[:, None]).ravel(), rng.random((draws, n)) + offsets)
    return np.asarray(np.clip(found - offsets * k, 0, k - 1))


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
