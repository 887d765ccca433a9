"""What a loader's worker does to one training image.

Everything after it runs on whole batches on the device (`vtrain.data.augment`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vtrain.data.augment.crops import resized_crop_box
from vtrain.data.augment.draws import Stream
from vtrain.data.preprocess import Preprocess
from vtrain.rng import hash_ints, row


@dataclass(frozen=True)
class TrainGeometry:
    """What a worker does to one training image; `Augment.geometry` makes it.

    A random crop by `crop_scale` and `crop_ratio`, as `CropFlip` explains them, or without a scale
    that of evaluation; then more transforms of the (3, S, S) uint8 image.

    Shape: an RGB image, its index in the dataset, epoch -> (3, S, S) uint8.
    """

    preprocess: Preprocess
    seed: int
    crop_scale: tuple[float, float] | None
    crop_ratio: tuple[float, float]
    transforms: tuple[Callable[[Tensor], Tensor], ...] = ()

    @property
    def varies(self) -> bool:
        """Whether the result depends on the epoch, and so must not be kept."""
        return self.crop_scale is not None or bool(self.transforms)

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        pixels = self._cropped(image, index, epoch)
        if not self.transforms:
            return pixels
        # Transforms draw from torch's global generator: seeded for this image, restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                hash_ints(self.seed, epoch, index, Stream.TRANSFORMS)
            )
            for transform in self.transforms:
                pixels = transform(pixels)
        return pixels

    def _cropped(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        if self.crop_scale is None:
            return self.preprocess(image)
        draw = row(index, self.seed, epoch, Stream.CROP)
        width, height = image.size
        top, left, h, w = resized_crop_box(draw, height, width, self.crop_scale, self.crop_ratio)
        crop = np.array(image.crop((left, top, left + w, top + h)))  # (h, w, 3)
        return _scaled(torch.from_numpy(crop), self.preprocess)


def _scaled(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Scale bytes as torchvision scales a tensor, which is three times as fast as Pillow.

    The two round at other places: a result is within two steps of 255 of Pillow's. Evaluation does
    not come here.

    Shape: (h, w, 3) uint8 -> (3, S, S) uint8.
    """
    S, mode = preprocess.image_size, preprocess.interpolation
    smooth = mode != "nearest"
    batch = pixels.permute(2, 0, 1)[None]
    scaled = F.interpolate(
        batch, (S, S), mode=mode if smooth else "nearest-exact", antialias=smooth
    )
    return scaled[0].contiguous()
