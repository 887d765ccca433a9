"""What happens to the colours of a training image: a policy, a jitter, and some rare operations."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from vtrain.data.augment.crop_flip import PositiveRange
from vtrain.data.augment.draws import Stream, Streams, between
from vtrain.data.augment.operations import Choice, Op, apply
from vtrain.data.augment.policies import Policy
from vtrain.data.geometry import PerChannel
from vtrain.registry import Fraction, off

# Columns of the stream of colours, 12 for each sample: four for the order of the jitter's
# operations, four for their amounts, and one for each stage's chance. They say which random number
# decides what, so that a new stage takes new columns and all others see the same numbers as before.
ORDER, AMOUNTS, GREY, SOLARIZE, BLUR, BLUR_SIGMA, COLUMNS = 0, 4, 8, 9, 10, 11, 12


class ColourStage(NamedTuple):
    """An operation that some samples go through."""

    op: Op
    probability: float
    column: int
    """The random number that decides whether."""
    amounts: tuple[float, float] = (0.0, 0.0)
    """The range of how strongly."""
    amount_column: int = BLUR_SIGMA
    """The random number that decides how strongly, where the range has more than one value."""


class ColourPlan(NamedTuple):
    """What happens to each sample of a batch."""

    policy: tuple[Any, ...]
    choices: tuple[Choice, ...]


class Colour:
    """Changes colours on the batch's own device. The keywords are keys of the `augment` section.

    The order is that of the published recipes: policy, jitter, grey, solarize, blur.

    Args:
        mean: Mean of each channel, of values in [0, 1]: what a policy fills in from outside.
        policy: An automatic policy, by name or with its parameters.
        brightness: Largest distance of the brightness jitter's factor from 1; 0 is off.
        contrast: Largest distance of the contrast jitter's factor from 1; 0 is off.
        saturation: Largest distance of the saturation jitter's factor from 1; 0 is off.
        hue: Largest turn of the colour circle, up to half a turn.
        grey: Probability of losing the colours.
        solarize: Probability of inverting the values from 128 on.
        blur: Probability of a Gaussian blur.
        blur_sigma: Range of the blur's standard deviation, in pixels.

    Raises:
        ValueError: Colours shall change of images that have none.
    """

    def __init__(
        self,
        mean: PerChannel,
        *,
        policy: Annotated[Policy | None, off(None)] = None,
        brightness: Annotated[NonNegativeFloat, off(0.0)] = 0.0,
        contrast: Annotated[NonNegativeFloat, off(0.0)] = 0.0,
        saturation: Annotated[NonNegativeFloat, off(0.0)] = 0.0,
        hue: Annotated[float, Field(ge=0, le=0.5), off(0.0)] = 0.0,
        grey: Annotated[Fraction, off(0.0)] = 0.0,
        solarize: Annotated[Fraction, off(0.0)] = 0.0,
        blur: Annotated[Fraction, off(0.0)] = 0.0,
        blur_sigma: PositiveRange = (0.1, 2.0),
    ) -> None:
        if len(mean) != 3 and (saturation or hue or grey):
            raise ValueError(
                f"saturation, hue and grey change colours, and images of {len(mean)} channel"
                f"{'s' * (len(mean) > 1)} (data.channels) have none: set them to 0"
            )
        self.mean_colour = tuple(round(255 * m) for m in mean)
        self.policy = policy
        factors = {Op.BRIGHTNESS: brightness, Op.CONTRAST: contrast, Op.SATURATION: saturation}
        self.jitter = {op: (max(0.0, 1 - s), 1 + s) for op, s in factors.items() if s}
        """The range of the amount of each operation."""
        if hue:
            self.jitter[Op.HUE] = (-hue, hue)
        stages = [
            ColourStage(Op.SATURATION, grey, GREY),  # a saturation of 0 is grey
            ColourStage(Op.SOLARIZE, solarize, SOLARIZE, (128.0, 128.0)),
            ColourStage(Op.BLUR, blur, BLUR, blur_sigma, BLUR_SIGMA),
        ]
        self.stages = [stage for stage in stages if stage.probability]

    def draw(self, streams: Streams, size: torch.Size) -> ColourPlan:
        """Draw what happens to each sample of (H, W) pixels."""
        policy = () if self.policy is None else self.policy.draw(streams(Stream.POLICY), size)
        if not (self.jitter or self.stages):
            return ColourPlan(policy, ())
        u = streams(Stream.COLOUR)(COLUMNS)  # (B, 12)
        return ColourPlan(policy, (*self._draw_jitter(u, size), *self._draw_stages(u, size)))

    def apply(self, images: Tensor, plan: ColourPlan) -> Tensor:
        """Do what was planned. Shape: (B, C, H, W) uint8 -> (B, C, H, W) uint8."""
        if self.policy is not None:
            images = self.policy.apply(images, plan.policy, self.mean_colour)
        for choice in plan.choices:
            images = apply(images, choice)
        return images

    def _draw_jitter(self, u: Tensor, size: torch.Size) -> Iterator[Choice]:
        """Draw the jitter's operations, in an order of each sample's own."""
        if not self.jitter:
            return
        count = len(self.jitter)
        ops = torch.tensor(list(self.jitter))
        low, high = torch.tensor(list(self.jitter.values()), dtype=torch.float64).unbind(1)
        order = u[:, ORDER : ORDER + count].argsort(1)  # (B, count)
        amounts = low + (high - low) * u[:, AMOUNTS : AMOUNTS + count]  # (B, count)
        for which in order.unbind(1):
            yield Choice.of(ops[which], amounts.gather(1, which[:, None])[:, 0], size)

    def _draw_stages(self, u: Tensor, size: torch.Size) -> Iterator[Choice]:
        for stage in self.stages:
            ops = torch.where(u[:, stage.column] < stage.probability, stage.op, Op.IDENTITY)
            yield Choice.of(ops, between(u[:, stage.amount_column], *stage.amounts), size)
