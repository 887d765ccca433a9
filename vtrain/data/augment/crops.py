"""Crops of whole batches: one gather to pad, crop and mirror, two matrix products to resize."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CROP_DRAWS = 22  # uniforms for one resized crop: 10 attempts of (area, ratio), then top and left


def pad_crop_flip(
    images: Tensor, tops: Tensor, lefts: Tensor, flips: Tensor, padding: int
) -> Tensor:
    """Pad with black, cut a window of the old size at (tops, lefts), and mirror it where `flips`.

    Shape: (B, C, H, W) uint8, three of (B,) -> (B, C, H, W).
    """
    H, W = images.shape[2:]
    padded = F.pad(images, (padding,) * 4)
    rows = tops[:, None] + torch.arange(H, device=images.device)
    columns = torch.arange(W, device=images.device)
    columns = lefts[:, None] + torch.where(flips[:, None], W - 1 - columns, columns)
    pixels = rows[:, :, None] * (W + 2 * padding) + columns[:, None, :]  # (B, H, W)
    pixels = pixels.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return padded.flatten(2).gather(2, pixels).view_as(images)


def resized_crop_boxes(
    u: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Turn uniforms into crop boxes by the rule of torchvision's RandomResizedCrop.

    An attempt draws the crop's share of the area and the logarithm of width / height, and counts
    if it fits; after ten misses the box is the largest central one of an allowed ratio.

    Shape: (B, 22) in [0, 1) -> (B, 4) int64: top, left, height, width.
    """
    u = u.to(torch.float64)  # float32 would round the sides differently from one device to another
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[:, 0:20:2])  # (B, 10)
    aspect = (log_low + (log_high - log_low) * u[:, 1:20:2]).exp()
    w, h = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)
    found = fits.any(1)
    nearest = min(max(width / height, ratio[0]), ratio[1])  # the allowed ratio of the fallback
    fallback_w, fallback_h = (
        min(width, round(height * nearest)),
        min(height, round(width / nearest)),
    )
    w = torch.where(found, w.gather(1, first)[:, 0], fallback_w)
    h = torch.where(found, h.gather(1, first)[:, 0], fallback_h)
    # The centre is the floor, as in torchvision's fallback.
    top = torch.where(found, (u[:, 20] * (height - h + 1)).long(), (height - h) // 2)
    left = torch.where(found, (u[:, 21] * (width - w + 1)).long(), (width - w) // 2)
    return torch.stack([top, left, h, w], dim=1)
