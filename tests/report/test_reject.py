import numpy as np
import pytest

from tests.report.cases import CASES, random_scores
from vtrain.report.reject import (
    conformal_sets,
    conformal_threshold,
    reject_curve,
    risks,
    threshold_for,
)
from vtrain.report.scores import Scores


def test_risks_are_those_of_a_loop() -> None:
    scores = random_scores(200)
    order = sorted(range(200), key=lambda i: -scores.confidence[i])
    ours = risks(scores.confidence, scores.correct)
    for kept in range(1, 201):
        wrong = sum(not scores.correct[i] for i in order[:kept])
        assert ours[kept - 1] == pytest.approx(wrong / kept)


def test_equally_sure_images_count_as_the_mean_over_all_their_orders() -> None:
    rng = np.random.default_rng(0)
    confidence = np.repeat([0.9, 0.6, 0.3], 4)
    correct = np.array([1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1], bool)
    total = np.zeros(12)
    for _ in range(20_000):
        shuffled = np.concatenate([rng.permutation(part) for part in correct.reshape(3, 4)])
        total += np.cumsum(~shuffled) / np.arange(1, 13)
    assert risks(confidence, correct) == pytest.approx(total / 20_000, abs=0.01)


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_excess_is_what_the_ideal_order_would_save(scores: Scores) -> None:
    curve = reject_curve(scores)
    n, wrong = len(scores), int((~scores.correct).sum())
    ideal = np.mean([max(0, kept - (n - wrong)) / kept for kept in range(1, n + 1)])
    assert curve.excess_aurc == pytest.approx(curve.aurc - ideal)
    assert curve.excess_aurc >= -1e-12
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == pytest.approx(wrong / n)


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.99])
def test_a_threshold_is_the_best_of_all_confidences(scores: Scores, wanted: float) -> None:
    found = threshold_for(scores, wanted)
    best = None
    for threshold in np.unique(scores.confidence):
        kept = scores.confidence >= threshold
        if scores.correct[kept].mean() >= wanted and (best is None or kept.mean() > best[1]):
            best = (threshold, kept.mean(), scores.correct[kept].mean())
    if best is None:
        assert found.threshold is None
    else:
        assert (found.threshold, found.coverage, found.accuracy) == pytest.approx(best)
        assert found.coverage_interval.low <= found.coverage <= found.coverage_interval.high


def test_conformal_threshold_is_the_quantile_of_the_paper() -> None:
    probability = np.random.default_rng(0).random(99)
    score = np.sort(1 - probability)  # Angelopoulos and Bates: the ceil((n+1)(1-a))-th smallest
    assert conformal_threshold(probability, 0.1) == pytest.approx(1 - score[90 - 1])
    assert conformal_threshold(probability[:8], 0.1) == 0  # 9 are needed to promise 90 %
    assert conformal_threshold(probability[:9], 0.1) == probability[:9].min()


def test_conformal_sets_cover_what_they_promise() -> None:
    covered = {0.1: [], 0.05: []}
    for seed in range(40):
        for sets in conformal_sets(random_scores(400, 5, seed=seed)):
            if sets.alpha in covered:
                covered[sets.alpha].append(sets.coverage)
    for alpha, values in covered.items():
        # On average at least 1 - alpha, and at most 1 / (n + 1) more, n = 200.
        error = 4 * np.std(values) / np.sqrt(40)
        assert 1 - alpha - error <= np.mean(values) <= 1 - alpha + 1 / 201 + error


def test_sets_are_counted_as_a_loop_counts_them() -> None:
    scores = random_scores(400, 5)
    for sets in conformal_sets(scores):
        assert 0 <= sets.empty + sets.single <= 1
        assert 0 <= sets.mean_size <= 5


def test_one_image_has_no_two_halves() -> None:
    assert reject_curve(CASES["one image"]).conformal == []
