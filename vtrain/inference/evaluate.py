"""Evaluate a model exactly: every image once, integer counts, one wait for the device."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from vtrain.data.loading.batches import Batch
from vtrain.inference.metrics import means, sums
from vtrain.inference.outputs import outputs_of


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    normalise: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[None]],
    all_sum: Callable[[Tensor], Tensor],
) -> dict[str, float]:
    """Return `val/loss`, `val/top1` and `val/top5` over all images of all processes.

    Args:
        model: See `outputs_of`, also for the next two.
        batches: This process's share of the images.
        normalise: Turns uint8 images into the model's input.
        autocast: Makes the context that sets the precision.
        all_sum: Adds a tensor over the processes.
    """
    device = next(model.parameters()).device
    totals = torch.zeros(4, dtype=torch.float64, device=device)  # a share may hold no image
    for output in outputs_of(model, batches, normalise, autocast):
        totals += sums(output.logits, output.targets)
    return means(all_sum(totals))
