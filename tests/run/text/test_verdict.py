"""The sentence that judges: by the two accuracies, and only where chance does not explain them."""

import math

import pytest

from vtrain.run.text.verdict import verdict


@pytest.mark.parametrize(
    ("known", "held_out", "word", "longer"),
    [
        ((254, 254), (40, 61), "over-fitted", False),
        ((150, 250), (36, 61), "under-fitted", True),
        ((250, 254), (59, 61), "well fitted", False),
        ((95, 100), (4, 5), "well fitted", False),  # 15 points, but of five images
        ((800, 1000), (650, 1000), "over-fitted", False),
        ((100, 100), (91, 100), "well fitted", False),  # surely worse, by less than GAP
        ((0, 10), (5, 10), "under-fitted", True),
    ],
)
def test_a_run_is_judged_by_both_accuracies(
    known: tuple[int, int], held_out: tuple[int, int], word: str, longer: bool
) -> None:
    text, trains_on = verdict(known, (held_out[0] / held_out[1], held_out[1]))
    assert text.startswith(f"{word}: ")
    assert trains_on is longer
    assert f"{held_out[0] / held_out[1]:.0%} of {held_out[1]:,} held out" in text


@pytest.mark.parametrize("seen", [5, 20, 80, 320])
def test_chance_alone_is_called_over_fitted_at_most_as_often_as_stated(seen: int) -> None:
    """A model with one accuracy on both, by all outcomes of two binomial draws."""
    p, learnt = 0.7, 200

    def chance(right: int, of: int) -> float:
        return math.comb(of, right) * p**right * (1 - p) ** (of - right)

    wrongly = sum(
        chance(knows, learnt) * chance(gets, seen)
        for knows in range(learnt + 1)
        for gets in range(seen + 1)
        if verdict((knows, learnt), (gets / seen, seen))[0].startswith("over")
    )
    # One side of the normal 95 %; an error estimated from five images is often too small.
    assert wrongly < (0.06 if seen > 5 else 0.2)
