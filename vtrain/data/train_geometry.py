"""What a loader's worker does to one training image.

Everything after it runs on whole batches on the device (`vtrain.data.augment`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vtrain.data.augment.crops import resized_crop_box
from vtrain.data.augment.draws import Stream
from vtrain.data.geometry import in_channels, in_colours, reduced
from vtrain.data.normalise import to_bytes
from vtrain.data.preprocess import Preprocess
from vtrain.files.large_jpeg import Box, LargeJpeg
from vtrain.files.lazy_image import samples_of
from vtrain.rng import hash_ints, row


@dataclass(frozen=True)
class TrainGeometry:
    """What a worker does to one training image; `Augment.geometry` makes it.

    A random crop by `crop_scale` and `crop_ratio`, as `CropFlip` explains them, or without a scale
    that of evaluation; then more transforms of the (C, S, S) uint8 image.

    Shape: a decoded image, its index in the dataset, epoch -> (C, S, S) uint8.
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

    def kept(self, image: Image.Image) -> Image.Image | None:
        """Return what may be kept of an image for all epochs, or None if it must be read again."""
        # Crops of a large JPEG come from smaller scales, which are decoded as they are needed.
        if isinstance(image, LargeJpeg) and self.preprocess.reducing_gap is not None:
            return None
        return self._in_channels(image)

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
        image = self._in_channels(image)
        width, height = image.size
        top, left, h, w = resized_crop_box(draw, height, width, self.crop_scale, self.crop_ratio)
        S, preprocess = self.preprocess.image_size, self.preprocess
        how = preprocess.interpolation, preprocess.reducing_gap
        smaller, whole = reduced(image, (w, h), (S, S), *how)
        if smaller is not image:
            part = (left / width, top / height, (left + w) / width, (top + h) / height)
            smaller = in_colours(smaller, preprocess.channels, preprocess.icc)
            return to_bytes(_scaled_part(smaller, whole, part, preprocess))
        crop = image.crop((left, top, left + w, top + h))
        crop = in_colours(crop, preprocess.channels, preprocess.icc)  # of a large JPEG, in full
        return _scaled(torch.from_numpy(samples_of(crop)), preprocess)  # of (h, w, C)

    def _in_channels(self, image: Image.Image) -> Image.Image:
        """Return an image with the channels that are asked for; a large JPEG is not decoded."""
        preprocess = self.preprocess
        return in_channels(image, preprocess.channels, preprocess.value_range, preprocess.icc)


def _scaled_part(image: Image.Image, whole: Box, part: Box, preprocess: Preprocess) -> Image.Image:
    """Scale a part of a reduced image, in shares of the whole, which begins between its pixels."""
    left, top, right, bottom = whole
    across, down = right - left, bottom - top
    box = (
        left + part[0] * across,
        top + part[1] * down,
        min(left + part[2] * across, image.width),  # rounding must not lead beyond it
        min(top + part[3] * down, image.height),
    )
    S, filter_ = preprocess.image_size, Image.Resampling[preprocess.interpolation.upper()]
    return image.resize((S, S), filter_, box)


def _scaled(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Scale bytes as torchvision scales a tensor, which is three times as fast as Pillow.

    The two round at other places: a result is within two steps of 255 of Pillow's. Evaluation does
    not come here.

    Shape: (h, w, C) uint8 -> (C, S, S) uint8.
    """
    S, mode = preprocess.image_size, preprocess.interpolation
    smooth = mode != "nearest"
    batch = pixels.permute(2, 0, 1)[None]
    scaled = F.interpolate(
        batch, (S, S), mode=mode if smooth else "nearest-exact", antialias=smooth
    )
    return scaled[0].contiguous()
