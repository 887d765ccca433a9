"""The automatic augmentation policies: which operations each sample gets, and how strong.

A policy is a section of the config that `name` chooses; its other keys are the parameters of
torchvision's class of that name, or of timm's. It draws what happens to each sample on the CPU, and
then carries that out on a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from vtrain.data.augment.draws import Draw, below, between, send
from vtrain.data.augment.operations import Choice, Colour, Op, apply
from vtrain.registry import Fraction, Section

BLENDS = (Op.BRIGHTNESS, Op.SATURATION, Op.CONTRAST, Op.SHARPNESS)
MOVES = (Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y, Op.ROTATE)
TONES = (Op.POSTERIZE, Op.SOLARIZE, Op.AUTOCONTRAST, Op.EQUALIZE)


@dataclass(frozen=True)
class Space:
    """The operations that a policy chooses from, and their amounts in steps from weak to strong.

    Args:
        ops: The operations.
        steps: How many strengths there are.
        shear: Largest shear, in pixels per pixel.
        translate: Largest movement: a share of the side up to 1, else pixels.
        rotate: Largest angle, in degrees.
        blend: Largest distance of a blend's factor from 1.
        bits: Bits that posterize keeps at the weakest and at the strongest.
    """

    ops: tuple[Op, ...]
    steps: int = 31
    shear: float = 0.3
    translate: float = 150 / 331  # AutoAugment moved Inception's 331 pixels by up to 150
    rotate: float = 30.0
    blend: float = 0.9
    bits: tuple[int, int] = (8, 4)

    def choose(
        self, which: Tensor, step: Tensor, sign: Tensor, size: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Return operations and amounts, given places in `ops`, strengths, and uniforms for signs.

        Shape: three of (B,) -> (B,) int64 and (B,) float64.
        """
        amounts = _amounts(self, *size)[which, step, (sign < 0.5).long()]
        return torch.tensor(self.ops)[which], amounts

    def plus_minus(self, op: Op, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return an operation's amounts with either sign. Shape: two of (steps,)."""

        def line(start: float, end: float) -> Tensor:  # rounded to float32, as torchvision's
            return torch.linspace(start, end, self.steps).to(torch.float64)

        if op in BLENDS:
            return 1 + line(0, self.blend), 1 - line(0, self.blend)
        amounts = torch.zeros(self.steps)
        if op == Op.POSTERIZE:
            lost = torch.arange(self.steps) / ((self.steps - 1) / (self.bits[0] - self.bits[1]))
            amounts = (self.bits[0] - lost).round()
        elif op == Op.SOLARIZE:
            amounts = 255 * line(1, 0)
        if op not in MOVES:
            return amounts, amounts
        if op == Op.ROTATE:
            amounts = line(0, self.rotate)
        elif op in (Op.SHEAR_X, Op.SHEAR_Y):
            amounts = line(0, self.shear)
        else:
            side = width if op == Op.TRANSLATE_X else height
            amounts = line(0, self.translate * (side if self.translate <= 1 else 1)).trunc()
        return amounts, -amounts


@cache
def _amounts(space: Space, height: int, width: int) -> Tensor:
    """Return all amounts. Shape: (ops, steps, 2) float64; the last axis is plus and minus."""
    rows = [torch.stack(space.plus_minus(op, height, width), dim=1) for op in space.ops]
    return torch.stack(rows).to(torch.float64)


RANDAUGMENT = Space((Op.IDENTITY, *MOVES, *BLENDS, *TONES))
TRIVIALAUGMENT = Space(
    RANDAUGMENT.ops, shear=0.99, translate=32, rotate=135.0, blend=0.99, bits=(8, 2)
)
AUTOAUGMENT = Space((*MOVES, *BLENDS, *TONES, Op.INVERT), steps=10)
AUGMIX = Space((*MOVES, *BLENDS, *TONES), steps=10, translate=1 / 3, bits=(4, 0))


TIMM: dict[Op, tuple[float, float, int]] = {
    Op.AUTOCONTRAST: (0, 0, 0),
    Op.EQUALIZE: (0, 0, 0),
    Op.INVERT: (0, 0, 0),
    Op.ROTATE: (0, 30, 0),
    Op.POSTERIZE: (4, 4, -1),
    Op.SOLARIZE: (256, 256, -1),
    Op.SOLARIZE_ADD: (0, 110, 1),
    Op.SATURATION: (1, 0.9, 0),
    Op.CONTRAST: (1, 0.9, 0),
    Op.BRIGHTNESS: (1, 0.9, 0),
    Op.SHARPNESS: (1, 0.9, 0),
    Op.SHEAR_X: (0, 0.3, 0),
    Op.SHEAR_Y: (0, 0.3, 0),
    Op.TRANSLATE_X: (0, 0.45, 0),
    Op.TRANSLATE_Y: (0, 0.45, 0),
}
"""timm's operations that grow stronger with the level: an amount without effect; the largest
change, of translations a share of the side; and its direction: 0 is either, others are whole."""


class Chain(Section):
    """A policy that gives each sample some operations in a row."""

    bilinear: ClassVar[bool] = False
    """Whether moved pixels are interpolated."""
    filled: ClassVar[bool] = False
    """Whether the mean colour moves in from outside, rather than black."""

    def draw(self, draw: Draw, size: torch.Size) -> tuple[Choice, ...]:
        """Return what to do with each sample of (H, W) pixels, drawn on the CPU.

        The number and the shapes of the tensors do not depend on what is drawn.
        """
        return tuple(Choice.of(*pair, size) for pair in self.pairs(draw, size))

    def pairs(self, draw: Draw, size: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the operations and amounts of each place in the row."""
        raise NotImplementedError

    def apply(self, images: Tensor, drawn: tuple[Choice, ...], mean: Colour) -> Tensor:
        """Do what `draw` returned."""
        fill = mean if self.filled else (0, 0, 0)
        for choice in drawn:
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
        u = draw(5)
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
            yield Choice.of(torch.where(length > i, ops, Op.IDENTITY), amounts, size)

    def apply(self, images: Tensor, drawn: tuple[Any, ...], mean: Colour) -> Tensor:
        """As for a `Chain`."""
        own, rows = drawn
        mix = per_image(own, images) * images
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
            ops, base, reach, direction = space[below(kind, len(space))].unbind(1)
            # ndtri is the normal distribution's quantile; it is infinite at 0.
            level = self.magnitude + self.magnitude_std * torch.special.ndtri(strength + 2**-26)
            change = reach * level.clamp(0, 10) / 10
            either = torch.where(sign < 0.5, -change, change)
            amounts = base + torch.where(direction == 0, either, direction * change.floor())
            yield torch.where(chance < self.probability, ops.long(), Op.IDENTITY), amounts


@cache
def timm_space(height: int, width: int) -> Tensor:
    """Return timm's operations for images of this size.

    Shape: (15, 4) float64: operation, and the columns of `TIMM`, shares of a side in pixels.
    """
    sides = {Op.TRANSLATE_X: width, Op.TRANSLATE_Y: height}
    rows = [
        (op, amount, change * sides.get(op, 1), direction)
        for op, (amount, change, direction) in TIMM.items()
    ]
    return torch.tensor(rows, dtype=torch.float64)


def per_image(numbers: Tensor, images: Tensor) -> Tensor:
    """Return one factor for each image. Shape: (B,) -> (B, 1, 1, 1), on the device of `images`."""
    return send(numbers.to(torch.float32), images.device)[:, None, None, None]


def _named(value: Any) -> Any:
    """Let `policy: randaugment` stand for `policy: {name: randaugment}`."""
    return {"name": value} if isinstance(value, str) else value


Policy: TypeAlias = Annotated[
    Annotated[
        RandAugment | TimmRandAugment | TrivialAugmentWide | AutoAugment | AugMix | ThreeAugment,
        Field(discriminator="name"),
    ],
    BeforeValidator(_named),
]
"""Any policy; its name alone stands for its defaults."""


# Pairs of (operation, probability, strength out of 9); the tables of the AutoAugment paper.
IMAGENET = """
posterize 0.4 8     rotate 0.6 9
solarize 0.6 5      autocontrast 0.6 0
equalize 0.8 0      equalize 0.6 0
posterize 0.6 7     posterize 0.6 6
equalize 0.4 0      solarize 0.2 4
equalize 0.4 0      rotate 0.8 8
solarize 0.6 3      equalize 0.6 0
posterize 0.8 5     equalize 1.0 0
rotate 0.2 3        solarize 0.6 8
equalize 0.6 0      posterize 0.4 6
rotate 0.8 8        saturation 0.4 0
rotate 0.4 9        equalize 0.6 0
equalize 0.0 0      equalize 0.8 0
invert 0.6 0        equalize 1.0 0
saturation 0.6 4    contrast 1.0 8
rotate 0.8 8        saturation 1.0 2
saturation 0.8 8    solarize 0.8 7
sharpness 0.4 7     invert 0.6 0
shear_x 0.6 5       equalize 1.0 0
saturation 0.4 0    equalize 0.6 0
equalize 0.4 0      solarize 0.2 4
solarize 0.6 5      autocontrast 0.6 0
invert 0.6 0        equalize 1.0 0
saturation 0.6 4    contrast 1.0 8
equalize 0.8 0      equalize 0.6 0
"""
CIFAR10 = """
invert 0.1 0        contrast 0.2 6
rotate 0.7 2        translate_x 0.3 9
sharpness 0.8 1     sharpness 0.9 3
shear_y 0.5 8       translate_y 0.7 9
autocontrast 0.5 0  equalize 0.9 0
shear_y 0.2 7       posterize 0.3 7
saturation 0.4 3    brightness 0.6 7
sharpness 0.3 9     brightness 0.7 9
equalize 0.6 0      equalize 0.5 0
contrast 0.6 7      sharpness 0.6 5
saturation 0.7 7    translate_x 0.5 8
equalize 0.3 0      autocontrast 0.4 0
translate_y 0.4 3   sharpness 0.2 6
brightness 0.9 6    saturation 0.2 8
solarize 0.5 2      invert 0.0 0
equalize 0.2 0      autocontrast 0.6 0
equalize 0.2 0      equalize 0.6 0
saturation 0.9 9    equalize 0.6 0
autocontrast 0.8 0  solarize 0.2 8
brightness 0.1 3    saturation 0.7 0
solarize 0.4 5      autocontrast 0.9 0
translate_y 0.9 9   translate_y 0.7 9
autocontrast 0.9 0  solarize 0.8 3
equalize 0.8 0      invert 0.1 0
translate_y 0.7 9   autocontrast 0.9 0
"""


@cache
def learned(dataset: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return a learned policy. Shape: three of (25, 2): place in the space, probability, step."""
    words = {"imagenet": IMAGENET, "cifar10": CIFAR10}[dataset].split()
    places = [AUTOAUGMENT.ops.index(Op[word.upper()]) for word in words[0::3]]
    numbers = [[float(word) for word in words[i::3]] for i in (1, 2)]
    which, chance, step = (torch.tensor(column).view(-1, 2) for column in (places, *numbers))
    return which, chance, step.long()
