import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vtrain.layers.windows import (
    RelativeBias,
    WindowPair,
    Windows,
    attend_in_windows,
    relative_position_index,
    reorder,
    shift_mask,
)

SIZES = [  # height, width, side, shift: whole windows, padding, both with and without a shift
    (8, 12, 4, 0),
    (8, 12, 4, 2),
    (7, 7, 7, 0),
    (10, 9, 4, 0),
    (10, 9, 4, 2),
    (14, 3, 3, 1),
    (5, 5, 7, 3),
    (12, 4, 4, 0),
]


def padded_rolled_and_cut(x: Tensor, side: int, shift: int) -> Tensor:
    """The official three steps, one after the other."""
    x = F.pad(x, (0, 0, 0, -x.shape[2] % side, 0, -x.shape[1] % side))
    x = torch.roll(x, (-shift, -shift), dims=(1, 2))
    squares = [square for strip in x.split(side, dim=1) for square in strip.split(side, dim=2)]
    return torch.stack([square.flatten(1, 2) for square in squares], dim=1)


@pytest.mark.parametrize(("height", "width", "side", "shift"), SIZES)
def test_splitting_is_padding_then_rolling_then_cutting(
    height: int, width: int, side: int, shift: int
) -> None:
    x = torch.randn(2, height, width, 3)
    windows = Windows(height, width, side, shift).split(x)
    assert torch.equal(windows, padded_rolled_and_cut(x, side, shift))


@pytest.mark.parametrize(("height", "width", "side", "shift"), SIZES)
def test_joining_undoes_splitting(height: int, width: int, side: int, shift: int) -> None:
    x, windows = torch.randn(2, height, width, 3), Windows(height, width, side, shift)
    assert torch.equal(windows.join(windows.split(x)), x)


@pytest.mark.parametrize(("height", "width", "side", "shift"), [(4, 4, 2, 1), (3, 5, 2, 1)])
def test_gradients_of_splitting_and_joining_match_finite_differences(
    height: int, width: int, side: int, shift: int
) -> None:
    windows = Windows(height, width, side, shift)
    x = torch.randn(2, height, width, 2, dtype=torch.float64, requires_grad=True)
    y = torch.randn_like(windows.split(x), requires_grad=True)
    assert torch.autograd.gradcheck(windows.split, x)
    assert torch.autograd.gradcheck(windows.join, y)
    assert torch.autograd.gradgradcheck(windows.split, x)


def test_reordering_reads_a_zero_past_the_last_token() -> None:
    tokens = torch.tensor([[[1.0], [2.0]]])
    order, inverse = torch.tensor([2, 1, 0]), torch.tensor([2, 1])
    assert reorder(tokens, order, inverse).flatten().tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("size", "side", "shift", "masked"),
    [(14, 7, 3, [0, 1176, 1176, 1776]), (8, 4, 2, [0, 128, 128, 192])],
)
def test_masks_have_the_official_counts(
    size: int, side: int, shift: int, masked: list[int]
) -> None:
    mask = shift_mask(size, size, side, shift)
    assert set(mask.unique().tolist()) == {0, -100}
    assert mask.count_nonzero(dim=(1, 2)).tolist() == masked


@pytest.mark.parametrize(("height", "width", "side", "shift"), [(8, 12, 4, 2), (14, 21, 7, 3)])
def test_the_mask_separates_what_displaced_windows_separate(
    height: int, width: int, side: int, shift: int
) -> None:
    # Without a roll the windows start at `shift`, with partial ones at the borders of the map.
    rows = torch.div(torch.arange(height) - shift, side, rounding_mode="floor")
    columns = torch.div(torch.arange(width) - shift, side, rounding_mode="floor")
    numbers = 100 * rows[:, None] + columns
    windows = Windows(height, width, side, shift)
    numbers = windows.split(numbers[None, :, :, None])[0, :, :, 0]  # (nW, N)
    assert windows.mask is not None
    assert torch.equal(windows.mask == -100, numbers[:, :, None] != numbers[:, None, :])


