"""The augmentation of a training batch, from bytes to normalised floats."""

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor

from vtrain.data.augment.erasing import erase
from vtrain.data.augment.operations import Op, apply
from vtrain.data.augment.policies import Policy
from vtrain.data.augment.worker import WorkerTransform
from vtrain.data.crops import BOX_DRAWS, KERNELS, pad_crop_flip, resized_crop, resized_crop_boxes
from vtrain.data.draws import Draw, Stream, below, between, draws, send
from vtrain.data.preprocess import Interpolation, Preprocess, TrainGeometry, Triple, normalise
from vtrain.registry import Fraction


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first number ({pair[0]}) must not exceed the second ({pair[1]})")
    return pair


Positive: TypeAlias = Annotated[float, Field(gt=0)]
Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]
ShareRange: TypeAlias = Annotated[tuple[Share, Share], AfterValidator(_ascending)]
PositiveRange: TypeAlias = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]


class Augment:
    """Augments a batch on its own device. The keywords are the keys of the `augment` section.

    Every number that decides what happens to a sample is a hash of (seed, epoch, index), so neither
    the batch that a sample is in, nor the device, nor a restart changes its image. The order is
    that of the published recipes: crop, flips, policy, colour jitter, grey, solarize, blur,
    normalisation, erasing.

    Args:
        image_size: Pixels per side of the result.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel.
        seed: Seed of the run.
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
        policy: An automatic policy, by name or with its parameters.
        brightness: Largest distance of the jitter's factor from 1; 0 is off.
        contrast: The same for contrast.
        saturation: The same for saturation.
        hue: Largest turn of the colour circle, up to half a turn.
        grey: Probability of losing the colours.
        solarize: Probability of inverting the values from 128 on.
        blur: Probability of a Gaussian blur.
        blur_sigma: Range of its standard deviation, in pixels.
        erasing: Probability of overwriting a random box.
        erasing_scale: Range of the box's share of the area.
        erasing_ratio: Range of the box's height over width.
        erasing_value: What it is overwritten with: `constant` is the mean colour, `pixel` noise.
        transforms: torchvision v2 transforms by name, for what runs in the workers.

    Raises:
        ValueError: A transform cannot be used, or the device cannot scale by this interpolation.

    Shape: (B, 3, S, S) uint8, (B,) int64 dataset indices, epoch -> (B, 3, S, S) float32. Images
    that are not `cropped` may have any size. Indices on a GPU are waited for.
    """

    def __init__(
        self,
        image_size: int,
        mean: Triple,
        std: Triple,
        seed: int,
        interpolation: Interpolation = "bicubic",
        cropped: bool = True,
        *,
        crop: Literal["pad", "resized", "none"] = "pad",
        crop_padding: NonNegativeInt = 4,
        crop_scale: ShareRange = (0.08, 1.0),
        crop_ratio: PositiveRange = (3 / 4, 4 / 3),
        horizontal_flip: Fraction = 0.5,
        vertical_flip: Fraction = 0.0,
        policy: Policy | None = None,
        brightness: NonNegativeFloat = 0.0,
        contrast: NonNegativeFloat = 0.0,
        saturation: NonNegativeFloat = 0.0,
        hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0,
        grey: Fraction = 0.0,
        solarize: Fraction = 0.0,
        blur: Fraction = 0.0,
        blur_sigma: PositiveRange = (0.1, 2.0),
        erasing: Fraction = 0.0,
        erasing_scale: ShareRange = (0.02, 1 / 3),
        erasing_ratio: PositiveRange = (0.3, 1 / 0.3),
        erasing_value: Literal["constant", "pixel"] = "constant",
        transforms: tuple[WorkerTransform, ...] = (),
    ) -> None:
        if crop == "resized" and not cropped and interpolation not in KERNELS:
            choices = ", ".join(KERNELS)
            raise ValueError(f"interpolation ({interpolation}) must be one of {choices} here")
        self.image_size, self.mean, self.std, self.seed = image_size, mean, std, seed
        self.interpolation, self.cropped = interpolation, cropped
        self.crop, self.crop_padding = crop, crop_padding
        self.crop_scale, self.crop_ratio = crop_scale, crop_ratio
        self.horizontal_flip, self.vertical_flip = horizontal_flip, vertical_flip
        self.policy = policy
        red, green, blue = (round(255 * m) for m in mean)
        self._mean_colour = (red, green, blue)
        factors = {Op.BRIGHTNESS: brightness, Op.CONTRAST: contrast, Op.SATURATION: saturation}
        self.jitter = {op: (max(0.0, 1 - s), 1 + s) for op, s in factors.items() if s}
        if hue:
            self.jitter[Op.HUE] = (-hue, hue)
        self.grey, self.solarize, self.blur, self.blur_sigma = grey, solarize, blur, blur_sigma
        self.erasing, self.erasing_scale, self.erasing_ratio = erasing, erasing_scale, erasing_ratio
        self.erasing_value: Literal["constant", "pixel"] = erasing_value
        self._transforms = tuple(transform.build(image_size) for transform in transforms)

    def geometry(self, preprocess: Preprocess) -> TrainGeometry:
        """Return what the workers do to each decoded image before it joins a batch."""
        scale = self.crop_scale if self.crop == "resized" and self.cropped else None
        return TrainGeometry(preprocess, self.seed, scale, self.crop_ratio, self._transforms)

    def __call__(self, images: Tensor, indices: Tensor, epoch: int) -> Tensor:
        indices = indices.cpu()

        def source(stream: Stream) -> Draw:
            return lambda count: draws(indices, count, self.seed, epoch, stream)

        images = self._moved(images, source)
        if self.policy is not None:
            images = self.policy(images, source(Stream.POLICY), self._mean_colour)
        images = self._coloured(images, source(Stream.COLOUR))
        images = normalise(images, self.mean, self.std)
        return self._erased(images, source(Stream.ERASING))

    def _moved(self, images: Tensor, source: Callable[[Stream], Draw]) -> Tensor:
        """Crop and flip."""
        device = images.device
        top, left, across, down = source(Stream.FLIP)(4).unbind(1)
        mirror = send(across < self.horizontal_flip, device)
        upset = send(down < self.vertical_flip, device)
        if self.crop == "resized" and not self.cropped:
            H, W = images.shape[2:]
            u = source(Stream.CROP)(BOX_DRAWS)
            boxes = send(resized_crop_boxes(u, H, W, self.crop_scale, self.crop_ratio), device)
            return resized_crop(images, boxes, mirror, upset, self.image_size, self.interpolation)
        size = (self.image_size, self.image_size)
        assert images.shape[2:] == size, f"the geometry gave {tuple(images.shape[2:])}, not {size}"
        padding = self.crop_padding if self.crop == "pad" else 0
        tops = send(below(top, 2 * padding + 1), device)
        lefts = send(below(left, 2 * padding + 1), device)
        return pad_crop_flip(images, tops, lefts, mirror, upset, padding)

    def _coloured(self, images: Tensor, draw: Draw) -> Tensor:
        """Jitter in an order of each sample's own, then grey, solarize and blur."""
        if not (self.jitter or self.grey or self.solarize or self.blur):
            return images
        u = draw(12)
        if self.jitter:
            ops = torch.tensor(list(self.jitter))
            ranges = torch.tensor(list(self.jitter.values()), dtype=torch.float64)
            order = u[:, : len(ops)].argsort(1)
            strengths = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * u[:, 4 : 4 + len(ops)]
            for which in order.unbind(1):
                amounts = strengths.gather(1, which[:, None])[:, 0]
                images = apply(images, ops[which], amounts)
        sigmas = between(u[:, 11], *self.blur_sigma)
        for chance, op, probability, amounts in (
            (u[:, 8], Op.SATURATION, self.grey, torch.zeros_like(sigmas)),
            (u[:, 9], Op.SOLARIZE, self.solarize, torch.full_like(sigmas, 128)),
            (u[:, 10], Op.BLUR, self.blur, sigmas),
        ):
            if probability:
                images = apply(images, torch.where(chance < probability, op, Op.IDENTITY), amounts)
        return images

    def _erased(self, images: Tensor, draw: Draw) -> Tensor:
        if not self.erasing:
            return images
        return erase(
            images,
            draw,
            self.erasing,
            self.erasing_scale,
            self.erasing_ratio,
            self.erasing_value,
            self.seed,
        )
