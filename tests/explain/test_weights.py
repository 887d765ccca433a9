import numpy as np
import pytest
import torch

from tests.conftest import tiny
from vtrain.explain.weights import (
    filters,
    nearness,
    positions,
    regions,
    relative_biases,
    similarity,
    window_of,
)
from vtrain.layers.position import sincos_2d
from vtrain.layers.windows import Windows


def test_filters_that_are_mixtures_of_two_give_these_two_back() -> None:
    model = tiny("vit_ti")
    patterns = torch.linalg.qr(torch.randn(3 * 8 * 8, 2))[0].T
    mixture = torch.randn(32, 2) @ torch.diag(torch.tensor([3.0, 1.0]))
    kernel = model.patch_embed.proj.weight
    kernel.data = (mixture @ patterns).view(kernel.shape)
    components, shares = filters(model)
    flat = torch.tensor(components).permute(0, 3, 1, 2).flatten(1)[:2]
    both = flat.float() @ patterns.T
    torch.testing.assert_close(both @ both.T, torch.eye(2), rtol=0, atol=1e-3)
    assert shares[0] > shares[1] > 0.01
    assert shares[2:].max() < 1e-6


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("vit_ti", {}, lambda m: m.pos_embed[0, 1:]),
        ("deit3_s", {}, lambda m: m.pos_embed[0]),
        ("vit_ti", {"position_embedding": "sincos_2d"}, lambda _: sincos_2d(4, 32)[0]),
        ("tnt_ti", {}, lambda m: m.patch_pos[0, 1:]),
        ("swin_t", {"absolute_position_embedding": True}, lambda m: m.absolute_pos_embed[0]),
    ],
)
def test_positions_are_those_of_the_patches(name, arguments, expected) -> None:
    model = tiny(name, **arguments)
    torch.testing.assert_close(positions(model), expected(model).detach().double())


def test_positions_by_row_and_column_are_put_together() -> None:
    model = tiny("vit_ti", position_embedding="learned_2d")
    expected = model.add_patch_positions(torch.zeros(1, 16, 32))[0].detach()
    torch.testing.assert_close(positions(model), expected.double())


@pytest.mark.parametrize(
    ("name", "arguments"), [("swin_t", {}), ("vit_ti", {"position_embedding": "none"})]
)
def test_a_model_without_positions_has_none(name, arguments) -> None:
    assert positions(tiny(name, **arguments)) is None


def test_nearness_tells_an_ordered_table_from_a_random_one() -> None:
    torch.manual_seed(0)
    assert nearness(similarity(sincos_2d(8, 64)[0].double()), 8, 8) > 0.5
    assert abs(nearness(similarity(torch.randn(64, 64).double()), 8, 8)) < 0.1
    assert nearness(np.ones((64, 64)), 8, 8) == 0


@pytest.mark.parametrize("name", ["swin_t", "swinv2_t"])
def test_relative_biases_are_what_attention_adds(name: str) -> None:
    model = tiny(name)
    found = relative_biases(model)
    assert len(found) == 4
    attn = model.layers[0].blocks[0].attn
    side = attn.bias_of_offsets.side
    table = found["layers.0.blocks.0.attn"]
    assert table.shape == (2, 2 * side - 1, 2 * side - 1)
    flat = torch.tensor(table).flatten(1).T.float()
    bias = attn.bias_of_offsets(flat, side)  # (h, n, n), query and key
    query, key = 0, side + 1  # one below and one beside
    centre = side - 1
    assert bias[1, query, key].item() == pytest.approx(table[1, centre - 1, centre - 1], rel=1e-5)


def test_regions_are_the_nine_areas_of_the_official_code() -> None:
    windows = Windows(8, 8, 4, 2)
    numbers, windows_ = regions(windows), window_of(windows)
    # Shifted by two: the windows' borders on the map are at 2 and 6.
    assert [len(np.unique(windows_[:, 3])), len(np.unique(windows_[3]))] == [2, 2]
    assert windows_[2, 2] == windows_[5, 5]
    assert windows_[0, 3] == windows_[7, 3]  # the roll brought them together,
    assert numbers[0, 3] != numbers[7, 3]  # and the mask keeps them apart
    assert not regions(Windows(8, 8, 4)).any()
    areas = {(w, r) for w, r in zip(windows_.ravel(), numbers.ravel(), strict=True)}
    assert len(areas) == 9