def test_relative_positions_are_numbered_as_in_the_reference() -> None:
    seven = relative_position_index(7)
    assert seven.shape == (49, 49)
    assert seven.diagonal().unique().tolist() == [84]
    assert [seven[q, k].item() for q, k in [(0, 48), (48, 0), (0, 1), (0, 7)]] == [0, 168, 83, 71]
    assert relative_position_index(2).tolist() == [
        [4, 3, 1, 0],
        [5, 4, 2, 1],
        [7, 6, 4, 3],
        [8, 7, 5, 4],
    ]


def test_equal_offsets_and_only_these_share_a_number() -> None:
    index, numbers = relative_position_index(3), {}
    for q in range(9):
        for k in range(9):
            offset = (q // 3 - k // 3, q % 3 - k % 3)
            assert numbers.setdefault(offset, index[q, k].item()) == index[q, k].item()
    assert sorted(numbers.values()) == list(range(25))


@pytest.mark.parametrize("side", [1, 2, 4])
def test_a_smaller_window_has_the_biases_of_its_offsets(side: int) -> None:
    table = torch.randn(49, 2)  # for windows of 4
    bias = RelativeBias(4)(table, side)
    assert bias.shape == (2, side**2, side**2)
    for q in range(side**2):
        for k in range(side**2):
            dy, dx = q // side - k // side, q % side - k % side
            assert torch.equal(bias[:, q, k], table[7 * (dy + 3) + dx + 3])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_in_windows_matches_the_formula(masked: bool, biased: bool) -> None:
    qkv = torch.randn(2, 6, 4, 3, 3, 5)
    q, k, v = qkv.unbind(3)  # each (B, nW, N, h, d)
    bias = torch.randn(3, 4, 4) if biased else None
    mask = shift_mask(4, 6, 2, 1) if masked else None
    scores = torch.einsum("bwnhd,bwmhd->bwhnm", q, k) / 5**0.5
    scores = scores + (bias if biased else 0) + (mask[:, None] if masked else 0)
    expected = torch.einsum("bwhnm,bwmhd->bwnhd", scores.softmax(-1), v).flatten(3)
    torch.testing.assert_close(attend_in_windows(qkv.flatten(3), 3, bias, mask), expected)


def test_windows_of_a_size_are_made_once() -> None:
    pair, cpu = WindowPair(8, 8, 4, shifted=True), torch.device("cpu")
    assert pair.for_map(8, 8, cpu) is pair.for_map(8, 8, cpu)
    assert pair.for_map(12, 8, cpu) is pair.for_map(12, 8, cpu)
    assert pair.for_map(12, 8, cpu) is not pair.for_map(8, 8, cpu)


@pytest.mark.parametrize(
    ("height", "width", "side", "shift"),
    [(8, 8, 4, 2), (15, 15, 4, 2), (4, 4, 4, 0), (2, 2, 2, 0), (3, 9, 3, 0)],
)
def test_windows_shrink_to_the_map_and_do_not_shift_when_one_covers_it(
    height: int, width: int, side: int, shift: int
) -> None:
    plain, shifted = WindowPair(16, 16, 4, shifted=True).for_map(height, width, torch.device("cpu"))
    assert [(w.side, w.shift) for w in (plain, shifted)] == [(side, 0), (side, shift)]


def test_windows_first_used_in_evaluation_serve_training() -> None:
    pair, x = WindowPair(8, 8, 4, shifted=True), torch.randn(1, 9, 9, 2)
    with torch.inference_mode():
        pair.for_map(9, 9, x.device)[1].split(x)
    x.requires_grad_()
    pair.for_map(9, 9, x.device)[1].split(x).sum().backward()
    assert x.grad is not None


def test_windows_leave_nothing_in_a_checkpoint() -> None:
    assert WindowPair(8, 8, 4, shifted=True).state_dict() == {}
