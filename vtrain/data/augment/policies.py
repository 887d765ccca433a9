"""The automatic augmentation policies: which operations each sample gets, and how strong.

A policy is a section of the config that `name` chooses; its other keys are the parameters of
torchvision's class of that name, or of timm's. It draws what happens to each sample on the CPU, and
then carries that out on a batch.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from vtrain.data.augment.draws import Draw, below, between, send
from vtrain.data.augment.operations import Choice, Op, apply
from vtrain.data.augment.pixels import Colour
from vtrain.data.augment.spaces import (
    AUGMIX,
    AUTOAUGMENT,
    RANDAUGMENT,
    TRIVIALAUGMENT,
    learned,
    timm_space,
)
from vtrain.registry import Fraction, Section


class Chain(Section):
    """A policy that gives each sample some operations in a row."""

    bilinear: ClassVar[bool] = False
    """Whether moved pixels are interpolated."""
    filled: ClassVar[bool] = False
    """Whether the mean colour moves in from outside, rather than black."""

    def draw(self, draw: Draw, size: torch.Size) -> tuple[Choice, ...]:
        """Return what to do with each sample of (H, W) pixels, drawn on the CPU."""
        return tuple(Choice.of(*pair, size) for pair in self.pairs(draw, size))

    def pairs(self, draw: Draw, size: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the operations and amounts of each place in the row."""
        raise NotImplementedError

    def apply(self, images: Tensor, plan: tuple[Choice, ...], mean: Colour) -> Tensor:
        """Do what `draw` returned."""
        fill = mean if self.filled else (0, 0, 0)
        for choice in plan:
            images = apply(images, choice, bilinear=self.bilinear, fill=fill)
        return images


