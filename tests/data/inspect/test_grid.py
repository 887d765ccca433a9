import numpy as np
import pytest
import torch

from vtrain.data.inspect.grid import TILE, grid, target_titles


def test_every_image_is_in_the_grid_and_big_enough_to_see() -> None:
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    images = colours[:, :, None, None].expand(3, 3, 32, 32)
    sheet = np.array(grid(images, ["red", "green", "blue"]))
    for colour in colours.numpy():
        assert (sheet == colour).all(2).sum() >= TILE**2


def test_a_hard_target_is_named() -> None:
    assert target_titles(torch.tensor([1, 0]), ["cat", "dog"]) == ["dog", "cat"]


def test_a_mixed_target_is_named_with_its_shares() -> None:
    targets = torch.tensor([[0.3, 0.0, 0.7], [0.0, 1.0, 0.0]])
    assert target_titles(targets, ["cat", "dog", "ox"]) == ["0.70 ox\n0.30 cat", "dog"]


def test_a_missing_title_is_a_bug_here() -> None:
    with pytest.raises(ValueError, match="shorter"):
        grid(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), ["a", "b"])


def test_a_long_name_does_not_cover_the_next_one() -> None:
    images = torch.full((2, 3, 112, 112), 200, dtype=torch.uint8)
    alone, beside = (np.array(grid(images, [name, "cat"])) for name in ("", "long name " * 9))
    assert (alone[:, 116:] == beside[:, 116:]).all()
    assert (alone[:, :114] != beside[:, :114]).any()


def test_names_beyond_ascii_are_told_apart() -> None:
    images = torch.full((2, 3, 112, 112), 200, dtype=torch.uint8)
    sheet = np.array(grid(images, ["ä", "ö"]))
    assert (sheet[114:, 2:60] != sheet[114:, 118:176]).any()
