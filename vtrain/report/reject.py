"""When the model had better say "unsure": risk against coverage, thresholds, conformal sets.

Reference: Geifman and El-Yaniv, arXiv:1705.08500 (risk-coverage); Angelopoulos and Bates,
arXiv:2107.07511, section 1 (conformal sets).
"""

from dataclasses import dataclass

import numpy as np

from vtrain.report.intervals import DRAWS, UNKNOWN, Interval, percentile_interval, wilson
from vtrain.report.scores import Array, Scores, halves

WANTED = (0.9, 0.95, 0.99, 0.999)
ALPHAS = (0.1, 0.05, 0.01)


@dataclass(frozen=True)
class Threshold:
    """The smallest confidence with which the images that are kept are accurate enough."""

    wanted: float
    threshold: float | None
    """None: no threshold reaches the wanted accuracy. The rest is then NaN."""
    coverage: float
    coverage_interval: Interval
    accuracy: float
    accuracy_interval: Interval


@dataclass(frozen=True)
class ConformalSets:
    """Sets of classes that hold the true one with probability of at least 1 - alpha.

    A class is in an image's set if its probability is at least `threshold`. The threshold was
    chosen on one half of the images, coverage and size are of the other.
    """

    alpha: float
    threshold: float
    coverage: float
    coverage_interval: Interval
    mean_size: float
    single: float
    """Share of the images whose set is one class."""
    empty: float


@dataclass(frozen=True)
class Reject:
    """What is gained by leaving out the images that the model is least sure of."""

    aurc: float
    """Area under the risk-coverage curve: the mean of the risks over all coverages."""
    aurc_interval: Interval
    excess_aurc: float
    """More than if every mistake were less sure than every right answer."""
    coverage: list[float]
    risk: list[float]
    thresholds: list[Threshold]
    conformal: list[ConformalSets]
    """Empty where there are not two images."""


def reject_curve(scores: Scores, points: int = 200, seed: int = 0) -> Reject:
    """Return the risk-coverage curve, thinned to so many points, and what follows from it."""
    risk = risks(scores.confidence, scores.correct)
    count = len(risk)
    chosen = np.unique(np.linspace(0, count - 1, min(points, count)).round().astype(np.int64))
    # The best order there is: every right answer is surer than every mistake.
    ideal = risks(scores.correct.astype(np.float64), scores.correct)
    return Reject(
        aurc=float(risk.mean()),
        aurc_interval=aurc_interval(scores.confidence, scores.correct),
        excess_aurc=float(risk.mean() - ideal.mean()),
        coverage=((chosen + 1) / count).tolist(),
        risk=risk[chosen].tolist(),
        thresholds=[threshold_for(scores, wanted) for wanted in WANTED],
        conformal=conformal_sets(scores, seed) if count > 1 else [],
    )


def risks(confidence: Array, correct: Array) -> Array:
    """Return the share of mistakes among the n most confident images, n = 1 .. N.

    Images of equal confidence have no order, so each counts as their mean. Shape: (N,) -> (N,).
    """
    _, group = np.unique(-confidence, return_inverse=True)
    return _risks(group, ~correct, int(group.max()) + 1)


def _risks(group: Array, wrong: Array, groups: int) -> Array:
    """Return the risks of images that are in groups of equal confidence, the surest first."""
    sizes = np.bincount(group, minlength=groups)
    # A resample may leave a group without images.
    mistakes = np.bincount(group, wrong, groups) / np.maximum(sizes, 1)
    return np.asarray(np.cumsum(np.repeat(mistakes, sizes)) / np.arange(1, len(group) + 1))


def aurc_interval(confidence: Array, correct: Array, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Return the bootstrap interval of the area under the curve, over images. Shape: (N,) each."""
    if len(confidence) < 2:
        return UNKNOWN
    _, group = np.unique(-confidence, return_inverse=True)
    # Images are ranked once: a resample changes only how often each one counts.
    rng, n, groups = np.random.default_rng(seed), len(group), int(group.max()) + 1
    areas = np.empty(draws)
    for draw in range(draws):
        drawn = rng.integers(n, size=n)
        areas[draw] = _risks(group[drawn], ~correct[drawn], groups).mean()
    return percentile_interval(areas)


def threshold_for(scores: Scores, wanted: float) -> Threshold:
    """Return the threshold that keeps most images at a wanted accuracy."""
    confidence = np.sort(scores.confidence)[::-1]
    hits = np.cumsum(scores.correct[np.argsort(-scores.confidence, kind="stable")])
    kept = np.arange(1, len(confidence) + 1)
    # A threshold between equals does not exist: only the last image of a tie can be the limit.
    possible = np.append(confidence[:-1] != confidence[1:], True)
    reached = np.flatnonzero(possible & (hits >= wanted * kept))
    nan = float("nan")
    if not len(reached):
        return Threshold(wanted, None, nan, Interval(nan, nan), nan, Interval(nan, nan))
    # Accuracy may fall below and rise again: the last place where it suffices keeps the most.
    last = int(reached[-1])
    n, right = last + 1, int(hits[last])
    return Threshold(
        wanted,
        float(confidence[last]),
        n / len(confidence),
        wilson(n, len(confidence)),
        right / n,
        wilson(right, n),
    )


def conformal_threshold(true_probability: Array, alpha: float) -> float:
    """Return the probability from which on a class belongs to an image's set. Shape: (n,).

    It is the ceil((n + 1)(1 - alpha))-th largest probability of a true class, and 0, so that every
    class belongs to the set, where n is too small to promise that much.
    """
    n = len(true_probability)
    # Rounded first: 10 * (1 - 0.1) is 9.000000000000002 where it is not 9.
    rank = max(1, int(np.ceil(round((n + 1) * (1 - alpha), 9))))
    return 0.0 if rank > n else float(np.sort(true_probability)[n - rank])


def conformal_sets(scores: Scores, seed: int = 0) -> list[ConformalSets]:
    """Choose thresholds on one half of the images and judge the sets on the other."""
    chosen_on, judged_on = halves(len(scores), seed)
    true = scores.probs[np.arange(len(scores)), scores.targets]
    result = []
    for alpha in ALPHAS:
        threshold = conformal_threshold(true[chosen_on], alpha)
        sizes = (scores.probs[judged_on] >= threshold).sum(1)
        covered = int((true[judged_on] >= threshold).sum())
        result.append(
            ConformalSets(
                alpha,
                threshold,
                covered / len(judged_on),
                wilson(covered, len(judged_on)),
                float(sizes.mean()),
                float(np.mean(sizes == 1)),
                float(np.mean(sizes == 0)),
            )
        )
    return result