class RandAugment(Chain):
    """Random operations in a row, all of one strength.

    Reference: Cubuk et al., arXiv:1909.13719; torchvision's RandAugment.
    """

    name: Literal["randaugment"] = "randaugment"
    num_ops: PositiveInt = 2
    """Operations in a row."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength, out of 30."""

    def pairs(self, draw: Draw, size: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
        # For each operation: which one, and the sign of its amount.
        for u in draw(2 * self.num_ops).chunk(self.num_ops, dim=1):
            which = below(u[:, 0], len(RANDAUGMENT.ops))
            step = torch.full_like(which, self.magnitude)
            yield RANDAUGMENT.choose(which, step, u[:, 1], size)


class TrivialAugmentWide(Chain):
    """One random operation of a random strength.

    Reference: Mueller and Hutter, arXiv:2103.10158; torchvision's TrivialAugmentWide.
    """

    name: Literal["trivialaugment_wide"] = "trivialaugment_wide"

    def pairs(self, draw: Draw, size: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
        kind, strength, sign = draw(3).unbind(1)
        which = below(kind, len(TRIVIALAUGMENT.ops))
        yield TRIVIALAUGMENT.choose(which, below(strength, TRIVIALAUGMENT.steps), sign, size)


class AutoAugment(Chain):
    """One of 25 learned pairs of operations.

    Reference: Cubuk et al., arXiv:1805.09501, appendix; torchvision's AutoAugment.
    """

    name: Literal["autoaugment"] = "autoaugment"
    dataset: Literal["imagenet", "cifar10"] = "imagenet"
    """What the policy was learned on."""

    def pairs(self, draw: Draw, size: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
        which, chance, step = learned(self.dataset)
        u = draw(5)  # the pair, two chances, two signs
        pair = below(u[:, 0], len(which))
        for i in range(2):
            ops, amounts = AUTOAUGMENT.choose(which[pair, i], step[pair, i], u[:, 3 + i], size)
            yield torch.where(u[:, 1 + i] < chance[pair, i], ops, Op.IDENTITY), amounts


class AugMix(Section):
    """A random blend of the image with chains of operations on it.

    Reference: Hendrycks et al., arXiv:1912.02781; torchvision's AugMix. Differs: all weights are
    uniform on their simplex (alpha = 1), as in every published recipe.
    """

    name: Literal["augmix"] = "augmix"
    severity: Annotated[int, Field(ge=1, le=10)] = 3
    """Largest strength of an operation, out of 10."""
    mixture_width: PositiveInt = 3
    """Chains."""

    def draw(self, draw: Draw, size: torch.Size) -> tuple[Any, ...]:
        """As for a `Chain`: the share of the image itself, and of each chain its share and row."""
        # The image's share; then for each chain its share, its length, and three operations of
        # (which, strength, sign).
        u = draw(1 + 11 * self.mixture_width)
        # Exponentials over their sum are uniform on the simplex.
        shares = -(1 - u[:, 1 : 1 + self.mixture_width].to(torch.float64)).log()
        shares = u[:, :1] * shares / shares.sum(1, keepdim=True)
        chains = u[:, 1 + self.mixture_width :].chunk(self.mixture_width, dim=1)
        rows = tuple(
            (share, tuple(self._chain(chain, size)))
            for share, chain in zip(shares.unbind(1), chains, strict=True)
        )
        return 1 - u[:, 0], rows

    def _chain(self, chain: Tensor, size: torch.Size) -> Iterator[Choice]:
        length = 1 + below(chain[:, 0], 3)
        for i, v in enumerate(chain[:, 1:].chunk(3, dim=1)):
            which, step = below(v[:, 0], len(AUGMIX.ops)), below(v[:, 1], self.severity)
            ops, amounts = AUGMIX.choose(which, step, v[:, 2], size)
            # A shorter chain ends in operations that do nothing, so that all have three.
            yield Choice.of(torch.where(length > i, ops, Op.IDENTITY), amounts, size)

    def apply(self, images: Tensor, plan: tuple[Any, ...], mean: Colour) -> Tensor:
        """As for a `Chain`."""
        own, rows = plan
        mix = per_image(own, images) * images  # float32 until all are added
        for share, chain in rows:
            augmented = images
            for choice in chain:
                augmented = apply(augmented, choice, bilinear=True)
            mix += per_image(share, images) * augmented
        return mix.to(torch.uint8)


class ThreeAugment(Chain):
    """One of grey, solarize and blur. Reference: DeiT III, Touvron et al., arXiv:2204.07118."""

    name: Literal["three_augment"] = "three_augment"

    def pairs(self, draw: Draw, size: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
        kind, strength = draw(2).unbind(1)
        which = below(kind, 3)
        # As in DeiT III's code: no colour, inverted from 128 on, a blur of 0.1 to 2 pixels.
        ops = torch.tensor([Op.SATURATION, Op.SOLARIZE, Op.BLUR])[which]
        amounts = torch.tensor([0.0, 128.0, 0.0], dtype=torch.float64)[which]
        yield ops, torch.where(ops == Op.BLUR, between(strength, 0.1, 2.0), amounts)


class TimmRandAugment(Chain):
    """timm's RandAugment, `rand-m9-mstd0.5-inc1` by default: that of DeiT, Swin and TNT.

    Each operation has a chance and a strength of its own. Differs: movements are interpolated
    bilinearly, where timm chooses between bilinear and bicubic at random.
    """

    name: Literal["timm_randaugment"] = "timm_randaugment"
    num_ops: PositiveInt = 2
    """Operations in a row."""
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    """Mean strength, out of 10."""
    magnitude_std: NonNegativeFloat = 0.5
    """Standard deviation of the strength, which is then cut to 0 to 10."""
    probability: Fraction = 0.5
    """Probability of each operation."""

    bilinear = True
    filled = True

    def pairs(self, draw: Draw, size: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
        space = timm_space(*size)
        for u in draw(4 * self.num_ops).to(torch.float64).chunk(self.num_ops, dim=1):
            kind, strength, sign, chance = u.unbind(1)
            ops, start, most, is_signed = space[below(kind, len(space))].unbind(1)
            # ndtri is the normal distribution's quantile; it is infinite at 0.
            level = self.magnitude + self.magnitude_std * torch.special.ndtri(strength + 2**-26)
            change = most * level.clamp(0, 10) / 10
            signed = torch.where(sign < 0.5, -change, change)
            amounts = start + torch.where(is_signed > 0, signed, change.trunc())
            yield torch.where(chance < self.probability, ops.long(), Op.IDENTITY), amounts


def per_image(numbers: Tensor, images: Tensor) -> Tensor:
    """Return one factor for each image. Shape: (B,) -> (B, 1, 1, 1), on the device of `images`."""
    return send(numbers.to(torch.float32), images.device)[:, None, None, None]


def _with_name(value: Any) -> Any:
    """Let `policy: randaugment` stand for `policy: {name: randaugment}`."""
    return {"name": value} if isinstance(value, str) else value


Policy: TypeAlias = Annotated[
    Annotated[
        RandAugment | TimmRandAugment | TrivialAugmentWide | AutoAugment | AugMix | ThreeAugment,
        Field(discriminator="name"),
    ],
    BeforeValidator(_with_name),
]
"""Any policy; its name alone stands for its defaults."""
