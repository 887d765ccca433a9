import pytest

from benchmarks.verdict import verdict
from vtrain.bench.stats import Ratio


@pytest.mark.parametrize(
    ("ratio", "noise", "expected"),
    [
        (Ratio(1.20, 1.15, 1.25, 9), Ratio(1.00, 0.98, 1.02, 9), "ahead"),
        (Ratio(0.80, 0.75, 0.85, 9), Ratio(1.00, 0.98, 1.02, 9), "behind"),
        (Ratio(1.10, 0.99, 1.20, 9), Ratio(1.00, 0.98, 1.02, 9), "tie"),  # the interval holds 1
        (Ratio(1.03, 1.02, 1.04, 9), Ratio(1.00, 0.95, 1.05, 9), "tie"),  # two of us differ as much
        (Ratio(1.03, 1.02, 1.04, 9), None, "ahead"),
    ],
)
def test_a_difference_counts_if_it_is_surer_and_larger_than_noise(
    ratio: Ratio, noise: Ratio | None, expected: str
) -> None:
    assert verdict(ratio, noise) == expected
