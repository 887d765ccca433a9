"""Random erasing of normalised images. Reference: Zhong et al., arXiv:1708.04896."""

from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vtrain import rng
from vtrain.data.augment.crops import BOX_DRAWS, inside_boxes, random_boxes
from vtrain.data.augment.draws import Draw, Stream, below, send

NOISE = 1 << 20
"""Places where an image's noise may begin in the one long noise of the run."""


class Erasure(NamedTuple):
    """Which box of each sample is overwritten: drawn on the CPU, carried out by `erase`."""

    boxes: Tensor
    """Top, left, height and width; 0 high where nothing is erased. Shape: (B, 4) int64."""
    starts: Tensor
    """Where a sample's noise begins in the noise of the run. Shape: (B,) int64."""


def draw_erasure(
    draw: Draw,
    size: torch.Size,
    probability: float,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Erasure:
    """Draw a box for some of the samples.

    Args:
        draw: The source of uniforms.
        size: Height and width of the images.
        probability: Chance of each image.
        scale: Range of the box's share of the area.
        ratio: Range of its height over its width.
    """
    H, W = size
    u = draw(2 + BOX_DRAWS)
    width_ratio = (1 / ratio[1], 1 / ratio[0])
    boxes, found = random_boxes(u[:, 2:], H, W, scale, width_ratio, (H - 1, W - 1))
    is_erased = found & (u[:, 0] < probability)
    return Erasure(boxes * is_erased[:, None], below(u[:, 1], NOISE))


def erase(
    images: Tensor, erasure: Erasure, value: Literal["constant", "pixel"], seed: int
) -> Tensor:
    """Overwrite a random box of some images, with the mean colour (0) or with normal noise.

    The host looks at the boxes, which are on the CPU, and leaves the other images alone.

    Args:
        images: Normalised images; may be changed in place.
        erasure: The boxes.
        value: What to write.
        seed: Seed of the noise.

    Shape: (B, C, H, W) float -> the same.
    """
    rows = erasure.boxes[:, 2].nonzero()[:, 0]
    if not len(rows):
        return images
    C, H, W = images.shape[1:]
    boxes, starts, rows = (
        send(numbers, images.device)
        for numbers in (erasure.boxes[rows], erasure.starts[rows], rows)
    )
    inside = inside_boxes(boxes, H, W)[:, None]  # (rows, 1, H, W)
    if value == "constant":
        images[rows] = images[rows].masked_fill(inside, 0)
        return images
    # Windows of one long noise: hashing a number for every pixel would cost more than the rest.
    noise = _noise(seed, C * H * W, images.device)[starts].view(-1, C, H, W)
    images[rows] = torch.where(inside, noise, images[rows])
    return images


@cache
def _noise(seed: int, length: int, device: torch.device) -> Tensor:
    """Return overlapping windows of normal noise, as a view. Shape: (NOISE + 1, length)."""
    noise = torch.randn(NOISE + length, generator=rng.generator(seed, Stream.ERASING))
    return noise.to(device).unfold(0, length, 1)
