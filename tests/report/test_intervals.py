import numpy as np
import pytest
from scipy.stats import binomtest

from tests.report.cases import calibrated_scores
from vtrain.report.intervals import bootstrap, wilson
from vtrain.report.metrics import macro_f1_interval
from vtrain.report.paired import paired_interval


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 10), (10, 10), (9500, 10000)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_wilson_is_that_of_scipy(hits: int, count: int, level: float) -> None:
    theirs = binomtest(hits, count).proportion_ci(level, method="wilson")
    assert wilson(hits, count, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_of_no_trial_nothing_is_known() -> None:
    assert wilson(0, 0) == (0, 1)


def test_the_bootstrap_of_a_mean_is_that_of_a_loop() -> None:
    values = np.random.default_rng(1).exponential(size=50)
    ours = bootstrap(lambda weights: weights @ values / 50, 50, draws=4000)
    rng = np.random.default_rng(2)
    means = [values[rng.integers(50, size=50)].mean() for _ in range(4000)]
    assert ours == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)


def test_blocks_do_not_change_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).exponential(size=50)

    def interval() -> tuple[float, float]:
        return bootstrap(lambda weights: weights @ values / 50, 50, draws=100)

    whole = interval()
    monkeypatch.setattr("vtrain.report.intervals.BLOCK", 130)
    assert interval() == pytest.approx(whole)


def covers(truth: float, intervals: list[tuple[float, float]]) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.slow
def test_intervals_of_95_percent_hold_the_truth_in_90_to_98_of_100_sets() -> None:
    truth = calibrated_scores(200_000, 4, spread=1.0, seed=999)
    accuracy, loss = truth.correct.mean(), truth.loss.mean()
    labels = range(4)
    pairs = [(truth.targets == k, truth.predicted == k) for k in labels]
    f1 = np.mean([2 * (t & p).sum() / (t.sum() + p.sum()) for t, p in pairs])
    sets = [calibrated_scores(400, 4, spread=1.0, seed=seed) for seed in range(200)]
    of_accuracy = [wilson(int(s.correct.sum()), len(s)) for s in sets]
    of_loss = [paired_interval(s.loss, draws=500) for s in sets]
    of_f1 = [macro_f1_interval(s, draws=500) for s in sets]
    assert 0.90 <= covers(accuracy, of_accuracy) <= 0.98
    assert 0.90 <= covers(loss, of_loss) <= 0.98
    assert 0.90 <= covers(f1, of_f1) <= 0.98
