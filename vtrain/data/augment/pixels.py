"""What the operations of augmentation do to pixels, each with an amount for every image.

The arithmetic is Pillow's, integers included: a result is the bytes that torchvision makes of the
same Pillow image. Exceptions, within one step of 255: blur and hue follow torchvision's tensor
versions, interpolated movements Pillow's float64.

Shape, where nothing else is said: (B, C, H, W) uint8 images, (B,) amounts -> (B, C, H, W) uint8.
Other than three channels have no colour to change: saturation and hue leave them as they are.
"""

from functools import cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from vtrain.data.augment.draws import send

Colour: TypeAlias = tuple[int, ...]
"""A value of each channel."""

FIXED_ONE = 1 << 16
"""Pillow moves pixels in 16.16 fixed point. Integers are the same on every device; 32 bits hold the
places in an image of up to 8192 pixels."""
BLUR_RADIUS = 6
"""Three standard deviations of the strongest blur in a published recipe."""


# Movements


def affine(images: Tensor, matrices: Tensor, bilinear: bool, fill: Colour) -> Tensor:
    """Move pixels to where `affine_matrices` says. Shape: (B, C, H, W), (B, 6) -> (B, C, H, W)."""
    H, W = images.shape[2:]
    across = torch.arange(W, device=images.device, dtype=torch.int32)
    down = torch.arange(H, device=images.device, dtype=torch.int32)[:, None]
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)
    x, y = a * across + b * down + c, d * across + e * down + f  # (B, H, W)
    column, row = x >> 16, y >> 16
    inside = ((column == column.clamp(0, W - 1)) & (row == row.clamp(0, H - 1)))[:, None]
    result = _interpolated(images, x, y) if bilinear else _pixels(images, column, row)
    result *= inside
    if any(fill):
        result += _colour(fill, images.device) * ~inside
    return result


@cache  # a copy to the GPU in every step would wait for it
def _colour(colour: Colour, device: torch.device) -> Tensor:
    """Return a colour. Shape: (C, 1, 1) uint8."""
    return send(torch.tensor(colour, dtype=torch.uint8), device)[:, None, None]


