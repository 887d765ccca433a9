"""What a model is asked: which one class an image has, or which of several.

A `Task` is chosen once: of a run by its images, of a trained model by its checkpoint. Outside of
data and losses it is all that tells the two kinds apart.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vtrain.data.labels import PRESENT, has_several
from vtrain.files.checkpoint import Checkpoint
from vtrain.inference import multi_label
from vtrain.inference.evaluate import Tally, Totals
from vtrain.inference.outputs import Outputs


class Task(Protocol):
    """What a model is asked, and how its answers are judged."""

    metrics: ClassVar[tuple[str, ...]]
    """What an evaluation gives. The first decides, unless a config says otherwise."""
    right: ClassVar[str]
    """The metric that is the share of images of which everything is right."""

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probability from which on each class is named; none where the likeliest one is."""

    def restore(self, thresholds: tuple[float, ...]) -> None:
        """Take over what a checkpoint says, for a run that goes on."""

    def tally(self, count: int, device: torch.device) -> Tally:
        """Return what judges a model on `count` images, of all processes together."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Shape: (B, K) -> (B, K)."""

    def is_right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return of which images everything is right. Shape: (B, K), (B,) or (B, K) -> (B,)."""

    def mean_of(self, logits: Sequence[Tensor]) -> Tensor:
        """Return logits of the mean of probabilities. Shape: V times (B, K) -> (B, K) float32."""


class SingleLabel:
    """Which one class an image has: the likeliest."""

    metrics: ClassVar[tuple[str, ...]] = ("val/top1", "val/top5", "val/loss")
    right: ClassVar = "val/top1"
    thresholds: ClassVar[tuple[float, ...]] = ()

    def restore(self, thresholds: tuple[float, ...]) -> None:
        pass

    def tally(self, count: int, device: torch.device) -> Tally:
        return Totals(device)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)

    def is_right(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits.argmax(1) == targets

    def mean_of(self, logits: Sequence[Tensor]) -> Tensor:
        # Of logarithms, in which none is 0.
        each = torch.stack([one.float().log_softmax(1) for one in logits])  # (V, B, K)
        return each.logsumexp(0) - math.log(len(logits))


ONE_CLASS = SingleLabel()


@dataclass
class MultiLabel:
    """Which of several classes an image has: all that are likely enough, each by itself."""

    thresholds: tuple[float, ...]
    fits: bool = False
    """Whether each evaluation fits the thresholds to its images, as those of a training do."""
    metrics: ClassVar[tuple[str, ...]] = (
        *("val/map", "val/map_micro", "val/f1", "val/f1_micro"),
        *("val/exact_match", "val/loss"),
    )
    right: ClassVar = "val/exact_match"

    def restore(self, thresholds: tuple[float, ...]) -> None:
        self.thresholds = thresholds

    def tally(self, count: int, device: torch.device) -> Tally:
        return _Judged(self, count, device)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.double().sigmoid()  # as the thresholds were fitted

    def is_right(self, logits: Tensor, targets: Tensor) -> Tensor:
        thresholds = torch.tensor(self.thresholds, dtype=torch.float64, device=logits.device)
        return ((self.probabilities(logits) >= thresholds) == (targets >= PRESENT)).all(1)

    def mean_of(self, logits: Sequence[Tensor]) -> Tensor:
        each = torch.stack([one.double() for one in logits])  # (V, B, K)
        # Of logarithms, in which no probability is 0 or 1.
        return (F.logsigmoid(each).logsumexp(0) - F.logsigmoid(-each).logsumexp(0)).float()


class _Judged:
    """The tally of images of several classes: ranks and thresholds need them all at once."""

    def __init__(self, task: MultiLabel, count: int, device: torch.device) -> None:
        self.task = task
        # Of each image whether it was judged, the logits and the targets.
        shape = (count, 1 + 2 * len(task.thresholds))
        self.rows = torch.zeros(shape, dtype=torch.float32, device=device)

    def add(self, output: Outputs) -> None:
        if not has_several(output.targets):  # it stands for no image
            return
        row = torch.cat([torch.ones_like(output.logits[:, :1]), output.logits, output.targets], 1)
        self.rows[output.indices.to(self.rows.device, non_blocking=True)] = row

    def metrics(self, all_sum: Callable[[Tensor], Tensor]) -> dict[str, float]:
        # Each process has zeros for the images of the others.
        rows = all_sum(self.rows).cpu()
        K = len(self.task.thresholds)
        rows = rows[rows[:, 0] > 0]
        logits, targets = rows[:, 1 : K + 1], rows[:, K + 1 :]
        loss = F.binary_cross_entropy_with_logits(logits.double(), targets.double())
        probabilities = logits.double().sigmoid()
        if self.task.fits:
            fitted = multi_label.fitted_thresholds(probabilities, targets >= PRESENT)
            self.task.thresholds = tuple(fitted.tolist())
        thresholds = torch.tensor(self.task.thresholds, dtype=torch.float64)
        figures = multi_label.metrics(logits, targets, probabilities, thresholds)
        return {"val/loss": float(loss), **figures}


def task_for(targets: Tensor, num_classes: int) -> Task:
    """Return the task of a training on such targets. Shape: (N,) int64 or (N, K) float32."""
    if has_several(targets):
        return MultiLabel((multi_label.UNFITTED,) * num_classes, fits=True)
    return ONE_CLASS


def task_of(checkpoint: Checkpoint) -> Task:
    """Return the task that a model was trained for."""
    return MultiLabel(checkpoint.thresholds) if checkpoint.thresholds else ONE_CLASS
