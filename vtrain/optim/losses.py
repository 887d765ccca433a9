"""Losses: logits and targets to one number, the mean over the batch, always computed in fp32.

Targets are class indices (B,) or, after mixup, a weight for each class (B, K) that sums to 1. Of
several labels an image they are (B, K) in 0..1, for the losses that say `takes_several`. Each loss
divides by the batch size and by nothing that depends on the targets: so the loss of a batch is the
weighted mean of the losses of its pieces, and gradient accumulation changes nothing.

A loss is handed the number of training images of each class and the names of the classes, which
only `class_weights` and `tau` read. It is a module because its weights must move to the device with
the model.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from vtrain.optim.class_weights import (
    ClassWeights,
    PosWeight,
    log_shares,
    pos_weight_tensor,
    weight_tensor,
)
from vtrain.registry import LOSSES, Fraction, Probability

Smoothing = Annotated[
    Fraction, Field(description="How much of the target goes to all classes alike.")
]


@LOSSES.register("cross_entropy")
class CrossEntropy(nn.Module):
    """Cross entropy of the softmax, with label smoothing, class weights and logit adjustment.

    Reference: Szegedy et al., arXiv:1512.00567, section 7 (smoothing); Menon et al.,
    arXiv:2007.07314, section 4.2 (logit adjustment); Ren et al., arXiv:2007.10740 (balanced
    softmax).

    Args:
        tau: How much of the logarithm of each class's share of the training images is added to the
            logits in training, so that they need not learn which classes are frequent; 1 is
            balanced softmax, 0 is off.

    Shape: logits (B, K), targets (B,) int or (B, K) -> ().
    """

    weights: Tensor | None
    prior: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        *,
        label_smoothing: Smoothing = 0.0,
        class_weights: ClassWeights = None,
        tau: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("prior", None if tau == 0 else tau * log_shares(class_counts))
        self.register_buffer("weights", weight_tensor(class_weights, class_counts, classes))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.prior is not None:
            logits = logits.float() + self.prior
        if targets.ndim == 1 and self.weights is None:  # torch's own kernel makes no (B, K) targets
            return F.cross_entropy(logits.float(), targets, label_smoothing=self.label_smoothing)
        targets = smooth_labels(as_weights(targets, logits.shape[1]), self.label_smoothing)
        if self.weights is not None:
            # After smoothing: a class keeps its weight for the share that smoothing moved to it.
            targets = targets * self.weights
        return -(targets * logits.float().log_softmax(1)).sum(1).mean()


@LOSSES.register("binary_cross_entropy")
class BinaryCrossEntropy(nn.Module):
    """One yes-or-no question for each class; the mean over batch and classes.

    With `binarize`, all classes of a mixed image count as fully present, as DeiT-III trains.
    Reference: Touvron et al., arXiv:2204.07118; Wightman et al., arXiv:2110.00476, section 2.

    Args:
        binarize: Whether every class that is in a mixed image is a full 1 in the targets.
        pos_weight: What it costs to miss a class, beside a 1 for naming it wrongly: one number for
            all, by the class's name, `{cat: 3.0, dog: 1.0}`, or as a list in the order of the
            classes; `balanced` is the images without the class for each one with it.

    Shape: logits (B, K), targets (B,) int or (B, K) -> ().
    """

    takes_several = True
    weights: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        images: int | None = None,
        *,
        binarize: bool = True,
        label_smoothing: Smoothing = 0.0,
        class_weights: ClassWeights = None,
        pos_weight: PosWeight = None,
    ) -> None:
        super().__init__()
        self.binarize, self.label_smoothing = binarize, label_smoothing
        self.register_buffer("weights", weight_tensor(class_weights, class_counts, classes))
        miss = pos_weight_tensor(pos_weight, class_counts, classes, images)
        self.register_buffer("pos_weight", miss)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        targets = as_weights(targets, logits.shape[1])
        if self.binarize:
            targets = (targets > 0).float()
        targets = smooth_labels(targets, self.label_smoothing)
        return F.binary_cross_entropy_with_logits(
            logits.float(), targets, self.weights, pos_weight=self.pos_weight
        )


@LOSSES.register("asymmetric")
class Asymmetric(nn.Module):
    """Binary cross entropy in which a sure answer counts less, the more so for absent classes.

    Of a present class it is (1 - p)^gamma_pos log p, of an absent one q^gamma_neg log(1 - q) with
    q = max(p - clip, 0): most classes are absent from most images, and would drown the others.
    Targets between 0 and 1, as of mixed images, weigh the two. The mean over batch and classes,
    where the paper adds up.
    Reference: Ridnik et al., arXiv:2009.14119, equations 4 to 7; the defaults are theirs.

    Args:
        gamma_neg: How steeply absent classes count less, the surer the model is of their absence.
        gamma_pos: The same of present ones.
        clip: The probability up to which absent classes count for nothing.

    Shape: logits (B, K), targets (B,) int or (B, K) -> ().
    """

    takes_several = True
    weights: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        images: int | None = None,
        *,
        gamma_neg: NonNegativeFloat = 4.0,
        gamma_pos: NonNegativeFloat = 0.0,
        clip: Probability = 0.05,
        label_smoothing: Smoothing = 0.0,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__()
        self.gamma_neg, self.gamma_pos, self.clip = gamma_neg, gamma_pos, clip
        self.label_smoothing = label_smoothing
        self.register_buffer("weights", weight_tensor(class_weights, class_counts, classes))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        targets = smooth_labels(as_weights(targets, logits.shape[1]), self.label_smoothing)
        logits = logits.float()
        shifted = (logits.sigmoid() - self.clip).clamp_min(0)
        # By its own logarithm where nothing is clipped: 1 - p of a sure answer would be 0.
        log_absent = F.logsigmoid(-logits) if self.clip == 0 else torch.log1p(-shifted)
        present = powered((-logits).sigmoid(), self.gamma_pos) * F.logsigmoid(logits)
        losses = -targets * present - (1 - targets) * powered(shifted, self.gamma_neg) * log_absent
        return (losses if self.weights is None else losses * self.weights).mean()


@LOSSES.register("focal")
class Focal(nn.Module):
    """Cross entropy in which a class counts less, the surer the model already is of it.

    Differs from the paper: of the softmax, not of one sigmoid per class, as the classes exclude
    each other here; `class_weights` is its alpha.
    Reference: Lin et al., arXiv:1708.02002, equation 5.

    Args:
        gamma: How steeply sure classes count less; 0 is cross entropy.

    Shape: logits (B, K), targets (B,) int or (B, K) -> ().
    """

    weights: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        *,
        gamma: NonNegativeFloat = 2.0,
        label_smoothing: Smoothing = 0.0,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__()
        self.gamma, self.label_smoothing = gamma, label_smoothing
        self.register_buffer("weights", weight_tensor(class_weights, class_counts, classes))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        targets = smooth_labels(as_weights(targets, logits.shape[1]), self.label_smoothing)
        if self.weights is not None:
            targets = targets * self.weights
        log_p = logits.float().log_softmax(1)
        # 1 - p by expm1: exact where p is nearly 1, where the plain difference would be 0.
        return -(targets * powered(-torch.expm1(log_p), self.gamma) * log_p).sum(1).mean()


def powered(shares: Tensor, gamma: float) -> Tensor:
    """Raise shares to a power, above 0, where a power below 1 has an infinite slope."""
    return shares.clamp_min(torch.finfo(torch.float32).tiny).pow(gamma)


def as_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Return the weight of each class in fp32. Shape: (B,) int or (B, K) -> (B, K)."""
    if targets.ndim == 2:
        return targets.float()
    # Not F.one_hot: it looks for values out of range on the host, and waits for the device.
    weights = torch.zeros(len(targets), num_classes, device=targets.device)
    return weights.scatter_(1, targets[:, None], 1.0)


def smooth_labels(targets: Tensor, amount: float) -> Tensor:
    """Move `amount` of the weight to all classes alike. Shape: (B, K) -> (B, K)."""
    return targets if amount == 0 else targets * (1 - amount) + amount / targets.shape[1]
