"""Random erasing of normalised images. Reference: Zhong et al., arXiv:1708.04896."""

from functools import cache
from typing import Literal

import torch
from torch import Tensor

from vtrain import rng
from vtrain.data.crops import BOX_DRAWS, inside_boxes, random_boxes
from vtrain.data.draws import Draw, Stream, below, send

NOISE = 1 << 20
"""Places where an image's noise may begin in the one long noise of the run."""


def erase(
    images: Tensor,
    draw: Draw,
    probability: float,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    value: Literal["constant", "pixel"],
    seed: int,
) -> Tensor:
    """Overwrite a random box of some images, with the mean colour (0) or with normal noise.

    Args:
        images: Normalised images; changed in place.
        draw: The source of uniforms.
        probability: Chance of each image.
        scale: Range of the box's share of the area.
        ratio: Range of its height over its width.
        value: What to write.
        seed: Seed of the noise.

    Shape: (B, C, H, W) float -> the same.
    """
    C, H, W = images.shape[1:]
    u = draw(2 + BOX_DRAWS)
    width_ratio = (1 / ratio[1], 1 / ratio[0])
    boxes, found = random_boxes(u[:, 2:], H, W, scale, width_ratio, (H - 1, W - 1))
    rows = (found & (u[:, 0] < probability)).nonzero()[:, 0]
    if not len(rows):
        return images
    starts = send(below(u[rows, 1], NOISE), images.device)
    inside = inside_boxes(send(boxes[rows], images.device), H, W)[:, None]
    rows = send(rows, images.device)
    if value == "constant":
        images[rows] = images[rows].masked_fill(inside, 0)
    else:
        # Windows of one long noise: hashing a number for every pixel would cost more than the rest.
        noise = _noise(seed, C * H * W, images.device)[starts].view(-1, C, H, W)
        images[rows] = torch.where(inside, noise, images[rows])
    return images


@cache
def _noise(seed: int, length: int, device: torch.device) -> Tensor:
    """Return overlapping windows of normal noise, as a view. Shape: (NOISE + 1, length)."""
    noise = torch.randn(NOISE + length, generator=rng.generator(seed, Stream.ERASING))
    return noise.to(device).unfold(0, length, 1)
