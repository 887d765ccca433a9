import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from vtrain.data.augment.operations import Choice, Op, apply
from vtrain.data.augment.pixels import solarize_add


def uniform(count: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(count, dtype=torch.float64)


def affine(image: Any, shear: tuple[float, float] = (0, 0), by: Any = (0, 0), **how: Any) -> Any:
    degrees = [math.degrees(math.atan(s)) for s in shear]
    center = [0, 0] if any(shear) else None
    return TF.affine(image, 0.0, list(by), 1.0, degrees, center=center, **how)


def applied(images: Tensor, ops: Tensor, amounts: Tensor, **how: Any) -> Tensor:
    return apply(images, Choice.of(ops, amounts, images.shape[2:]), **how)


EXACT: dict[Op, tuple[Callable[..., Any], float, float]] = {
    Op.IDENTITY: (lambda image, _: image, 0, 1),
    Op.POSTERIZE: (lambda image, x: TF.posterize(image, int(x)), 1, 9),
    Op.SOLARIZE: (TF.solarize, 0, 255),
    Op.INVERT: (lambda image, _: TF.invert(image), 0, 1),
    Op.AUTOCONTRAST: (lambda image, _: TF.autocontrast(image), 0, 1),
    Op.EQUALIZE: (lambda image, _: TF.equalize(image), 0, 1),
    Op.BRIGHTNESS: (TF.adjust_brightness, 0, 2),
    Op.CONTRAST: (TF.adjust_contrast, 0, 2),
    Op.SATURATION: (TF.adjust_saturation, 0, 2),
    Op.SHARPNESS: (TF.adjust_sharpness, 0, 2),
}
MOVES: dict[Op, tuple[Callable[..., Any], float, float]] = {
    Op.SHEAR_X: (lambda image, x, **how: affine(image, shear=(x, 0), **how), -1, 1),
    Op.SHEAR_Y: (lambda image, x, **how: affine(image, shear=(0, x), **how), -1, 1),
    Op.TRANSLATE_X: (lambda image, x, **how: affine(image, by=(int(x), 0), **how), -40, 40),
    Op.TRANSLATE_Y: (lambda image, x, **how: affine(image, by=(0, int(x)), **how), -40, 40),
    Op.ROTATE: (TF.rotate, -180, 180),
}


def expected(function: Callable[..., Any], pictures: Tensor, amounts: Tensor, **how: Any) -> Tensor:
    """Apply torchvision's function to each picture as a Pillow image."""
    pairs = zip(pictures, amounts.tolist(), strict=True)
    return torch.stack(
        [TF.pil_to_tensor(function(TF.to_pil_image(image), x, **how)) for image, x in pairs]
    )


@pytest.mark.parametrize("op", EXACT)
def test_an_operation_on_values_gives_torchvisions_bytes(op: Op, pictures: Tensor) -> None:
    function, low, high = EXACT[op]
    amounts = uniform(len(pictures), low, high)
    if op == Op.POSTERIZE:
        amounts = amounts.floor()
    got = applied(pictures, torch.full((len(pictures),), op), amounts)
    assert torch.equal(got, expected(function, pictures, amounts))


@pytest.mark.parametrize("fill", [(0, 0, 0), (10, 100, 200)])
@pytest.mark.parametrize("op", MOVES)
def test_a_movement_to_the_nearest_pixel_gives_torchvisions_bytes(
    op: Op, fill: tuple[int, int, int], pictures: Tensor
) -> None:
    function, low, high = MOVES[op]
    amounts = uniform(len(pictures), low, high).trunc()
    if op in (Op.SHEAR_X, Op.SHEAR_Y):
        amounts = uniform(len(pictures), low, high)
    got = applied(pictures, torch.full((len(pictures),), op), amounts, fill=fill)
    assert torch.equal(got, expected(function, pictures, amounts, fill=list(fill)))


def test_right_angles_turn_square_images_exactly(pictures: Tensor) -> None:
    square = pictures[:, :, :, :33]
    for turns in (1, 2, 3):
        amounts = torch.full((len(square),), 90.0 * turns)
        got = applied(square, torch.full((len(square),), Op.ROTATE), amounts)
        assert torch.equal(got, torch.rot90(square, turns, (2, 3)))


@pytest.mark.parametrize("op", MOVES)
def test_an_interpolated_movement_is_within_one_step_of_pillow(op: Op, pictures: Tensor) -> None:
    """Pillow's coordinates are float64, ours 16.16: a pixel in 10,000 changes sides at a border."""
    function, low, high = MOVES[op]
    amounts = uniform(len(pictures), low, high)
    if op in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
        amounts = amounts.trunc()
    got = applied(pictures, torch.full((len(pictures),), op), amounts, bilinear=True)
    want = expected(function, pictures, amounts, interpolation=InterpolationMode.BILINEAR)
    difference = (got.int() - want.int()).abs().amax(1)
    assert (difference > 1).float().mean() <= 1e-4


def test_a_blur_is_within_one_step_of_torchvisions(pictures: Tensor) -> None:
    """Two passes and one sum round differently."""
    sigmas = uniform(len(pictures), 0.1, 2.0)
    got = applied(pictures, torch.full((len(pictures),), Op.BLUR), sigmas)
    want = [
        TF.gaussian_blur(image, [13, 13], [sigma, sigma])
        for image, sigma in zip(pictures, sigmas.tolist(), strict=True)
    ]
    assert (got.int() - torch.stack(want).int()).abs().max() <= 1


def test_a_hue_is_within_one_step_of_torchvisions(pictures: Tensor) -> None:
    """The same colours by another formula, in float32."""
    turns = uniform(len(pictures), -0.5, 0.5)
    got = applied(pictures, torch.full((len(pictures),), Op.HUE), turns)
    pairs = zip(pictures, turns.tolist(), strict=True)
    want = torch.stack([TF.adjust_hue(image, turn) for image, turn in pairs])
    assert (got.int() - want.int()).abs().max() <= 1


def test_solarize_add_brightens_the_dark_half_up_to_white() -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    got = solarize_add(values, torch.tensor([110.0])).flatten().tolist()
    assert got == [min(255, v + 110) if v < 128 else v for v in range(256)]


def test_samples_keep_their_places_whatever_their_operations(pictures: Tensor) -> None:
    ops = torch.randint(0, len(Op), (len(pictures),))
    amounts = torch.ones(len(pictures), dtype=torch.float64)
    together = applied(pictures, ops, amounts)
    for i in range(len(pictures)):
        alone = applied(pictures[i : i + 1], ops[i : i + 1], amounts[i : i + 1])
        assert torch.equal(together[i : i + 1], alone), Op(int(ops[i]))


def test_the_given_images_are_not_changed(pictures: Tensor) -> None:
    before = pictures.clone()
    applied(pictures, torch.full((len(pictures),), Op.INVERT), torch.zeros(len(pictures)))
    assert torch.equal(pictures, before)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_operation_takes_the_smallest_images(size: int) -> None:
    images = torch.randint(0, 256, (len(Op), 3, size, size), dtype=torch.uint8)
    amounts = torch.ones(len(Op), dtype=torch.float64)
    assert applied(images, torch.arange(len(Op)), amounts).shape == images.shape


@pytest.mark.gpu
def test_a_gpu_gives_the_same_bytes(pictures: Tensor) -> None:
    ops = torch.randint(0, Op.BLUR, (len(pictures),))  # all that is exact
    amounts = uniform(len(pictures), 0, 1)
    for bilinear in (False, True):
        got = applied(pictures.cuda(), ops, amounts, bilinear=bilinear).cpu()
        assert torch.equal(got, applied(pictures, ops, amounts, bilinear=bilinear))
