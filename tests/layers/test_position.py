import math

import pytest
import torch

from vtrain.layers.position import resize_map, resize_tokens, sincos_2d


def test_sines_and_cosines_match_a_loop_over_positions() -> None:
    positions = sincos_2d(grid=3, embed_dim=8)
    for row in range(3):
        for column in range(3):
            expected = [
                function(coordinate * 10_000.0 ** -(i / (8 / 4 - 1)))
                for coordinate in (column, row)
                for function in (math.sin, math.cos)
                for i in range(2)
            ]
            given = positions[0, row * 3 + column]
            torch.testing.assert_close(given, torch.tensor(expected), atol=1e-6, rtol=0)


def test_the_same_grid_is_left_alone() -> None:
    positions = torch.randn(1, 2 + 16, 8)
    assert torch.equal(resize_tokens(positions, grid=4, prefix=2), positions)


@pytest.mark.parametrize("grid", [2, 7])
def test_a_constant_grid_stays_constant(grid: int) -> None:
    resized = resize_tokens(torch.full((1, 16, 8), 0.5), grid=grid, prefix=0)
    torch.testing.assert_close(resized, torch.full((1, grid * grid, 8), 0.5))


def test_prefix_rows_survive_bit_for_bit() -> None:
    positions = torch.randn(1, 2 + 16, 8)
    assert torch.equal(resize_tokens(positions, grid=7, prefix=2)[:, :2], positions[:, :2])


def test_rows_and_columns_are_not_swapped() -> None:
    rows_differ = torch.arange(4.0)[:, None].expand(4, 4).reshape(1, 16, 1)
    resized = resize_tokens(rows_differ, grid=8, prefix=0).view(8, 8)
    assert (resized.diff(dim=0) > 0).all()
    torch.testing.assert_close(resized.diff(dim=1), torch.zeros(8, 7), atol=1e-5, rtol=0)


def test_half_precision_is_resized_in_float32() -> None:
    positions = torch.randn(1, 8, 4, 4).to(torch.bfloat16)
    expected = resize_map(positions.float(), 7, 7).to(torch.bfloat16)
    assert torch.equal(resize_map(positions, 7, 7), expected)


def test_positions_that_are_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="17 positions are not 2 prefix tokens and a square grid"):
        resize_tokens(torch.zeros(1, 17, 8), grid=4, prefix=2)
