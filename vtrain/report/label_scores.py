"""What a model of several labels an image says of N images, and the figures of each class."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vtrain.data.labels import PRESENT
from vtrain.errors import DataError
from vtrain.inference import multi_label
from vtrain.report.scores import Array, precision_recall_f1, worst_first


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Logits, labels and thresholds.

    Shape: `logits` and `targets` (N, K) floats, the targets in 0..1; `thresholds` (K,) float64.

    Raises:
        DataError: There is no image, or shapes or values do not fit.
    """

    logits: Array
    targets: Array
    thresholds: Array

    def __post_init__(self) -> None:
        shape = self.logits.shape
        if len(shape) != 2 or self.targets.shape != shape or self.thresholds.shape != shape[1:]:
            shapes = f"{shape}, {self.targets.shape} and {self.thresholds.shape}"
            what = f"logits, targets and thresholds have the shapes {shapes}"
            raise DataError(f"{what}, not (N, K), (N, K) and (K,)")
        if not self.logits.size:
            raise DataError("there is no image to report on", hint="evaluate at least one image")
        if not ((self.targets >= 0) & (self.targets <= 1)).all():
            raise DataError("a target is not in 0 .. 1")
        if not np.isfinite(self.logits).all():
            raise DataError("the logits hold NaN or infinity", hint="the model has diverged")

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def truth(self) -> Array:
        """Which classes each image has. Shape: (N, K) bool."""
        return np.asarray(self.targets >= PRESENT)

    @cached_property
    def probs(self) -> Array:
        """Shape: (N, K) float64."""
        return np.asarray(tensor(self.logits).double().sigmoid().numpy())

    @cached_property
    def named(self) -> Array:
        """Which classes the model names. Shape: (N, K) bool."""
        return np.asarray(self.probs >= self.thresholds)

    @cached_property
    def correct(self) -> Array:
        """Of which images all labels are right. Shape: (N,) bool."""
        return np.asarray((self.named == self.truth).all(1))

    @cached_property
    def loss(self) -> Array:
        """Binary cross entropy of each image, the mean over classes, in nats. Shape: (N,)."""
        logits, targets = self.logits.astype(np.float64), self.targets
        # log(1 + e^x) - y x, without a power that could be infinite.
        return np.asarray((np.logaddexp(0, logits) - targets * logits).mean(1))

    def metrics(self) -> dict[str, float]:
        """Return the figures over all images, as an evaluation names them."""
        arrays = (self.logits, self.targets, self.probs, self.thresholds)
        figures = multi_label.metrics(*map(tensor, arrays))
        return {"val/loss": float(self.loss.mean()), **figures}


def tensor(array: Array) -> Tensor:
    """Return an array as torch has it; one that may not be written is copied, or torch warns."""
    return torch.from_numpy(np.require(array, requirements="W"))


@dataclass(frozen=True)
class PerLabel:
    """Figures of each class, NaN where they are not defined. Shape: (K,) each."""

    support: Array
    """How many images have the class."""
    predicted: Array
    """How many images were given it."""
    precision: Array
    recall: Array
    f1: Array
    average_precision: Array
    threshold: Array
    """The probability from which on it is given."""

    def worst_first(self) -> Array:
        """Return the classes by average precision, the worst first; those of no image last."""
        return worst_first(self.average_precision, self.support)


def per_label(scores: LabelScores) -> PerLabel:
    """Return each class's figures at its threshold."""
    truth, named = scores.truth, scores.named
    support, predicted = truth.sum(0), named.sum(0)
    ranked = multi_label.average_precision(tensor(scores.logits), tensor(truth)).numpy()
    precision, recall, f1 = precision_recall_f1((truth & named).sum(0), support, predicted)
    return PerLabel(support, predicted, precision, recall, f1, ranked, scores.thresholds)
