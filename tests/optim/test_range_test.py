"""The learning-rate range test, on curves whose steepest point is known."""

import math

import numpy as np
import pytest

from vtrain.optim.range_test import has_diverged, moving_average, rates, suggested_rate


def test_rates_rise_by_one_factor_from_lowest_to_highest() -> None:
    assert rates(1e-4, 1.0, 5) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_smoothing_is_the_weighted_mean_of_all_losses_so_far() -> None:
    losses = [3.0, 1.0, 4.0, 1.0]
    for count, value in enumerate(moving_average(losses, keep=0.5), start=1):
        weights = [0.5 ** (count - 1 - i) for i in range(count)]
        mean = sum(w * x for w, x in zip(weights, losses, strict=False)) / sum(weights)
        assert value == pytest.approx(mean)


def test_the_suggestion_is_where_the_loss_falls_fastest() -> None:
    tried = rates(1e-5, 1e1, 301)
    # A fall by one logistic step centred at 1e-2, then a blow-up.
    losses = [2 - math.tanh(4 * math.log10(rate / 1e-2)) + rate**2 for rate in tried]
    # The moving average lags by about keep / (1 - keep) = 9 of the 50 steps of a decade.
    assert 1e-2 <= suggested_rate(tried, losses) <= 2e-2


def test_a_lucky_start_is_no_suggestion() -> None:
    # Noise alone falls fastest among the first steps; the loss itself falls around 1e-2.
    tried = rates(1e-5, 1.0, 200)
    draw = np.random.default_rng(0)
    curve = [1.8 / (1 + (rate / 1e-2) ** 2) + 0.2 for rate in tried]
    for _ in range(20):
        losses = [loss + 0.1 * draw.standard_normal() for loss in curve]
        losses[:3] = [2.6, 2.0, 1.7]
        assert 1e-3 < suggested_rate(tried, losses) < 1e-1


def test_a_loss_that_ends_as_not_a_number_still_gives_a_suggestion() -> None:
    tried = rates(1e-4, 1, 100)
    losses = [1 - i / 100 for i in range(60)] + [math.nan] * 40
    assert tried[0] < suggested_rate(tried, losses) < tried[60]


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([], False),
        ([1.0, 0.5, 0.4], False),
        ([1.0] * 20 + [100.0], True),
        ([1.0] * 20 + [5.0], False),  # smoothed, 1.4
        ([1.0, math.nan], True),
        ([1.0, math.inf], True),
    ],
)
def test_the_test_ends_when_the_loss_explodes(losses: list[float], diverged: bool) -> None:
    assert has_diverged(losses) is diverged


@pytest.mark.parametrize("losses", [[1.0, 2.0, 3.0, 4.0], [1.0] * 5, [math.nan] * 5, []])
def test_a_loss_that_never_falls_gives_no_suggestion(losses: list[float]) -> None:
    with pytest.raises(ValueError, match=r"never falls between the rates 0.001 and 0.1"):
        suggested_rate(rates(1e-3, 1e-1, 5), losses)


def test_impossible_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lowest rate \(1\) must lie between 0 and .* \(0.1\)"):
        rates(1.0, 0.1, 10)
    with pytest.raises(ValueError, match="2 steps or more, not 1"):
        rates(0.1, 1.0, 1)
