"""Evaluate a model exactly: every image once, integer counts, one wait for the device.

A float64 holds integers up to 2**53 exactly, far beyond any count of images, so that sums over
batches and processes are the same in whatever order.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.data.loading.batches import Batch
from vtrain.inference.outputs import NO_TARGET, Outputs, outputs_of

NAMES = ("val/loss", "val/top1", "val/top5")


def top_k_hits(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """Return whether each target is the likeliest, the second likeliest, ... or the k-th.

    Of equal logits, which half precision often has, the first class is the likelier, as for argmax
    and in a report: `topk` takes any. NaN is never hit.

    Shape: (B, K), (B,) -> (B, min(k, K)) bool, at most one of them true in each row.
    """
    columns = torch.arange(logits.shape[1], device=logits.device)
    labels = targets[:, None]
    # No column is `NO_TARGET`: the first stands in, and the last line leaves it out.
    true = logits.gather(1, labels.clamp(min=0))
    behind = (logits < true) | ((logits == true) & (columns >= labels))  # itself among them
    rank = logits.shape[1] - behind.sum(1, keepdim=True)
    return (rank == columns[:k]) & (labels != NO_TARGET)


def sums(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the number of images, and their summed loss, hits and top-5 hits.

    Targets that are `NO_TARGET` count for nothing. Shape: (B, K), (B,) -> (4,) float64.
    """
    loss = F.cross_entropy(logits, targets, reduction="sum", ignore_index=NO_TARGET)
    hits = top_k_hits(logits, targets, 5).double()
    images = (targets != NO_TARGET).sum()
    return torch.stack([images.double(), loss.double(), hits[:, 0].sum(), hits.sum()])


def means(totals: Tensor) -> dict[str, float]:
    """Divide sums over all images by their number; this waits for the device. Shape: (4,)."""
    images, *values = totals.tolist()
    return {name: value / images for name, value in zip(NAMES, values, strict=True)}


class Tally(Protocol):
    """Takes in what a model says, batch by batch, and then gives the figures."""

    def add(self, output: Outputs) -> None:
        """Take in a batch, without waiting for the device."""

    def metrics(self, all_sum: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the figures over the images of all processes; `all_sum` adds a tensor over them.

        This waits for the device.
        """


class Totals:
    """The tally of images of one class each: `val/loss`, `val/top1` and `val/top5`."""

    def __init__(self, device: torch.device) -> None:
        # A share may hold no image.
        self.totals = torch.zeros(4, dtype=torch.float64, device=device)

    def add(self, output: Outputs) -> None:
        self.totals += sums(output.logits, output.targets)

    def metrics(self, all_sum: Callable[[Tensor], Tensor]) -> dict[str, float]:
        return means(all_sum(self.totals))


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    normalise: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[None]],
    all_sum: Callable[[Tensor], Tensor],
    observe: Callable[[Outputs], None] | None = None,
    tally: Tally | None = None,
) -> dict[str, float]:
    """Return the figures of a model over all images of all processes.

    `batches` are this process's share of the images and `all_sum` adds a tensor over the
    processes; `observe` gets what the model says of each batch, still on the device; `tally` judges
    it, by default `Totals`; for the other arguments see `outputs_of`.
    """
    tally = tally or Totals(next(model.parameters()).device)
    for output in outputs_of(model, batches, normalise, autocast):
        tally.add(output)
        if observe is not None:
            observe(output)
    return tally.metrics(all_sum)
