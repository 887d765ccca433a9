from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, ks_2samp, kstest
from torch import Tensor
from torchvision.transforms import v2

from vtrain.data.augment.draws import Draw, Stream
from vtrain.data.augment.erasing import Erasing
from vtrain.rng import uniforms


def erased(count: int, value: Any = "constant", probability: float = 1.0, size: int = 32) -> Tensor:
    def streams(stream: Stream) -> Draw:
        return lambda columns: uniforms(torch.arange(count), columns, 0, 0, stream)

    scale, ratio = (0.02, 0.33), (0.3, 3.3)
    part = Erasing(
        0, erasing=probability, erasing_scale=scale, erasing_ratio=ratio, erasing_value=value
    )
    nines = torch.full((count, 3, size, size), 9.0)
    return part.apply(nines, part.draw(streams, torch.Size((size, size))))


def boxes_of(images: Tensor) -> np.ndarray:
    """Find the erased box of each image: (N, 4) top, left, height, width."""
    found = []
    for hole in images[:, 0] != 9:
        rows, columns = hole.any(1).nonzero()[:, 0], hole.any(0).nonzero()[:, 0]
        h, w = len(rows), len(columns)
        assert hole.sum() == h * w, "it is a rectangle"
        found.append((int(rows[0]), int(columns[0]), h, w))
    return np.array(found)


def test_boxes_are_distributed_as_torchvisions() -> None:
    ours = boxes_of(erased(3000))
    rival, image = v2.RandomErasing(1.0), torch.zeros(3, 32, 32)
    drawn = [rival.make_params([image]) for _ in range(3000)]
    theirs = np.array([[d["i"], d["j"], d["h"], d["w"]] for d in drawn])
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.01
    assert ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 0.01


def test_a_constant_is_the_mean_colour_and_the_rest_stays() -> None:
    images = erased(50)
    assert set(images.unique().tolist()) == {0.0, 9.0}


def test_pixels_are_standard_normal_and_differ_between_channels() -> None:
    images = erased(200, "pixel")
    noise = images[images != 9]
    assert kstest(noise[::7].numpy(), "norm").pvalue > 0.01
    hole = (images != 9).all(1)
    red, green = images[:, 0][hole], images[:, 1][hole]
    assert abs(np.corrcoef(red, green)[0, 1]) < 0.02


def test_the_probability_is_that_of_each_image() -> None:
    hit = (erased(3000, probability=0.25) == 0).flatten(1).any(1).sum()
    assert binomtest(int(hit), 3000, 0.25).pvalue > 0.01


def test_a_probability_of_zero_leaves_the_images() -> None:
    assert (erased(20, probability=0.0) == 9).all()


def test_an_image_too_small_for_any_box_stays() -> None:
    assert (erased(20, size=1) == 9).all()
