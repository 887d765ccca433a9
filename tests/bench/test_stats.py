from itertools import product

import numpy as np
import pytest

from vtrain.bench.stats import paired_ratio, summarise


def test_a_ratio_is_the_median_of_the_pairs_not_the_ratio_of_the_medians() -> None:
    ratio = paired_ratio(ours=[1, 10, 3], theirs=[1, 5, 1])
    assert (ratio.median, ratio.n) == (2.0, 3)  # of 1, 2 and 3; the medians would give 3


def test_equal_ratios_leave_no_doubt() -> None:
    ratio = paired_ratio([2, 4, 6], [1, 2, 3])
    assert (ratio.low, ratio.high) == (2.0, 2.0)


def test_the_interval_is_that_of_all_possible_resamples() -> None:
    ratios = np.array([0.9, 1.1, 1.2, 1.25, 1.5, 2.0])
    every = [np.median(draw) for draw in product(ratios, repeat=6)]
    found = paired_ratio(ratios, np.ones(6))
    assert found.low == pytest.approx(np.quantile(every, 0.025), rel=0.02)
    assert found.high == pytest.approx(np.quantile(every, 0.975), rel=0.02)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        theirs = draw.lognormal(0, 0.1, 25)
        ours = 1.3 * theirs * draw.lognormal(0, 0.05, 25)
        ratio = paired_ratio(ours, theirs)
        hits += ratio.low <= 1.3 <= ratio.high
    assert 88 <= hits <= 100


def test_the_same_windows_give_the_same_interval() -> None:
    windows = np.random.default_rng(1).random((2, 9)) + 1
    assert paired_ratio(*windows) == paired_ratio(*windows)


def test_windows_without_a_partner_are_refused() -> None:
    with pytest.raises(AssertionError):
        paired_ratio([1.0, 2.0], [1.0])


def test_a_summary_has_the_quartiles_of_the_textbook() -> None:
    summary = summarise([4, 1, 3, 2, 5])
    assert (summary.low, summary.median, summary.high, summary.n) == (2, 3, 4, 5)
    assert summary.spread == pytest.approx(2 / 3)
