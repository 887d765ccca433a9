"""The one loop that asks a model for logits outside of training, and the batches it is given."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vtrain.data.loading.batches import Batch
from vtrain.data.preprocess import Preprocess
from vtrain.data.unused import Unused
from vtrain.inference.files import BATCH_SIZE, OnError, decoded

NO_TARGET = -100
"""A target that stands for no image; it is the one that torch's cross entropy leaves out."""


@dataclass(frozen=True)
class Outputs:
    """What a model said of one batch.

    Shape: `logits` (B, K) float32 and `targets` (B,) int64 on the model's device, `indices` (B,)
    int64 on the CPU: which samples, or which of the paths.
    """

    logits: Tensor
    targets: Tensor
    indices: Tensor


def outputs_of(
    model: nn.Module,
    batches: Iterable[Batch],
    normalise: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[None]],
) -> Iterator[Outputs]:
    """Yield what a model says of each batch, in order; nothing here waits for the device.

    Args:
        model: Maps (B, C, H, W) to logits (B, K). It is in evaluation mode meanwhile.
        batches: Images as uint8 on the model's device.
        normalise: Turns uint8 images into the model's input.
        autocast: Makes the context that sets the precision.
    """
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            # Entered for each batch: what the caller does between two is none of their business.
            with torch.no_grad(), autocast():
                logits = model(normalise(batch.images))
            yield Outputs(logits.float(), batch.targets, batch.indices)
    finally:
        model.train(was_training)


def padded_to(count: int, batches: Iterable[Batch], image: Tensor) -> Iterator[Batch]:
    """Yield the batches and then `image`, which counts for nothing, up to `count` batches in all.

    A sharded model is whole only while every process calls it, so all of them must call it equally
    often. Shape: `image` (1, C, S, S) uint8.
    """
    for batch in batches:
        yield batch
        count -= 1
    nothing = torch.full((1,), NO_TARGET, device=image.device)
    for _ in range(count):
        yield Batch(image, nothing, nothing, 0, 1)


def batches_of_files(
    paths: Sequence[Path],
    preprocess: Preprocess,
    device: torch.device,
    on_error: OnError,
    batch_size: int = BATCH_SIZE,
    unused: Unused | None = None,
) -> Iterator[Batch]:
    """Decode files as `decoded` does and yield batches; their targets stand for no image."""
    for numbers, images in decoded(paths, preprocess, on_error, batch_size, unused):
        targets = torch.full((len(numbers),), NO_TARGET, device=device)
        pixels = torch.stack(images).to(device)  # (B, C, S, S) uint8
        # Where the batch begins, also if its first files could not be read.
        start = numbers[0] - numbers[0] % batch_size
        yield Batch(pixels, targets, torch.tensor(numbers), start, len(numbers))
