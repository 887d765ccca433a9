"""The random numbers of augmentation: one stream for each decision, one row for each sample.

Augmentation draws on the CPU, whatever device the images are on: the host then knows what happens
to which sample without asking the device.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import TypeAlias

import torch
from torch import Tensor

Draw: TypeAlias = Callable[[int], Tensor]
"""Count -> that many uniforms in [0, 1) for each sample. Shape: (B, count)."""


class Stream(IntEnum):
    """What a number decides. A stream of its own keeps decisions independent of each other."""

    # The values are a part of each hash: changing one changes every image of that kind.
    CROP = 1
    FLIP = 2
    POLICY = 3
    COLOUR = 4
    ERASING = 5
    TRANSFORMS = 6
    MIXING = 7


Streams: TypeAlias = Callable[[Stream], Draw]
"""Stream -> its uniforms for a batch. Streams are asked for by name, so their order is free."""


def between(u: Tensor, low: float, high: float) -> Tensor:
    """Stretch uniforms in [0, 1) to [low, high). Returns float64."""
    return low + (high - low) * u.to(torch.float64)


def below(u: Tensor, count: int | Tensor) -> Tensor:
    """Turn uniforms in [0, 1) into integers in [0, count). Returns int64."""
    return (u.to(torch.float64) * count).long()  # in float32 it might round up to `count`


def send(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy a few numbers to a device without waiting for it."""
    return numbers.to(device, non_blocking=True)