def _pixels(images: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Take pixels, or the nearest ones on the border. Shape: (B, C, H, W), two of (B, H, W)."""
    H, W = images.shape[2:]
    where = (row.clamp(0, H - 1) * W + column.clamp(0, W - 1)).long().flatten(1)
    where = where[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, where).view_as(images)


def _interpolated(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Take the bilinear mean of four pixels. Shape: as `_pixels`, places in 16.16."""
    x, y = x - FIXED_ONE // 2, y - FIXED_ONE // 2  # from the pixel's corner to its centre
    column, row = x >> 16, y >> 16
    right, bottom = ((z & (FIXED_ONE - 1)).to(torch.float32)[:, None] / FIXED_ONE for z in (x, y))
    rows = []
    for dy in (0, 1):
        here, there = (_pixels(images, column + dx, row + dy).to(torch.float32) for dx in (0, 1))
        rows.append(here + (there - here) * right)
    return (rows[0] + (rows[1] - rows[0]) * bottom).to(torch.uint8)


# Values


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each value."""
    lost = (8 - bits).clamp(0, 8).to(torch.int32)
    kept = (256 - (1 << lost)).to(torch.uint8)
    return images & _per_image(kept)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert the values from the threshold on."""
    inverted = images.to(torch.int16) >= _per_image(thresholds.ceil().to(torch.int16))
    return images ^ (255 * inverted.to(torch.uint8))  # x ^ 255 is 255 - x


def solarize_add(images: Tensor, amounts: Tensor) -> Tensor:
    """Add to the values below 128; the sum stays within 255."""
    sums = images.to(torch.int16) + _per_image(amounts.to(torch.int16)) * (images < 128)
    return sums.clamp_(max=255).to(torch.uint8)


def invert(images: Tensor, _: Tensor) -> Tensor:
    """Turn each value v into 255 - v."""
    return 255 - images


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel so that its values reach from 0 to 255."""
    pixels = images.flatten(2)
    low = pixels.amin(2, keepdim=True).to(torch.float64)
    high = pixels.amax(2, keepdim=True).to(torch.float64)
    # `255 / tensor` would multiply by the reciprocal, which rounds twice.
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)
    values = torch.arange(256, device=images.device)
    tables = (values * scale - low * scale).clamp(0, 255).to(torch.uint8)
    return look_up(images, torch.where(high > low, tables, values.to(torch.uint8)))


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Map each channel's values so that all are about equally frequent."""
    pixels = images.flatten(2).long()
    counts = torch.zeros(*images.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, pixels, torch.ones_like(pixels))
    highest = pixels.amax(2, keepdim=True)
    step = (pixels.shape[2] - counts.gather(2, highest)) // 255
    before = counts.cumsum(2) - counts
    tables = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    return look_up(
        images,
        torch.where(step > 0, tables, torch.arange(256, device=images.device)).to(torch.uint8),
    )


def look_up(images: Tensor, tables: Tensor) -> Tensor:
    """Replace each value by its entry. Shape: (B, C, H, W) uint8, (B, C, 256) -> (B, C, H, W)."""
    return tables.gather(2, images.flatten(2).long()).view_as(images)


def _per_image(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]


# Blends: the image and a degenerate version of it, with a factor that may lead beyond both


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with black."""
    return _blend(torch.zeros((), device=images.device), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the mean grey."""
    means = _grey(images).to(torch.float64).mean((1, 2, 3))
    return _blend(_per_image((means + 0.5).floor().to(torch.float32)), images, factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the grey image."""
    if images.shape[1] != 3:
        return images
    return _blend(_grey(images).to(torch.float32), images, factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with a smoothed image: 3 x 3 means in which the centre counts five times."""
    x = images.to(torch.float32)
    if min(images.shape[2:]) < 3:
        return images
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * x[:, :, 1:-1, 1:-1]
    smooth = x.clone()  # the border stays
    smooth[:, :, 1:-1, 1:-1] = (sums / 13 + 0.5).floor()
    return _blend(smooth, images, factors)


def _blend(degenerate: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Return degenerate + factor * (image - degenerate), cut to bytes."""
    factors = _per_image(factors.to(torch.float32))
    blended = images.to(torch.float32).sub_(degenerate).mul_(factors).add_(degenerate)
    return blended.clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Return Pillow's luminance, or the rounded mean of channels that are not three.

    Shape: (B, C, H, W) -> (B, 1, H, W) int32.
    """
    count = images.shape[1]
    if count != 3:
        return ((2 * images.sum(1, keepdim=True) + count) // (2 * count)).to(torch.int32)
    red, green, blue = images.to(torch.int32).chunk(3, dim=1)
    grey = red.mul(19595).add_(green, alpha=38470).add_(blue, alpha=7471)
    return grey.add_(0x8000).bitwise_right_shift_(16)


# Filters and colour


def blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blur with a Gaussian, the image mirrored beyond its border."""
    H, W = images.shape[2:]
    radius = min(BLUR_RADIUS, H - 1, W - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    sigmas = sigmas.to(torch.float32)
    weights = torch.softmax(-((offsets / sigmas[:, None]) ** 2) / 2, dim=1)
    x = F.pad(images.to(torch.float32), (radius,) * 4, mode="reflect")
    taps = [_per_image(weight) for weight in weights.unbind(1)]
    x = torch.stack([tap * x[:, :, i : i + H] for i, tap in enumerate(taps)]).sum(0)
    x = torch.stack([tap * x[..., i : i + W] for i, tap in enumerate(taps)]).sum(0)
    return x.round().to(torch.uint8)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each colour around the circle of hues, at the same saturation and value."""
    if images.shape[1] != 3:
        return images
    red, green, blue = (images.to(torch.float32) / 255).unbind(1)
    low, value = torch.aminmax(torch.stack([red, green, blue]), dim=0)
    chroma = value - low
    divisor = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = hue + 6 * turns[:, None, None].to(torch.float32)
    channels = []
    for n in (5, 3, 1):  # red, green, blue: Wikipedia, "HSL and HSV", HSV to RGB alternative
        k = (n + hue) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return (torch.stack(channels, dim=1) * (256 - 1e-3)).to(torch.uint8)
