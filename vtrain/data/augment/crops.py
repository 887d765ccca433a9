"""Crops of whole batches: one gather to pad, crop and mirror, two matrix products to resize."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Box: TypeAlias = tuple[int, int, int, int]
"""Top, left, height, width."""
WEIGHT_ONE = 1 << 22  # Pillow scales with weights of so many parts
BOX_DRAWS = 22  # uniforms for one random box: 10 attempts of (area, ratio), then top and left


def pad_crop_flip(
    images: Tensor,
    tops: Tensor,
    lefts: Tensor,
    flip_horizontal: Tensor,
    flip_vertical: Tensor,
    padding: int,
) -> Tensor:
    """Pad with black, cut a window of the old size at (tops, lefts), and flip it where asked.

    Shape: (B, C, H, W) uint8, two of (B,) int64, two of (B,) bool -> (B, C, H, W).
    """
    H, W = images.shape[2:]
    if padding:
        images = F.pad(images, (padding,) * 4)
    down, across = (torch.arange(side, device=images.device) for side in (H, W))
    rows = tops[:, None] + torch.where(flip_vertical[:, None], H - 1 - down, down)
    columns = lefts[:, None] + torch.where(flip_horizontal[:, None], W - 1 - across, across)
    pixels = (rows[:, :, None] * (W + 2 * padding) + columns[:, None, :]).flatten(1)
    pixels = pixels[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, pixels).view(len(images), -1, H, W)


def random_boxes(
    u: Tensor,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    largest: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Turn uniforms into boxes by the rule of torchvision's RandomResizedCrop and RandomErasing.

    An attempt draws the box's share of the area and the logarithm of its width over its height, and
    counts if the box fits into `largest` (height, width). After ten misses there is no box.

    Shape: (B, 22) in [0, 1) -> (B, 4) int64 (top, left, height, width), (B,) bool: there is a box.
    """
    v = u.numpy().astype(np.float64)  # a worker has one row, where torch takes three times as long
    area = height * width * (scale[0] + (scale[1] - scale[0]) * v[:, 0:20:2])  # (B, 10)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = np.exp(low + (high - low) * v[:, 1:20:2])
    w, h = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (w > 0) & (w <= largest[1]) & (h > 0) & (h <= largest[0])
    # `argmax` finds the first attempt that fits, and the first of all where none does.
    first = np.arange(len(v)), fits.argmax(1)
    w, h = w[first], h[first]
    top, left = np.floor(v[:, 20] * (height - h + 1)), np.floor(v[:, 21] * (width - w + 1))
    boxes = np.stack([top, left, h, w], axis=1).astype(np.int64)
    return torch.from_numpy(boxes), torch.from_numpy(fits.any(1))


def inside_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Mark the pixels inside boxes; what hangs over the image's border is cut off.

    Shape: (B, 4) int64 (top, left, height, width) -> (B, H, W) bool.
    """
    top, left, h, w = boxes[:, :, None, None].unbind(1)
    down = torch.arange(height, device=boxes.device)[:, None]
    across = torch.arange(width, device=boxes.device)
    return (down >= top) & (down < top + h) & (across >= left) & (across < left + w)


def resized_crop_boxes(
    u: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Draw the boxes of a random resized crop: where nothing fits, the largest central one.

    Shape: (B, 22) in [0, 1) -> (B, 4) int64 (top, left, height, width).
    """
    boxes, fits = random_boxes(u, height, width, scale, ratio, (height, width))
    central = torch.tensor(_central_box(height, width, ratio))
    return torch.where(fits[:, None], boxes, central)


def resized_crop_box(
    draw: Callable[[int], float],
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Box:
    """Draw the box of one image: what `resized_crop_boxes` gives for the same uniforms.

    The rule stands twice because each form is too slow in the other's place: a worker crops one
    image at a time, and arrays of one row would cost half of a JPEG's decoding; a loop over a batch
    of small images would cost the host more than a fast GPU takes for their step. A test holds the
    two to the same boxes. `draw` gives the uniforms by their column.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(0, 20, 2):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * draw(attempt))
        aspect = math.exp(low + (high - low) * draw(attempt + 1))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(draw(20) * (height - h + 1)), int(draw(21) * (width - w + 1)), h, w
    return _central_box(height, width, ratio)


def _central_box(height: int, width: int, ratio: tuple[float, float]) -> Box:
    """Return the largest central box whose shape is in the range."""
    aspect = min(max(width / height, ratio[0]), ratio[1])
    h, w = min(height, round(width / aspect)), min(width, round(height * aspect))
    return (height - h) // 2, (width - w) // 2, h, w


def resized_crop(
    images: Tensor,
    boxes: Tensor,
    flip_horizontal: Tensor,
    flip_vertical: Tensor,
    size: int,
    interpolation: str,
) -> Tensor:
    """Cut a box out of each image, scale it to size x size as Pillow does, and flip it where asked.

    For images that are kept in memory at one size: no worker sees them, which could crop them one
    by one. Scaling is a matrix product from the right and one from the left, with values cut to
    bytes in between. Weights are Pillow's integers, and float64 sums those exactly in any order, so
    the result is Pillow's on every device.

    Shape: (B, C, H, W) uint8, (B, 4) int64, two of (B,) bool -> (B, C, S, S) uint8.
    """
    H, W = images.shape[2:]
    top, left, h, w = boxes.unbind(1)
    vertical = _scaling(top, h, H, size, interpolation)
    horizontal = _scaling(left, w, W, size, interpolation)
    vertical = torch.where(flip_vertical[:, None, None], vertical.flip(1), vertical)
    horizontal = torch.where(flip_horizontal[:, None, None], horizontal.flip(1), horizontal)
    narrow = _to_bytes(images.to(torch.float64) @ horizontal.mT[:, None])  # (B, C, H, S)
    return _to_bytes(vertical[:, None] @ narrow).to(torch.uint8)


def _to_bytes(sums: Tensor) -> Tensor:
    return (sums / WEIGHT_ONE + 0.5).floor_().clamp_(0, 255)


def _scaling(starts: Tensor, lengths: Tensor, source: int, size: int, interpolation: str) -> Tensor:
    """Return the weights of source pixels in results, times `WEIGHT_ONE`.

    Shape: (B,), (B,) -> (B, size, source) float64, whole numbers.
    """
    kernel, support = FILTERS[interpolation]
    device = starts.device
    scale = lengths.to(torch.float64)[:, None, None] / size
    spread = scale.clamp(min=1)  # shrinking averages over more pixels
    centres = (torch.arange(size, device=device)[:, None] + 0.5) * scale
    pixels = torch.arange(source, device=device) - starts[:, None, None]  # counted from the box
    distance = (pixels + 0.5 - centres) / spread
    inside = (pixels >= 0) & (pixels < lengths[:, None, None]) & (distance.abs() < support)
    weights = torch.where(inside, kernel(distance.abs()), 0.0)
    weights = WEIGHT_ONE * weights / weights.sum(2, keepdim=True)
    return (weights.abs() + 0.5).floor_().copysign_(weights)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution with a = -0.5, as in Pillow."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, far)


FILTERS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "bilinear": (lambda x: 1 - x, 1.0),
    "bicubic": (_cubic, 2.0),
}
"""Weight at a distance from the centre, and the distance from which on it is 0."""
