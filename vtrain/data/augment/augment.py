"""The augmentation of a training batch, from bytes to normalised floats."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import torch
from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor

from vtrain.data.augment.crops import (
    BOX_DRAWS,
    KERNELS,
    pad_crop_flip,
    resized_crop,
    resized_crop_boxes,
)
from vtrain.data.augment.draws import Draw, Stream, below, between, draws, send
from vtrain.data.augment.erasing import Erasure, draw_erasure, erase
from vtrain.data.augment.operations import Choice, Op, apply
from vtrain.data.augment.policies import Policy
from vtrain.data.augment.worker_transforms import WorkerTransform
from vtrain.data.preprocess import (
    Interpolation,
    Preprocess,
    TrainGeometry,
    Triple,
    normalise,
)
from vtrain.registry import Fraction, off


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first number ({pair[0]}) must not exceed the second ({pair[1]})")
    return pair


Positive: TypeAlias = Annotated[float, Field(gt=0)]
Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]
ShareRange: TypeAlias = Annotated[tuple[Share, Share], AfterValidator(_ascending)]
PositiveRange: TypeAlias = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]


class Drawn(NamedTuple):
    """What happens to each sample of a batch: `Augment.draw` returns it, `Augment.apply` does it.

    Shape: the first axis of every tensor is the batch.
    """

    moves: tuple[Tensor, Tensor, Tensor]
    policy: tuple[Any, ...]
    colours: tuple[Choice, ...]
    erasure: Erasure | None


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
        crop: Annotated[Literal["pad", "resized", "none"], off("none")] = "pad",
        crop_padding: NonNegativeInt = 4,
        crop_scale: ShareRange = (0.08, 1.0),
        crop_ratio: PositiveRange = (3 / 4, 4 / 3),
        horizontal_flip: Annotated[Fraction, off(0.0)] = 0.5,
        vertical_flip: Annotated[Fraction, off(0.0)] = 0.0,
        policy: Annotated[Policy | None, off(None)] = None,
        brightness: Annotated[NonNegativeFloat, off(0.0)] = 0.0,
        contrast: Annotated[NonNegativeFloat, off(0.0)] = 0.0,
        saturation: Annotated[NonNegativeFloat, off(0.0)] = 0.0,
        hue: Annotated[float, Field(ge=0, le=0.5), off(0.0)] = 0.0,
        grey: Annotated[Fraction, off(0.0)] = 0.0,
        solarize: Annotated[Fraction, off(0.0)] = 0.0,
        blur: Annotated[Fraction, off(0.0)] = 0.0,
        blur_sigma: PositiveRange = (0.1, 2.0),
        erasing: Annotated[Fraction, off(0.0)] = 0.0,
        erasing_scale: ShareRange = (0.02, 1 / 3),
        erasing_ratio: PositiveRange = (0.3, 1 / 0.3),
        erasing_value: Literal["constant", "pixel"] = "constant",
        transforms: Annotated[tuple[WorkerTransform, ...], off(())] = (),
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
        self.chances = {Op.SATURATION: grey, Op.SOLARIZE: solarize, Op.BLUR: blur}
        self.blur_sigma = blur_sigma
        self.erasing, self.erasing_scale, self.erasing_ratio = erasing, erasing_scale, erasing_ratio
        self.erasing_value: Literal["constant", "pixel"] = erasing_value
        self._transforms = tuple(transform.build(image_size) for transform in transforms)

    def geometry(self, preprocess: Preprocess) -> TrainGeometry:
        """Return what the workers do to each decoded image before it joins a batch."""
        scale = self.crop_scale if self.crop == "resized" and self.cropped else None
        return TrainGeometry(preprocess, self.seed, scale, self.crop_ratio, self._transforms)

    def __call__(self, images: Tensor, indices: Tensor, epoch: int) -> Tensor:
        return self.apply(images, self.draw(indices.cpu(), epoch, images.shape[2:]))

    def draw(self, indices: Tensor, epoch: int, size: torch.Size) -> Drawn:
        """Return what happens to each sample of (H, W) pixels: tensors on the CPU, for `apply`.

        Their number and shapes depend on the settings and the batch's size alone. Shape: `indices`
        (B,) int64 on the CPU.
        """

        def source(stream: Stream) -> Draw:
            return lambda count: draws(indices, count, self.seed, epoch, stream)

        inner = torch.Size((self.image_size, self.image_size))
        rule = self.erasing, self.erasing_scale, self.erasing_ratio
        return Drawn(
            moves=self._draw_moves(source, size),
            policy=() if self.policy is None else self.policy.draw(source(Stream.POLICY), inner),
            colours=tuple(self._draw_colours(source(Stream.COLOUR), inner)),
            erasure=draw_erasure(source(Stream.ERASING), inner, *rule) if self.erasing else None,
        )

    def apply(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Do to each sample what `draw` returned.

        Args:
            images: The batch, on any device.
            drawn: What to do. On the CPU, so that the host knows which samples an operation is for.

        Shape: as for a call.
        """
        images = self._moved(images, *(send(x, images.device) for x in drawn.moves))
        if self.policy is not None:
            images = self.policy.apply(images, drawn.policy, self._mean_colour)
        for choice in drawn.colours:
            images = apply(images, choice)
        images = normalise(images, self.mean, self.std)
        if drawn.erasure is None:
            return images
        return erase(images, drawn.erasure, self.erasing_value, self.seed)

    def _draw_moves(
        self, source: Callable[[Stream], Draw], size: torch.Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw where the crop is, and which samples are mirrored and turned upside down."""
        top, left, across, down = source(Stream.FLIP)(4).unbind(1)
        flips = across < self.horizontal_flip, down < self.vertical_flip
        if self._crops_here:
            u, (H, W) = source(Stream.CROP)(BOX_DRAWS), size
            return resized_crop_boxes(u, H, W, self.crop_scale, self.crop_ratio), *flips
        places = 2 * self._padding + 1
        return torch.stack([below(top, places), below(left, places)], dim=1), *flips

    def _moved(self, images: Tensor, places: Tensor, mirror: Tensor, upset: Tensor) -> Tensor:
        """Crop and flip."""
        side = self.image_size
        if self._crops_here:
            return resized_crop(images, places, mirror, upset, side, self.interpolation)
        found, wanted = tuple(images.shape[2:]), (side, side)
        assert found == wanted, f"the geometry gave {found}, not {wanted}"
        tops, lefts = places.unbind(1)
        return pad_crop_flip(images, tops, lefts, mirror, upset, self._padding)

    @property
    def _crops_here(self) -> bool:
        return self.crop == "resized" and not self.cropped

    @property
    def _padding(self) -> int:
        return self.crop_padding if self.crop == "pad" else 0

    def _draw_colours(self, draw: Draw, size: torch.Size) -> Iterator[Choice]:
        """Draw a jitter in an order of each sample's own, then grey, solarize and blur."""
        if not (self.jitter or any(self.chances.values())):
            return
        u = draw(12)
        if self.jitter:
            ops = torch.tensor(list(self.jitter))
            ranges = torch.tensor(list(self.jitter.values()), dtype=torch.float64)
            order = u[:, : len(ops)].argsort(1)
            strengths = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * u[:, 4 : 4 + len(ops)]
            for which in order.unbind(1):
                yield Choice.of(ops[which], strengths.gather(1, which[:, None])[:, 0], size)
        sigmas = between(u[:, 11], *self.blur_sigma)
        amounts = torch.zeros_like(sigmas), torch.full_like(sigmas, 128), sigmas
        for column, (op, probability) in enumerate(self.chances.items()):
            if probability:
                ops = torch.where(u[:, 8 + column] < probability, op, Op.IDENTITY)
                yield Choice.of(ops, amounts[column], size)
