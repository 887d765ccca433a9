"""Augmentation and mixing in two halves: what the host draws, and device work that never varies."""

from typing import NamedTuple

import torch
from torch import Tensor

from vtrain.data.augment.augment import Augment, Drawn
from vtrain.data.loader import Batch
from vtrain.data.mixing import Mixing, Mixture

LARGEST = 64
"""Pixels per side of the largest images for which it is a gain to record the augmentation.

Recorded, every operation goes over the whole batch. That is next to nothing at CIFAR's size, where
300 launches take as long as the rest of the step; at 224 pixels it would cost more than launches
that a long step hides. The launches were counted, the bound is not measured yet.
"""


class DrawnInput(NamedTuple):
    """What is done to a batch before the model sees it: tensors on the CPU."""

    augment: Drawn
    mixing: Mixture | None


class RecordableInput:
    """Prepares a batch by the same work in every step, so that a `StepGraph` can record it.

    Args:
        augment: The augmentation; the images are already of its size.
        mixing: The mixing.
    """

    def __init__(self, augment: Augment, mixing: Mixing) -> None:
        self.augment, self.mixing = augment, mixing

    def draw(self, batch: Batch, step: int, epoch: int) -> DrawnInput:
        """Return what the augmentation and the mixing of this step do to each sample."""
        size, S = batch.images.shape[2:], self.augment.image_size
        positions = torch.arange(batch.start, batch.start + len(batch.images))
        return DrawnInput(
            self.augment.draw(batch.indices, epoch, size),
            self.mixing.draw(positions, step, epoch, torch.Size((S, S))),
        )

    def apply(self, images: Tensor, targets: Tensor, drawn: DrawnInput) -> tuple[Tensor, Tensor]:
        """Do what was drawn; all tensors are on the device.

        Shape: (B, 3, H, W) uint8, (B,) int64 -> (B, 3, S, S) float32, and the targets of `Mixing`.
        """
        images = self.augment.apply(images, drawn.augment, uniform=True)
        return self.mixing.apply(images, targets, drawn.mixing)
