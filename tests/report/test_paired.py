import numpy as np
import pytest
from scipy.stats import binom

from tests.report.cases import CASES, random_scores
from vtrain.report.intervals import mean_interval
from vtrain.report.paired import compare, mcnemar
from vtrain.report.scores import Scores


def scores_of(correct: np.ndarray) -> Scores:
    """Scores of two classes whose truth is 0, right where `correct` says so."""
    logits = np.zeros((len(correct), 2), np.float32)
    logits[np.arange(len(correct)), np.where(correct, 0, 1)] = 1
    return Scores(logits, np.zeros(len(correct), np.int64))


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 1), (5, 5), (3, 12), (40, 22), (0, 20)])
def test_mcnemar_is_the_binomial_tail_twice(b: int, c: int) -> None:
    tail = 2 * binom.cdf(min(b, c), b + c, 0.5)
    assert mcnemar(b, c) == pytest.approx(min(1, tail))
    assert mcnemar(b, c) == mcnemar(c, b)


def test_a_comparison_counts_what_a_loop_counts() -> None:
    a, b = random_scores(300, seed=1), random_scores(300, seed=1)
    b = Scores(b.logits + np.random.default_rng(5).normal(size=b.logits.shape) * 2, b.targets)
    paired = compare(a, b)
    only_a = sum(x and not y for x, y in zip(a.correct, b.correct, strict=True))
    only_b = sum(y and not x for x, y in zip(a.correct, b.correct, strict=True))
    assert (paired.only_a, paired.only_b) == (only_a, only_b)
    assert paired.difference == pytest.approx((only_b - only_a) / 300)
    assert paired.nll_difference == pytest.approx(b.loss.mean() - a.loss.mean())


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_a_run_does_not_differ_from_itself(scores: Scores) -> None:
    paired = compare(scores, scores)
    assert paired.difference == 0
    assert paired.p_value == 1
    low, high = paired.difference_interval
    assert low == high == 0 or (len(scores) == 1 and np.isnan([low, high]).all())
    assert not paired.is_different


def test_the_interval_is_that_of_resampling_pairs() -> None:
    differences = np.random.default_rng(0).choice([-1.0, 0, 1], size=400, p=[0.1, 0.75, 0.15])
    rng = np.random.default_rng(3)
    means = [differences[rng.integers(400, size=400)].mean() for _ in range(4000)]
    expected = np.quantile(means, [0.025, 0.975])
    assert mean_interval(differences, draws=4000) == pytest.approx(expected, abs=0.004)
    continuous = differences + rng.random(400) * 1e-9 + np.arange(400) * 1e-12
    assert mean_interval(np.repeat(continuous, 3), 50).low < differences.mean()


def test_equal_runs_are_called_equal_in_94_of_100_simulations() -> None:
    rng = np.random.default_rng(0)
    equal = 0
    for _ in range(200):
        skill = rng.random(10_000)  # images are easier or harder for both
        a, b = (scores_of(rng.random(10_000) < 0.5 + skill / 2) for _ in range(2))
        equal += not compare(a, b, draws=10).is_different
    assert equal >= 188


def test_one_point_on_10000_images_is_judged_as_mcnemar_judges_it() -> None:
    rng = np.random.default_rng(0)
    for agreement in (0.99, 0.8):  # the more two runs agree, the smaller a difference shows
        both = rng.random(10_000) < agreement
        a = np.where(both, True, rng.random(10_000) < 0.5)
        b = a.copy()
        b[np.flatnonzero(~a)[: min(100, int((~a).sum()))]] = True
        paired = compare(scores_of(a), scores_of(b))
        p = 2 * binom.cdf(0, paired.only_b, 0.5)
        assert paired.p_value == pytest.approx(min(1, p))
        assert paired.is_different == (p < 0.05)
