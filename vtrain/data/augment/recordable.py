"""Augmentation and mixing in two halves: what the host draws, and device work that never varies."""

from typing import NamedTuple

import torch
from torch import Tensor

from vtrain.data.augment.augment import Augment, Drawn
from vtrain.data.augment.mixing import Mixing, Mixture
from vtrain.data.loading.loader import Batch

LARGEST = 64
"""Pixels per side up to which the augmentation is recorded with the step.

Recorded, every operation goes over the whole batch. For small images that is little work, and a
short step waits for the launches that it saves; for large ones it is much, and a long step hides
the launches. The bound is a guess and not measured yet.
"""


class DrawnInput(NamedTuple):
    """What is done to a batch before the model sees it: drawn on the CPU."""

    augment: Drawn
    mixing: Mixture | None


class RecordableInput:
    """Prepares a batch by the same work in every step, so that a `StepGraph` can record it.

    Args:
        augment: What happens to each image.
        mixing: What happens to pairs of them.
    """

    def __init__(self, augment: Augment, mixing: Mixing) -> None:
        self.augment, self.mixing = augment, mixing

    def draw(self, batch: Batch, step: int, epoch: int) -> DrawnInput:
        """Return what the augmentation and the mixing of this step do to each sample."""
        size, S = batch.images.shape[2:], self.augment.image_size
        return DrawnInput(
            self.augment.draw(batch.indices, epoch, size),
            self.mixing.draw(len(batch.images), batch.start, step, epoch, torch.Size((S, S))),
        )

    def apply(self, images: Tensor, targets: Tensor, drawn: DrawnInput) -> tuple[Tensor, Tensor]:
        """Do what was drawn; all tensors are on the device.

        Shape: (B, 3, H, W) uint8, (B,) int64 -> (B, 3, S, S) float32, and the targets of `Mixing`.
        """
        images = self.augment.apply(images, drawn.augment, everywhere=True)
        return self.mixing.apply(images, targets, drawn.mixing)
