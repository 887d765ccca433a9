from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from vtrain import rng
from vtrain.data.augment.crops import (
    BOX_DRAWS,
    inside_boxes,
    pad_crop_flip,
    resized_crop,
    resized_crop_box,
    resized_crop_boxes,
)
from vtrain.data.augment.draws import Stream

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def box_draws(count: int) -> Tensor:
    return rng.uniforms(torch.arange(count), BOX_DRAWS, 0, 0, Stream.CROP)


def pictures(count: int, height: int, width: int) -> Tensor:
    coarse = torch.randint(0, 256, (count, 3, 7, 7)).float()
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("padding", [0, 4])
def test_each_sample_is_padded_cropped_and_flipped_as_torchvision_does(padding: int) -> None:
    images = torch.randint(0, 256, (40, 3, 9, 12), dtype=torch.uint8)
    tops, lefts = (torch.randint(0, 2 * padding + 1, (40,)) for _ in range(2))
    flip_x, flip_y = (torch.rand(40) < 0.5 for _ in range(2))
    results = pad_crop_flip(images, tops, lefts, flip_x, flip_y, padding)
    for i, image in enumerate(images):
        want = TF.crop(TF.pad(image, [padding]), int(tops[i]), int(lefts[i]), 9, 12)
        want = TF.horizontal_flip(want) if flip_x[i] else want
        want = TF.vertical_flip(want) if flip_y[i] else want
        assert torch.equal(results[i], want)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (100, 900)])
def test_resized_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    ours = resized_crop_boxes(box_draws(3000), height, width, SCALE, RATIO).numpy()
    rival, image = v2.RandomResizedCrop(8), torch.zeros(3, 1, 1).expand(3, height, width)
    drawn = [rival.make_params([image]) for _ in range(3000)]
    theirs = np.array([[d["top"], d["left"], d["height"], d["width"]] for d in drawn])
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.01
    assert ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10), (50, 60), (1, 1)])
def test_where_no_crop_fits_the_largest_central_one_is_torchvisions(
    height: int, width: int
) -> None:
    scale = (4.0, 5.0)  # more than the image has, so that every attempt fails
    ours = resized_crop_boxes(box_draws(2), height, width, scale, RATIO)
    rival = v2.RandomResizedCrop(8, scale=scale)
    want = rival.make_params([torch.zeros(3, height, width)])
    assert ours.tolist() == [[want["top"], want["left"], want["height"], want["width"]]] * 2


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(375, 500, SCALE), (100, 900, SCALE), (900, 100, SCALE), (1, 1, SCALE), (50, 60, (4.0, 5.0))],
)
def test_a_box_drawn_for_one_image_is_the_one_drawn_for_a_batch(
    height: int, width: int, scale: tuple[float, float]
) -> None:
    together = resized_crop_boxes(box_draws(1000), height, width, scale, RATIO)
    alone = [
        resized_crop_box(rng.row(index, 0, 0, Stream.CROP), height, width, scale, RATIO)
        for index in range(1000)
    ]
    assert torch.equal(torch.tensor(alone), together)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [7, 24, 50])
def test_a_square_crop_is_scaled_to_pillows_bytes(interpolation: str, size: int) -> None:
    images = torch.randint(0, 256, (30, 3, 40, 36), dtype=torch.uint8)
    boxes = resized_crop_boxes(box_draws(30), 40, 36, SCALE, (1.0, 1.0))
    never = torch.zeros(30, dtype=torch.bool)
    results = resized_crop(images, boxes, never, never, size, interpolation)
    assert torch.equal(results, scaled_by_pillow(images, boxes, size, interpolation))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_any_crop_is_scaled_within_two_steps_of_pillow(interpolation: str) -> None:
    """Some versions of Pillow scale rows before columns, and so round to bytes elsewhere."""
    images = pictures(60, 40, 36)
    boxes = resized_crop_boxes(box_draws(60), 40, 36, SCALE, RATIO)
    never = torch.zeros(60, dtype=torch.bool)
    results = resized_crop(images, boxes, never, never, 24, interpolation)
    want = scaled_by_pillow(images, boxes, 24, interpolation)
    assert (results.int() - want.int()).abs().max() <= 2


def scaled_by_pillow(images: Tensor, boxes: Tensor, size: int, interpolation: str) -> Tensor:
    filter_ = Image.Resampling[interpolation.upper()]
    results = []
    for image, (top, left, h, w) in zip(images, boxes.tolist(), strict=True):
        crop = TF.to_pil_image(image).crop((left, top, left + w, top + h))
        results.append(TF.pil_to_tensor(crop.resize((size, size), filter_)))
    return torch.stack(results)


def test_a_resized_crop_is_flipped_after_scaling() -> None:
    images = pictures(4, 20, 20)
    boxes = resized_crop_boxes(box_draws(4), 20, 20, SCALE, RATIO)
    flip_x, flip_y = torch.tensor([0, 1, 0, 1]).bool(), torch.tensor([0, 0, 1, 1]).bool()
    plain, flipped = (
        resized_crop(images, boxes, m, u, 8, "bicubic")
        for m, u in ((flip_x & False, flip_y & False), (flip_x, flip_y))
    )
    want = [plain[0], plain[1].flip(2), plain[2].flip(1), plain[3].flip((1, 2))]
    assert torch.equal(flipped, torch.stack(want))


def test_pixels_inside_boxes_match_slices() -> None:
    boxes = torch.tensor([[0, 0, 3, 2], [1, 2, 4, 5], [-2, 5, 4, 9]])
    mask = inside_boxes(boxes, 6, 8)
    for row, (top, left, h, w) in zip(mask, boxes.tolist(), strict=True):
        want = torch.zeros(6, 8, dtype=torch.bool)
        want[max(0, top) : top + h, left : left + w] = True
        assert torch.equal(row, want)


def test_an_unknown_filter_has_no_weights() -> None:
    never: Any = torch.zeros(1, dtype=torch.bool)
    with pytest.raises(KeyError, match="sinc"):
        resized_crop(pictures(1, 8, 8), torch.tensor([[0, 0, 8, 8]]), never, never, 8, "sinc")
