import pytest
import torch

from vtrain.layers.drop_path import DropPath, drop_path_rates


def test_evaluation_is_the_identity() -> None:
    x = torch.randn(4, 3, 2)
    assert DropPath(0.9).eval()(x) is x


def test_a_sample_is_dropped_whole_and_survivors_are_scaled() -> None:
    samples = DropPath(0.25)(torch.ones(1000, 3, 2)).flatten(1)
    kinds = torch.unique(samples, dim=0)
    torch.testing.assert_close(kinds, torch.tensor([[0.0], [1 / 0.75]]).expand(2, 6))


def test_the_expectation_is_the_identity() -> None:
    mean = DropPath(0.3)(torch.ones(40_000, 1)).mean().item()
    standard_error = (0.3 / 0.7 / 40_000) ** 0.5
    assert mean == pytest.approx(1, abs=5 * standard_error)


def test_rates_are_linear_over_the_depth_with_both_ends() -> None:
    # Swin-T at 0.2 over its 12 blocks, as its reference code computes it
    expected = torch.linspace(0, 0.2, 12, dtype=torch.float64).tolist()
    assert drop_path_rates(0.2, 12) == pytest.approx(expected)


def test_a_single_block_is_never_dropped() -> None:
    assert drop_path_rates(0.5, 1) == [0.0]
