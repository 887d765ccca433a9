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
