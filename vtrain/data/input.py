"""From a batch of bytes to the model's input: augmentation and mixing as one object."""

from typing import NamedTuple

import torch
from torch import Tensor

from vtrain.data.augment.augment import Augment, AugmentPlan
from vtrain.data.augment.mixing import Mixing, MixingPlan
from vtrain.data.loading.batches import Batch


class InputPlan(NamedTuple):
    """What is done to a batch before the model sees it: drawn on the CPU."""

    augment: AugmentPlan
    mixing: MixingPlan | None


class Input:
    """Makes the model's input and targets from a batch: augments each image, then mixes pairs.

    Augmentation depends on (seed, epoch, index) of each sample, mixing on (seed, step, position in
    the batch of all processes), so a batch may be made again at any time and anywhere.

    Shape: (B, C, H, W) uint8 images and (B,) int64 targets -> (B, C, S, S) float32, and (B,) int64
    targets, or (B, K) float32 ones where images are mixed or have several labels to begin with.
    """

    def __init__(self, augment: Augment, mixing: Mixing) -> None:
        self.augment, self.mixing = augment, mixing

    def __call__(self, batch: Batch, step: int, epoch: int) -> tuple[Tensor, Tensor]:
        return self.apply(batch.images, batch.targets, self.draw(batch, step, epoch))

    def draw(self, batch: Batch, step: int, epoch: int) -> InputPlan:
        """Return what happens to each sample of a batch in this step: tensors on the CPU."""
        S = self.augment.image_size
        # Mixing sees what augmentation returns: (S, S) pixels, whatever the batch had.
        return InputPlan(
            self.augment.draw(batch.indices, epoch, batch.images.shape[2:]),
            self.mixing.draw(len(batch.images), batch.start, step, epoch, torch.Size((S, S))),
        )

    def apply(self, images: Tensor, targets: Tensor, plan: InputPlan) -> tuple[Tensor, Tensor]:
        """Do what was drawn, on the device of the images; this does not wait for it."""
        # Augmented first: mixed images are sums, to which no crop or colour of one could apply.
        return self.mixing.apply(self.augment.apply(images, plan.augment), targets, plan.mixing)


def no_augmentation(batch: Batch, step: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Stand in for an `Input` where a batch is the model's input already, as in a benchmark."""
    return batch.images, batch.targets
