import itertools

import numpy as np
import pytest

from tests.report.cases import CASES, calibrated_scores, random_scores
from vtrain.report.calibration import (
    BINS,
    calibrate,
    classwise_ece,
    ece,
    ece_interval,
    eces_by_chance,
    equal_mass_bins,
    equal_width_bins,
)
from vtrain.report.scores import Scores
from vtrain.report.temperature import LIMITS, fit_temperature, judge_temperature, mean_loss, scale


def ece_by_loop(confidence: np.ndarray, correct: np.ndarray, edges: np.ndarray) -> float:
    """Textbook: bins (low, high], the first one closed below."""
    total = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if low == edges[0]:
            inside |= confidence == low
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            total += inside.mean() * gap
    return total


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_every_error_is_that_of_a_loop(scores: Scores) -> None:
    ours = calibrate(scores)
    edges = np.linspace(0, 1, BINS + 1)
    expected = ece_by_loop(scores.confidence, scores.correct, edges)
    assert ours.ece == pytest.approx(expected, abs=1e-9)
    classwise = [
        ece_by_loop(scores.probs[:, k].astype(float), scores.targets == k, edges)
        for k in range(scores.num_classes)
    ]
    assert ours.classwise_ece == pytest.approx(np.mean(classwise), abs=1e-7)
    order = np.argsort(scores.confidence, kind="stable")
    mass = sum(
        len(part) / len(scores) * abs(np.mean(scores.correct[part] - scores.confidence[part]))
        for part in np.array_split(order, BINS)
        if len(part)
    )
    assert ours.equal_mass_ece == pytest.approx(mass, abs=1e-9)
    assert sum(b.count for b in ours.bins) == len(scores)
    assert ours.max_error >= ours.ece - 1e-12


def test_confidence_1_belongs_to_the_last_bin() -> None:
    assert equal_width_bins(np.array([0.0, 0.99, 1.0])).tolist() == [0, BINS - 1, BINS - 1]
    confidence, correct = np.array([1.0, 0.97]), np.array([True, False])
    # In one bin the two errors cancel in part: |1/2 - 0.985|. In two they would be 0.485 + 0.
    assert ece(confidence, correct, equal_width_bins(confidence)) == pytest.approx(0.485)


def test_bins_of_equal_mass_hold_equally_many() -> None:
    counts = np.bincount(equal_mass_bins(np.random.default_rng(0).random(1000)))
    assert len(counts) == BINS
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("count", [500, 2000])
@pytest.mark.parametrize("bins_of", [equal_width_bins, equal_mass_bins])
def test_the_value_by_chance_is_what_a_calibrated_model_shows(count: int, bins_of: object) -> None:
    simulated, claimed = [], []
    for seed in range(60):
        scores = calibrated_scores(count, 5, seed=seed)
        bins = bins_of(scores.confidence)
        simulated.append(ece(scores.confidence, scores.correct, bins))
        claimed.append(eces_by_chance(scores.confidence, bins, draws=20).mean())
    error = np.std(simulated) / np.sqrt(60)
    assert np.mean(claimed) == pytest.approx(np.mean(simulated), abs=4 * error)


@pytest.mark.parametrize(("count", "classes"), [(500, 5), (300, 40)])
def test_other_errors_by_chance_are_what_a_calibrated_model_shows(count: int, classes: int) -> None:
    largest, classwise = [], []
    for seed in range(60):
        found = calibrate(calibrated_scores(count, classes, seed=seed))
        largest.append((found.max_error, found.max_error_by_chance))
        classwise.append((found.classwise_ece, found.classwise_ece_by_chance))
    for pairs in (largest, classwise):
        simulated, claimed = np.array(pairs).T
        error = np.std(simulated) / np.sqrt(60)
        assert np.mean(claimed) == pytest.approx(np.mean(simulated), abs=4 * error)


@pytest.mark.slow
@pytest.mark.parametrize("count", [400, 2000])
@pytest.mark.parametrize("factor", [1, 1.1, 1.2, 1.3, 2])
@pytest.mark.parametrize("bins_of", [equal_width_bins, equal_mass_bins])
def test_intervals_of_an_error_hold_the_truth_in_90_of_100_sets(
    count: int, factor: float, bins_of: object
) -> None:
    """Of logits that are too large by a factor; of a calibrated model the truth is 0."""

    def drawn(images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        calibrated = calibrated_scores(images, 4, spread=1.0, seed=seed)
        scores = Scores((calibrated.logits * factor).astype(np.float32), calibrated.targets)
        return scores.confidence, scores.correct, bins_of(scores.confidence)

    truth = 0.0 if factor == 1 else ece(*drawn(1_000_000, 999))
    intervals = [ece_interval(*drawn(count, seed), draws=200) for seed in range(200)]
    assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.90


def test_an_overconfident_model_shows_more_than_chance() -> None:
    calibrated = calibrated_scores(2000, 5)
    sure = calibrate(Scores(calibrated.logits * 3, calibrated.targets))
    assert sure.ece > 3 * sure.ece_by_chance
    assert sure.ece_interval.low > sure.ece_by_chance
    plain = calibrate(calibrated)
    assert plain.ece < 2 * plain.ece_by_chance


def test_temperature_is_the_minimum_of_a_fine_grid() -> None:
    scores = random_scores(400, 6, spread=4)
    found = fit_temperature(scores.logits, scores.targets)
    grid = np.exp(np.linspace(*np.log(LIMITS), 2001))
    losses = [mean_loss(scores.logits, scores.targets, t) for t in grid]
    assert found == pytest.approx(grid[np.argmin(losses)], rel=5e-3)


def test_temperature_undoes_a_scale_and_keeps_the_order() -> None:
    calibrated = calibrated_scores(4000, 5)
    hot = Scores(calibrated.logits * 2.5, calibrated.targets)
    judged = judge_temperature(hot)
    assert judged is not None
    assert judged.temperature == pytest.approx(2.5, rel=0.05)
    assert judged.nll_after < judged.nll_before
    assert judged.ece_after < judged.ece_before
    assert not judged.at_limit
    scaled = Scores(scale(hot.logits, judged.temperature), hot.targets)
    np.testing.assert_array_equal(scaled.predicted, hot.predicted)


def test_the_judged_half_is_not_the_fitted_one() -> None:
    scores = random_scores(40, 5)
    first = judge_temperature(scores)
    assert first is not None
    assert first.images == 20
    assert first.half_temperature != first.temperature


def test_what_has_no_best_temperature_says_so() -> None:
    right = judge_temperature(random_scores(50, 5, skill=9, spread=0.5))
    assert right is not None
    assert right.at_limit
    certain = judge_temperature(CASES["all right"])
    assert certain is not None
    assert certain.temperature == 1
    assert judge_temperature(CASES["one image"]) is None


def test_classwise_error_of_certainty_is_the_error_rate() -> None:
    logits = np.full((4, 2), -200.0, np.float32)
    logits[:, 0] = 200
    scores = Scores(logits, np.array([0, 0, 0, 1]))
    assert classwise_ece(scores) == pytest.approx((0.25, 0))
