"""Where a training image is cropped, and which way round it is."""

from typing import Annotated, Literal, NamedTuple, TypeAlias

import torch
from pydantic import AfterValidator, Field, NonNegativeInt
from torch import Tensor

from vtrain.data.augment.crops import (
    BOX_DRAWS,
    FILTERS,
    pad_crop_flip,
    resized_crop,
    resized_crop_boxes,
)
from vtrain.data.augment.draws import Stream, Streams, below, send
from vtrain.data.geometry import Interpolation
from vtrain.registry import Fraction, off


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first number ({pair[0]}) must not exceed the second ({pair[1]})")
    return pair


Positive: TypeAlias = Annotated[float, Field(gt=0)]
Area: TypeAlias = Annotated[float, Field(gt=0, le=1)]
AreaRange: TypeAlias = Annotated[tuple[Area, Area], AfterValidator(_ascending)]
PositiveRange: TypeAlias = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]


class CropFlipPlan(NamedTuple):
    """What happens to each sample of a batch."""

    crops: Tensor
    """Top and left of a padded crop, (B, 2); or these, height and width, (B, 4). int64."""
    flip_horizontal: Tensor
    """Shape: (B,) bool."""
    flip_vertical: Tensor
    """Shape: (B,) bool."""


class CropFlip:
    """Crops and flips a batch on its own device. The keywords are keys of the `augment` section.

    Args:
        image_size: Pixels per side of the result.
        interpolation: How a resized crop is scaled.
        cropped: Whether the workers make the resized crop. They must, unless all images have one
            size.
        crop: `pad` pads with black and takes a random window; `resized` scales a random part of
            random shape to `image_size`; `none` keeps the evaluation geometry.
        crop_padding: Pixels on each side.
        crop_scale: Range of the resized crop's share of the area.
        crop_ratio: Range of the resized crop's width over height.
        horizontal_flip: Probability of mirroring left and right.
        vertical_flip: Probability of turning upside down.

    Raises:
        ValueError: The device cannot scale by this interpolation.
    """

    def __init__(
        self,
        image_size: int,
        interpolation: Interpolation = "bicubic",
        cropped: bool = True,
        *,
        crop: Annotated[Literal["pad", "resized", "none"], off("none")] = "pad",
        crop_padding: NonNegativeInt = 4,
        crop_scale: AreaRange = (0.08, 1.0),
        crop_ratio: PositiveRange = (3 / 4, 4 / 3),
        horizontal_flip: Annotated[Fraction, off(0.0)] = 0.5,
        vertical_flip: Annotated[Fraction, off(0.0)] = 0.0,
    ) -> None:
        # Images that all have the model's size are cropped here, with everything else; workers do
        # it to all others, so that a batch has one size.
        self.resizes = crop == "resized" and not cropped
        if self.resizes and interpolation not in FILTERS:
            choices = ", ".join(FILTERS)
            raise ValueError(f"interpolation ({interpolation}) must be one of {choices} here")
        self.image_size, self.interpolation = image_size, interpolation
        self.padding = crop_padding if crop == "pad" else 0
        self.scale, self.ratio = crop_scale, crop_ratio
        self.worker_scale = crop_scale if crop == "resized" and cropped else None
        """What a worker is told: `TrainGeometry.crop_scale`."""
        self.horizontal_flip, self.vertical_flip = horizontal_flip, vertical_flip

    def draw(self, streams: Streams, size: torch.Size) -> CropFlipPlan:
        """Draw where the crops of images of (H, W) pixels are, and which samples are flipped."""
        # Four numbers in any case, so that a flip does not depend on how the image is cropped.
        top, left, across, down = streams(Stream.FLIP)(4).unbind(1)
        flips = across < self.horizontal_flip, down < self.vertical_flip
        if self.resizes:
            u, (H, W) = streams(Stream.CROP)(BOX_DRAWS), size
            return CropFlipPlan(resized_crop_boxes(u, H, W, self.scale, self.ratio), *flips)
        windows = 2 * self.padding + 1  # along each side; 1 where nothing is padded
        return CropFlipPlan(torch.stack([below(top, windows), below(left, windows)], 1), *flips)

    def apply(self, images: Tensor, plan: CropFlipPlan) -> Tensor:
        """Do what was planned. Shape: (B, C, H, W) uint8 -> (B, C, S, S) uint8."""
        crops, flip_x, flip_y = (send(numbers, images.device) for numbers in plan)
        S = self.image_size
        if self.resizes:
            return resized_crop(images, crops, flip_x, flip_y, S, self.interpolation)
        given, wanted = tuple(images.shape[2:]), (S, S)
        assert given == wanted, f"the geometry gave {given}, not {wanted}"
        tops, lefts = crops.unbind(1)
        return pad_crop_flip(images, tops, lefts, flip_x, flip_y, self.padding)
