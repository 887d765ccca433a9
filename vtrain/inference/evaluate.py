"""Evaluate a model exactly: every image once, integer counts, one wait for the device."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.data.loading.loader import Batch
from vtrain.engine.state import Metrics

NOTHING = -100
"""A target that stands for no image; it is the one that torch's cross entropy leaves out."""


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    normalise: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[None]],
    all_sum: Callable[[Tensor], Tensor],
) -> Metrics:
    """Return `val/loss`, `val/top1` and `val/top5` over all images of all processes.

    Args:
        model: Maps (B, C, H, W) to logits (B, K). Its training mode is restored afterwards.
        batches: This process's share of the images, uint8 on the model's device.
        normalise: Turns uint8 images into the model's input.
        autocast: Makes the context that sets the precision.
        all_sum: Adds a tensor over the processes.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    totals = torch.zeros(4, dtype=torch.float64, device=device)  # a share may hold no image
    for batch in batches:
        with autocast():
            logits = model(normalise(batch.images))
        totals += _counts(logits.float(), batch.targets)
    model.train(was_training)
    images, loss, top1, top5 = all_sum(totals).tolist()
    return {"val/loss": loss / images, "val/top1": top1 / images, "val/top5": top5 / images}


def _counts(logits: Tensor, targets: Tensor) -> Tensor:
    """Return images, summed loss, hits and top-5 hits. Shape: (B, K), (B,) -> (4,) float64.

    A float64 holds integers up to 2**53 exactly, far beyond any count of images.
    """
    loss = F.cross_entropy(logits, targets, reduction="sum")
    nearest = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = (nearest == targets[:, None]).double()
    images = (targets != NOTHING).sum()
    return torch.stack([images.double(), loss.double(), hits[:, 0].sum(), hits.sum()])


def in_step(batches: Iterable[Batch], count: int, image: Tensor) -> Iterator[Batch]:
    """Yield the batches and then `image`, which counts for nothing, up to `count` batches in all.

    A sharded model is whole only while every process calls it, so all of them must call it equally
    often. Shape: `image` (1, 3, S, S) uint8.
    """
    for batch in batches:
        yield batch
        count -= 1
    nothing = torch.full((1,), NOTHING, device=image.device)
    for _ in range(count):
        yield Batch(image, nothing, nothing, 0, 1)
