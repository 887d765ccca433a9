"""The augmentation of a training batch, from bytes to normalised floats."""

from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from vtrain.data.augment.colour import Colour, ColourPlan
from vtrain.data.augment.crop_flip import CropFlip, CropFlipPlan
from vtrain.data.augment.draws import Draw, Stream
from vtrain.data.augment.erasing import Erasing, ErasingPlan
from vtrain.data.augment.worker_transforms import WorkerTransform
from vtrain.data.geometry import PerChannel
from vtrain.data.normalise import normalise
from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry
from vtrain.registry import off
from vtrain.rng import uniforms


class AugmentPlan(NamedTuple):
    """What happens to each sample of a batch: `Augment.draw` returns it, `Augment.apply` does it.

    Shape: the first axis of every tensor is the batch.
    """

    crop_flip: CropFlipPlan
    colour: ColourPlan
    erasing: ErasingPlan | None


class Augment:
    """Augments a batch on its own device.

    Every number that decides what happens to a sample is a hash of (seed, epoch, index), so neither
    the batch that a sample is in, nor the device, nor a restart changes its image. The order is
    that of the published recipes: `transforms` in the workers, then crop and flips, colours,
    normalisation, erasing. The keys of the `augment` section are the keywords of these parts
    and of this class.

    Args:
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel.
        transforms: torchvision v2 transforms by name, for what runs in the workers.

    Raises:
        ValueError: A transform cannot be used.

    Shape: (B, C, S, S) uint8, (B,) int64 dataset indices, epoch -> (B, C, S, S) float32. Images
    that the workers have not cropped may have any size. Indices on a GPU are waited for.
    """

    def __init__(
        self,
        crop_flip: CropFlip,
        colour: Colour,
        erasing: Erasing,
        mean: PerChannel,
        std: PerChannel,
        seed: int,
        *,
        transforms: Annotated[tuple[WorkerTransform, ...], off(())] = (),
    ) -> None:
        self.crop_flip, self.colour, self.erasing = crop_flip, colour, erasing
        self.image_size = crop_flip.image_size
        self.mean, self.std, self.seed = mean, std, seed
        # Built here, and not in the workers, so that a wrong one is an error before training.
        self._transforms = tuple(
            transform.build(self.image_size, len(mean)) for transform in transforms
        )

    def geometry(self, preprocess: Preprocess) -> TrainGeometry:
        """Return what the workers do to each decoded image before it joins a batch."""
        scale, ratio = self.crop_flip.worker_scale, self.crop_flip.ratio
        return TrainGeometry(preprocess, self.seed, scale, ratio, self._transforms)

    def __call__(self, images: Tensor, indices: Tensor, epoch: int) -> Tensor:
        return self.apply(images, self.draw(indices.cpu(), epoch, images.shape[2:]))

    def draw(self, indices: Tensor, epoch: int, size: torch.Size) -> AugmentPlan:
        """Return what happens to each sample of (H, W) pixels: tensors on the CPU, for `apply`.

        Shape: `indices` (B,) int64 on the CPU.
        """

        def draw_from(stream: Stream) -> Draw:
            # A stream for each part: what one of them draws moves no number of another.
            return lambda count: uniforms(indices, count, self.seed, epoch, stream)

        # Only the crop sees images of another size than the model's.
        cropped = torch.Size((self.image_size, self.image_size))
        return AugmentPlan(
            self.crop_flip.draw(draw_from, size),
            self.colour.draw(draw_from, cropped),
            self.erasing.draw(draw_from, cropped),
        )

    def apply(self, images: Tensor, plan: AugmentPlan) -> Tensor:
        """Do what `draw` returned, on the device of the images. Shape: as for a call.

        The plan is on the CPU, so that the host knows which samples an operation is for.
        """
        images = self.crop_flip.apply(images, plan.crop_flip)
        images = self.colour.apply(images, plan.colour)
        images = normalise(images, self.mean, self.std)  # from here on float32
        return self.erasing.apply(images, plan.erasing)
