"""Random erasing of normalised images. Reference: Zhong et al., arXiv:1708.04896."""

from functools import cache
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from vtrain import rng
from vtrain.data.augment.crop_flip import AreaRange, PositiveRange
from vtrain.data.augment.crops import BOX_DRAWS, inside_boxes, random_boxes
from vtrain.data.augment.draws import Stream, Streams, below, send
from vtrain.registry import Fraction, off

NOISE = 1 << 20
"""Places where an image's noise may begin in the one long noise of the run."""


class ErasingPlan(NamedTuple):
    """Which box of each sample is overwritten: drawn on the CPU."""

    boxes: Tensor
    """Top, left, height and width; 0 high where nothing is erased. Shape: (B, 4) int64."""
    starts: Tensor
    """Where a sample's noise begins in the noise of the run. Shape: (B,) int64."""


class Erasing:
    """Overwrites a random box of some images. The keywords are keys of the `augment` section.

    Args:
        seed: Seed of the noise.
        erasing: Probability of overwriting a random box.
        erasing_scale: Range of the box's share of the area.
        erasing_ratio: Range of the box's height over width.
        erasing_value: What it is overwritten with: `constant` is the mean colour, `pixel` noise.
    """

    def __init__(
        self,
        seed: int,
        *,
        erasing: Annotated[Fraction, off(0.0)] = 0.0,
        erasing_scale: AreaRange = (0.02, 1 / 3),
        erasing_ratio: PositiveRange = (0.3, 1 / 0.3),
        erasing_value: Literal["constant", "pixel"] = "constant",
    ) -> None:
        self.seed, self.probability, self.scale = seed, erasing, erasing_scale
        # Zhong et al. give height over width, random_boxes takes width over height.
        self.width_ratio = 1 / erasing_ratio[1], 1 / erasing_ratio[0]
        self.value = erasing_value

    def draw(self, streams: Streams, size: torch.Size) -> ErasingPlan | None:
        """Draw a box for some of the samples of (H, W) pixels; None: there is no erasing."""
        if not self.probability:
            return None
        H, W = size
        u = streams(Stream.ERASING)(2 + BOX_DRAWS)
        largest = H - 1, W - 1  # a box never covers the whole image
        boxes, fits = random_boxes(u[:, 2:], H, W, self.scale, self.width_ratio, largest)
        is_erased = fits & (u[:, 0] < self.probability)
        return ErasingPlan(boxes * is_erased[:, None], below(u[:, 1], NOISE))

    def apply(self, images: Tensor, plan: ErasingPlan | None) -> Tensor:
        """Overwrite the boxes with the mean colour, which is 0 here, or with normal noise.

        The images may be changed in place. The host looks at the boxes, which are on the CPU, and
        leaves the other images alone.

        Shape: (B, C, H, W) float -> the same.
        """
        if plan is None:
            return images
        rows = plan.boxes[:, 2].nonzero()[:, 0]
        if not len(rows):
            return images
        C, H, W = images.shape[1:]
        some = plan.boxes[rows], plan.starts[rows], rows
        boxes, starts, rows = (send(numbers, images.device) for numbers in some)
        inside = inside_boxes(boxes, H, W)[:, None]  # (rows, 1, H, W)
        if self.value == "constant":
            images[rows] = images[rows].masked_fill(inside, 0)
            return images
        # Windows of one long noise: hashing a number for every pixel would cost more than the rest.
        noise = _noise(self.seed, C * H * W, images.device)[starts].view(-1, C, H, W)
        images[rows] = torch.where(inside, noise, images[rows])
        return images


@cache
def _noise(seed: int, length: int, device: torch.device) -> Tensor:
    """Return overlapping windows of normal noise, as a view. Shape: (NOISE + 1, length)."""
    noise = torch.randn(NOISE + length, generator=rng.generator(seed, Stream.ERASING))
    return noise.to(device).unfold(0, length, 1)
