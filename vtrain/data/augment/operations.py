"""The operations of augmentation, in batches in which each sample has its own."""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Self, TypeAlias

import torch
from torch import Tensor

from vtrain.data.augment import pixels
from vtrain.data.augment.draws import send
from vtrain.data.augment.pixels import FIXED_ONE, Colour, affine

Function: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Images and their amounts -> images; the shapes are those of `vtrain.data.augment.pixels`."""


class Op(IntEnum):
    """What to do with a sample. A line here is all that a new operation needs beside its function.

    Members that have no function are done by `affine_matrices`, all at once. The comment is the
    meaning of the amount.
    """

    function: Function | None

    def __new__(cls, value: int, function: Function | None = None) -> Self:
        member = int.__new__(cls, value)
        member._value_ = value
        member.function = function
        return member

    IDENTITY = 0
    SHEAR_X = 1  # pixels to the left for each pixel down
    SHEAR_Y = 2  # pixels up for each pixel to the right
    TRANSLATE_X = 3  # pixels to the right
    TRANSLATE_Y = 4  # pixels down
    ROTATE = 5  # degrees, counter-clockwise
    POSTERIZE = 6, pixels.posterize  # bits that stay
    SOLARIZE = 7, pixels.solarize  # values from here on are inverted
    SOLARIZE_ADD = 8, pixels.solarize_add  # added to values below 128
    INVERT = 9, pixels.invert
    AUTOCONTRAST = 10, pixels.autocontrast
    EQUALIZE = 11, pixels.equalize
    BRIGHTNESS = 12, pixels.brightness  # factor; 0 is black
    CONTRAST = 13, pixels.contrast  # factor; 0 is the mean grey
    SATURATION = 14, pixels.saturation  # factor; 0 is grey
    SHARPNESS = 15, pixels.sharpness  # factor; 0 is smooth
    BLUR = 16, pixels.blur  # standard deviation in pixels
    HUE = 17, pixels.shift_hue  # turns of the colour circle


MOVES = (Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y, Op.ROTATE)
"""Affine movements. They are neighbours in `Op`, so that `apply` finds them in one slice."""


class Choice(NamedTuple):
    """What to do with each sample of a batch: drawn on the CPU, carried out by `apply`."""

    ops: Tensor
    """A member of `Op`. Shape: (B,) int64."""
    amounts: Tensor
    """What that operation needs. Shape: (B,) float64."""
    matrices: Tensor
    """Where the pixels of a movement come from. Shape: (B, 6) int32; see `affine_matrices`."""

    @classmethod
    def of(cls, ops: Tensor, amounts: Tensor, size: torch.Size) -> "Choice":
        """Complete operations and amounts for images of (H, W) pixels."""
        return cls(ops, amounts, affine_matrices(ops, amounts, *size))


def apply(
    images: Tensor, choice: Choice, *, bilinear: bool = False, fill: Colour = (0, 0, 0)
) -> Tensor:
    """Apply to each sample its own operation.

    All samples of one operation go through it at once. For that the choice is on the CPU, so that
    the host knows the groups without asking the device. Moved pixels are interpolated if
    `bilinear`, else taken from the nearest; `fill` is the colour of what moves in from outside.

    Shape: (B, C, H, W) uint8 -> (B, C, H, W) uint8.
    """
    order = choice.ops.argsort(stable=True)
    ops, amounts, matrices = (numbers[order] for numbers in choice)
    # Where the samples of each operation end in this order; they begin where the one before ends.
    ends = torch.bincount(ops, minlength=len(Op)).cumsum(0).tolist()
    movements = slice(ends[MOVES[0] - 1], ends[MOVES[-1]])
    back = order.argsort()
    order, back, amounts, matrices = (
        send(numbers, images.device) for numbers in (order, back, amounts, matrices[movements])
    )
    images = images.index_select(0, order)  # now the samples of one operation are neighbours
    if len(matrices):
        images[movements] = affine(images[movements], matrices, bilinear, fill)
    for op in Op:
        group = slice(ends[op - 1], ends[op])
        if op.function is not None and group.start < group.stop:
            images[group] = op.function(images[group], amounts[group])
    return images.index_select(0, back)


def affine_matrices(ops: Tensor, amounts: Tensor, height: int, width: int) -> Tensor:
    """Return where each pixel of the result comes from, as Pillow's 16.16 coefficients.

    Shape: (B,), (B,) -> (B, 6) int32 (a, b, c, d, e, f): x' = a x + b y + c and y' = d x + e y + f
    with the pixel centres' halves included.
    """
    amount = amounts.to(torch.float64)
    zero, one = torch.zeros_like(amount), torch.ones_like(amount)
    is_rotation = ops == Op.ROTATE
    angle = torch.where(is_rotation, -amount.deg2rad(), zero)
    cos, sin = angle.cos(), angle.sin()
    b = torch.where(ops == Op.SHEAR_X, amount, sin)
    d = torch.where(ops == Op.SHEAR_Y, amount, -sin)
    # Rotations keep the centre in its place, shears the top left corner.
    c = torch.where(is_rotation, width / 2 - cos * width / 2 - sin * height / 2, zero)
    f = torch.where(is_rotation, height / 2 + sin * width / 2 - cos * height / 2, zero)
    c = torch.where(ops == Op.TRANSLATE_X, -amount, c)
    f = torch.where(ops == Op.TRANSLATE_Y, -amount, f)
    a = e = torch.where(is_rotation, cos, one)
    matrices = torch.stack([a, b, c + (a + b) / 2, d, e, f + (d + e) / 2], dim=1)
    return (matrices * FIXED_ONE + 0.5).floor().to(torch.int32)
