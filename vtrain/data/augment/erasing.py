"""Random erasing of normalised images. Reference: Zhong et al., arXiv:1708.04896."""

from functools import cache
from typing import Literal

import torch
from torch import Tensor

from vtrain import rng
from vtrain.data.crops import BOX_DRAWS, inside_boxes, random_boxes
from vtrain.data.draws import Draw, below, send

NOISE = 1 << 22  # normal numbers that all erased boxes of a run share


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
    inside = inside_boxes(send(boxes[rows], images.device), H, W)[:, None]
    starts = below(u[rows, 1], NOISE - C * H * W)
    rows, starts = send(rows, images.device), send(starts, images.device)
    if value == "pixel":
        # Windows of one long noise: hashing a number for every pixel would cost more than the rest.
        written = _noise(seed, images.device).unfold(0, C * H * W, 1)[starts]
        images[rows] = torch.where(inside, written.view(-1, C, H, W), images[rows])
    else:
        images[rows] = images[rows].masked_fill(inside, 0)
    return images


@cache
def _noise(seed: int, device: torch.device) -> Tensor:
    noise = torch.randn(NOISE, generator=rng.generator(seed, NOISE))
    return noise.to(device)
