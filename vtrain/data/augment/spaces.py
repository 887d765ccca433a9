"""How strong each operation of a policy is, and AutoAugment's learned tables.

The numbers are torchvision's and timm's, of the classes that `vtrain.data.augment.policies` names.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from vtrain.data.augment.operations import MOVES, Op

BLENDS = (Op.BRIGHTNESS, Op.SATURATION, Op.CONTRAST, Op.SHARPNESS)
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
        # The table is built once for each image size, so a draw is one look-up.
        amounts = _amounts(self, *size)[which, step, (sign < 0.5).long()]
        return torch.tensor(self.ops)[which], amounts

    def plus_minus(self, op: Op, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return an operation's amounts with either sign. Shape: two of (steps,)."""

        def ramp(start: float, end: float) -> Tensor:  # rounded to float32, as torchvision's
            return torch.linspace(start, end, self.steps).to(torch.float64)

        if op in BLENDS:
            change = ramp(0, self.blend)
            return 1 + change, 1 - change
        if op in MOVES:
            side = width if op == Op.TRANSLATE_X else height
            pixels = self.translate * (side if self.translate <= 1 else 1)
            most = {Op.ROTATE: self.rotate, Op.SHEAR_X: self.shear, Op.SHEAR_Y: self.shear}
            amounts = ramp(0, most[op]) if op in most else ramp(0, pixels).trunc()
            return amounts, -amounts
        amounts = torch.zeros(self.steps)  # what has no strength, and no sign
        if op == Op.POSTERIZE:
            weakest, strongest = self.bits
            lost = torch.arange(self.steps) / ((self.steps - 1) / (weakest - strongest))
            amounts = (weakest - lost).round()
        elif op == Op.SOLARIZE:
            amounts = 255 * ramp(1, 0)
        return amounts, amounts


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


class Growth(NamedTuple):
    """How the amount of one of timm's operations grows with the level, which is 0 to 10."""

    start: float = 0.0
    """The amount without effect."""
    change: float = 0.0
    """What level 10 adds to it; of translations a share of the side."""
    is_signed: bool = True
    """Whether a sample's change has a random sign; others are cut to whole numbers."""


# A draw chooses an operation by its place, here and in a `Space`: another order would give every
# seed other images.
TIMM: dict[Op, Growth] = {
    Op.AUTOCONTRAST: Growth(),
    Op.EQUALIZE: Growth(),
    Op.INVERT: Growth(),
    Op.ROTATE: Growth(0, 30),
    Op.POSTERIZE: Growth(4, -4, is_signed=False),
    Op.SOLARIZE: Growth(256, -256, is_signed=False),
    Op.SOLARIZE_ADD: Growth(0, 110, is_signed=False),
    Op.SATURATION: Growth(1, 0.9),
    Op.CONTRAST: Growth(1, 0.9),
    Op.BRIGHTNESS: Growth(1, 0.9),
    Op.SHARPNESS: Growth(1, 0.9),
    Op.SHEAR_X: Growth(0, 0.3),
    Op.SHEAR_Y: Growth(0, 0.3),
    Op.TRANSLATE_X: Growth(0, 0.45),
    Op.TRANSLATE_Y: Growth(0, 0.45),
}
"""The operations of timm's RandAugment that grow stronger with the level (`-inc1`)."""


@cache
def timm_space(height: int, width: int) -> Tensor:
    """Return timm's operations for images of this size, a `Growth` in each row.

    Shape: (15, 4) float64: operation, start, change in pixels or the amount's unit, 1 if signed.
    """
    sides = {Op.TRANSLATE_X: width, Op.TRANSLATE_Y: height}
    rows = [
        (op, growth.start, growth.change * sides.get(op, 1), growth.is_signed)
        for op, growth in TIMM.items()
    ]
    return torch.tensor(rows, dtype=torch.float64)


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
    # Three words an operation: its name, its probability, its step.
    words = {"imagenet": IMAGENET, "cifar10": CIFAR10}[dataset].split()
    places = [AUTOAUGMENT.ops.index(Op[word.upper()]) for word in words[0::3]]
    numbers = [[float(word) for word in words[i::3]] for i in (1, 2)]
    which, chance, step = (torch.tensor(column).view(-1, 2) for column in (places, *numbers))
    return which, chance, step.long()
