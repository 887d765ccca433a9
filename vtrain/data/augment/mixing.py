"""Mixup and CutMix of neighbours in the global batch, with soft targets.

Reference: Zhang et al., "mixup", arXiv:1710.09412; Yun et al., "CutMix", arXiv:1905.04899.
"""

from functools import cache
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor

from vtrain.data.augment.crops import inside_boxes
from vtrain.data.augment.draws import Stream, below, send
from vtrain.registry import Fraction, off
from vtrain.rng import uniforms

QUANTILES = 1 << 14  # equally likely values of lambda: more than the pairs of any batch


class MixingPlan(NamedTuple):
    """With what each sample is mixed: `Mixing.draw` returns it, `Mixing.apply` does it."""

    partners: Tensor
    """Another row of the batch. Shape: (B,) int64."""
    shares: Tensor
    """How much of each own pixel stays, but in the box, where nothing does. Shape: (B,)."""
    boxes: Tensor
    """Top, left, height and width; 0 high where nothing is cut. Shape: (B, 4) int64."""


class Mixing:
    """Mixes pairs of images and their targets. The keywords are keys of the `augment` section.

    The sample at position i of the global batch is mixed with the one at i XOR 1, and both use the
    same lambda, drawn from a hash of (seed, step, i // 2). So the result does not depend on how the
    batch is spread over processes, as long as each has whole pairs. An odd last sample stays as it
    is. Label smoothing belongs to the loss.

    Args:
        num_classes: Length of a soft target.
        seed: Seed of the run.
        mixup: Alpha of Mixup's Beta(alpha, alpha); 0 turns it off.
        cutmix: Alpha of CutMix's Beta(alpha, alpha); 0 turns it off.
        mix_probability: Probability that a pair is mixed at all.
        mix_switch_probability: Probability of CutMix rather than Mixup where both are on.
        mix_off_epoch: From this epoch on nothing is mixed; null mixes to the end.

    Shape: (B, C, S, S) float, (B,) int64 classes or (B, K) float labels, position of the first in
    the global batch, step, epoch -> mixed images, (B, K) float targets, of which those of classes
    sum to 1; or both inputs as they are where nothing is mixed in this epoch.
    """

    def __init__(
        self,
        num_classes: int,
        seed: int,
        *,
        mixup: Annotated[NonNegativeFloat, off(0.0)] = 0.0,
        cutmix: Annotated[NonNegativeFloat, off(0.0)] = 0.0,
        mix_probability: Fraction = 1.0,
        mix_switch_probability: Fraction = 0.5,
        mix_off_epoch: NonNegativeInt | None = None,
    ) -> None:
        self.num_classes, self.seed = num_classes, seed
        self.probability = mix_probability
        self.cutmix_share = mix_switch_probability if mixup and cutmix else float(cutmix > 0)
        self.off_epoch = mix_off_epoch
        self.mixup, self.cutmix = mixup, cutmix

    def is_on(self, epoch: int) -> bool:
        """Whether batches of this epoch are mixed, and their targets therefore soft."""
        return bool(self.mixup or self.cutmix) and (
            self.off_epoch is None or epoch < self.off_epoch
        )

    def __call__(
        self, images: Tensor, targets: Tensor, start: int, step: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        plan = self.draw(len(images), start, step, epoch, images.shape[2:])
        return self.apply(images, targets, plan)

    def draw(
        self, count: int, start: int, step: int, epoch: int, size: torch.Size
    ) -> MixingPlan | None:
        """Return how to mix `count` images of (H, W) pixels, drawn on the CPU; None: not at all."""
        if not self.is_on(epoch):
            return None
        positions = torch.arange(start, start + count)
        return MixingPlan(self._partners(positions), *self._shares_and_boxes(positions, step, size))

    def apply(
        self, images: Tensor, targets: Tensor, plan: MixingPlan | None
    ) -> tuple[Tensor, Tensor]:
        """Mix as `draw` said, on the device of the images; shapes as for a call."""
        if plan is None:
            return images, targets
        partners, shares, boxes = (send(numbers, images.device) for numbers in plan)
        inside = inside_boxes(boxes, *images.shape[2:])  # (B, S, S)
        # How much of the own pixel stays, one channel for all. (B, 1, S, S)
        keep = shares[:, None, None].masked_fill(inside, 0)[:, None].to(images.dtype)
        # lerp is exact where the weight is 0 or 1, so CutMix copies pixels
        images = torch.lerp(images[partners], images, keep)
        # A target's share is that of its pixels: of a box, what lies inside of the image.
        weights = keep.mean((1, 2, 3), dtype=torch.float32)[:, None]
        if targets.ndim == 1:
            targets = torch.nn.functional.one_hot(targets, self.num_classes).to(torch.float32)
        return images, torch.lerp(targets[partners], targets, weights)

    def _partners(self, positions: Tensor) -> Tensor:
        """Row of each sample's partner. Shape: (B,) -> (B,)."""
        partners = (positions ^ 1) - positions[:1]  # from the global batch to rows of this share
        return torch.where(partners < len(positions), partners, torch.arange(len(positions)))

    def _shares_and_boxes(
        self, positions: Tensor, step: int, size: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Return the shares and the boxes of a `MixingPlan`."""
        height, width = size
        # One row for a pair, which both of its members draw.
        u = uniforms(positions // 2, 5, self.seed, step, Stream.MIXING)
        is_mixed, is_cutmix = u[:, 0] < self.probability, u[:, 1] < self.cutmix_share
        ranks = below(u[:, 2], QUANTILES)
        # Where an alpha is 0, its lambdas are drawn and not used.
        alphas = (self.mixup or 1.0, self.cutmix or 1.0)
        mixup, cutmix = (beta_quantiles(alpha, QUANTILES)[ranks] for alpha in alphas)
        side = torch.where(is_mixed & is_cutmix, (1 - cutmix).sqrt(), 0)
        h, w = (side * height).long(), (side * width).long()
        top, left = below(u[:, 3], height) - h // 2, below(u[:, 4], width) - w // 2
        boxes = torch.stack([top, left, h, w], dim=1)
        return torch.where(is_mixed & ~is_cutmix, mixup, 1.0), boxes


@cache
def beta_quantiles(alpha: float, count: int) -> Tensor:
    """Return the quantiles of Beta(alpha, alpha) at (i + 0.5) / count: equally likely values.

    A table makes a draw one look-up. On [0, 0.5] the density x^(a-1) (1-x)^(a-1) is
    integrated over t = x^min(a, 1), which takes away a pole at 0; the rest is the mirror image.

    Shape: (count,) float32, ascending.
    """
    power = min(alpha, 1.0)
    t = np.linspace(0, 0.5**power, 1 << 15)
    density = t ** (alpha / power - 1) * (1 - t ** (1 / power)) ** (alpha - 1)
    mass = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    u = (np.arange(count // 2) + 0.5) / count
    lower = np.interp(u, mass / (2 * mass[-1]), t) ** (1 / power)
    return torch.from_numpy(np.concatenate([lower, 1 - lower[::-1]])).to(torch.float32)
