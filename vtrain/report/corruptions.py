"""How much worse a model is on images that are blurred, dark, grey, turned or coarse.

These are the operations of vtrain's augmentation and torchvision's blur at five stated strengths.
They are not ImageNet-C: numbers compare between models of vtrain, and with nothing published.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from vtrain.data.augment.operations import Choice, Op, apply
from vtrain.report.intervals import Interval, wilson

SEVERITIES = 5


@dataclass(frozen=True)
class Operation:
    """A corruption: its five amounts, and what they mean to a reader."""

    op: Op
    amounts: tuple[float, float, float, float, float]
    meaning: str


# Contrast is that of ImageNet-C (Hendrycks and Dietterich, arXiv:1903.12261), blur about that of
# CIFAR-10-C at 32 pixels; the others go from what is hardly seen to what a person still recognises.
OPERATIONS = {
    "blur": Operation(
        Op.BLUR, (0.0125, 0.016, 0.02, 0.027, 0.035), "standard deviation as a share of the side"
    ),
    "bright": Operation(Op.BRIGHTNESS, (1.2, 1.4, 1.6, 1.8, 2.0), "factor"),
    "dark": Operation(Op.BRIGHTNESS, (0.8, 0.65, 0.5, 0.35, 0.2), "factor"),
    "contrast": Operation(Op.CONTRAST, (0.75, 0.5, 0.4, 0.3, 0.15), "factor"),
    "grey": Operation(Op.SATURATION, (0.8, 0.6, 0.4, 0.2, 0.0), "saturation, factor"),
    "coarse": Operation(Op.POSTERIZE, (6, 5, 4, 3, 2), "bits that stay"),
    "turned": Operation(Op.ROTATE, (5, 10, 15, 20, 30), "degrees"),
}


@dataclass(frozen=True)
class Corruption:
    """Accuracy under one corruption, at each severity."""

    name: str
    meaning: str
    amounts: list[float]
    accuracy: list[float]
    drop: list[float]
    """Accuracy on clean images minus that."""


@dataclass(frozen=True)
class Corruptions:
    """Accuracy under all corruptions, of the same images."""

    images: int
    clean: float
    clean_interval: Interval
    each: list[Corruption]
    mean_drop: float
    """Over all corruptions and severities."""
    reach: float
    """Half of the widest interval that the accuracy of so many images can have."""


def under_corruptions(
    predict: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]
) -> Corruptions:
    """Count what a model gets right on clean and on corrupted images.

    Args:
        predict: Maps images (B, C, S, S) uint8 to classes (B,).
        batches: Images and their targets (B,).
    """
    count, clean = 0, 0
    hits = {name: [0] * SEVERITIES for name in OPERATIONS}
    for images, targets in batches:
        count += len(targets)
        clean += _hits(predict, images, targets)
        for name, operation in OPERATIONS.items():
            # Every corruption of a batch in turn, so that each image is read once.
            for severity in range(SEVERITIES):
                damaged = corrupted(images, operation, severity)
                hits[name][severity] += _hits(predict, damaged, targets)
    each = []
    for name, operation in OPERATIONS.items():
        accuracy = [number / count for number in hits[name]]
        drop = [clean / count - value for value in accuracy]
        amounts = list(operation.amounts)
        each.append(Corruption(name, operation.meaning, amounts, accuracy, drop))
    drops = [value for one in each for value in one.drop]
    mean_drop = sum(drops) / len(drops)
    # Of all shares, one half has the widest interval.
    widest = wilson(count / 2, count)
    reach = (widest.high - widest.low) / 2
    return Corruptions(count, clean / count, wilson(clean, count), each, mean_drop, reach)


def corrupted(images: Tensor, operation: Operation, severity: int) -> Tensor:
    """Apply a corruption to a batch. Shape: (B, C, S, S) uint8 -> the same."""
    amount = operation.amounts[severity]
    if operation.op is Op.BLUR:  # augmentation's own ends six pixels away, however large the image
        sigma = amount * images.shape[-1]
        # Three deviations to each side hold 99.7 % of a normal curve.
        blurred: Tensor = gaussian_blur(images, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma] * 2)
        return blurred
    ops = torch.full((len(images),), int(operation.op))
    amounts = torch.full((len(images),), amount, dtype=torch.float64)
    choice = Choice.of(ops, amounts, images.shape[2:])
    # Bilinear: a turn by the nearest pixel would be a second corruption.
    return apply(images, choice, bilinear=True)


def _hits(predict: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> int:
    return int((predict(images) == targets).sum())
