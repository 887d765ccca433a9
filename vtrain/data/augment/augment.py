"""The augmentation of a training batch, from bytes to normalised floats."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt
from torch import Tensor

from vtrain.data.augment.crops import pad_crop_flip
from vtrain.data.augment.draws import Stream, draws
from vtrain.data.preprocess import Preprocess, TrainGeometry, Triple, normalise
from vtrain.registry import Fraction

Positive = Annotated[float, Field(gt=0)]


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first number ({pair[0]}) must not exceed the second ({pair[1]})")
    return pair


AreaRange = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]],
    AfterValidator(_ordered),
]
"""Smallest and largest share of an image's area."""
RatioRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
"""Smallest and largest width over height."""


class Augment:
    """Augments a batch on its own device. The keywords are the keys of the `augment` section.

    Every number that decides what happens to a sample is a hash of (seed, epoch, index), so neither
    the batch that a sample is in, nor the device, nor a restart changes its image.

    Args:
        image_size: Pixels per side of the result.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel.
        seed: Seed of the run.
        crop: `pad` pads by `crop_padding` and takes a random window; `resized` takes a random part
            of random shape and scales it to `image_size`; `none` keeps the evaluation geometry.
        crop_padding: Pixels on each side.
        crop_scale: Range of the resized crop's share of the area.
        crop_ratio: Range of the resized crop's width over height.
        horizontal_flip: Probability of mirroring left and right.

    Shape: (B, 3, H, W) uint8, (B,) int64 dataset indices, epoch -> (B, 3, S, S) float32. H = W = S
    unless `crop` is `resized` and the workers left it to the device.
    """

    def __init__(
        self,
        image_size: int,
        mean: Triple,
        std: Triple,
        seed: int,
        *,
        crop: Literal["pad", "resized", "none"] = "pad",
        crop_padding: NonNegativeInt = 4,
        crop_scale: AreaRange = (0.08, 1.0),
        crop_ratio: RatioRange = (3 / 4, 4 / 3),
        horizontal_flip: Fraction = 0.5,
    ) -> None:
        self.image_size, self.mean, self.std, self.seed = image_size, mean, std, seed
        self.crop, self.crop_padding = crop, crop_padding
        self.crop_scale, self.crop_ratio = crop_scale, crop_ratio
        self.horizontal_flip = horizontal_flip

    def geometry(self, preprocess: Preprocess) -> TrainGeometry:
        """Return what the workers do to each decoded image before it joins a batch."""
        scale = self.crop_scale if self.crop == "resized" else None
        return TrainGeometry(preprocess, self.seed, scale, self.crop_ratio)

    def __call__(self, images: Tensor, indices: Tensor, epoch: int) -> Tensor:
        images = self._cropped(images, indices.to(images.device), epoch)
        return normalise(images, self.mean, self.std)

    def _cropped(self, images: Tensor, indices: Tensor, epoch: int) -> Tensor:
        u = draws(indices, 3, self.seed, epoch, Stream.FLIP)
        padding = self.crop_padding if self.crop == "pad" else 0
        tops, lefts = (u[:, :2] * (2 * padding + 1)).long().unbind(1)
        return pad_crop_flip(images, tops, lefts, u[:, 2] < self.horizontal_flip, padding)
