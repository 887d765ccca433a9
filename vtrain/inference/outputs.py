"""The one loop that asks a model for logits outside of training, and the batches it is given."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vtrain.data.loading.batches import Batch
from vtrain.data.preprocess import Preprocess
from vtrain.errors import DataError
from vtrain.files.images import read_image
from vtrain.resources import cpu_count

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


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image with their probabilities, or why there are none."""

    image: str
    classes: list[tuple[str, float]]
    error: str | None = None
    unsure: bool | None = None
    """Whether the model had better not be asked; None where that was no question."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON output shows."""
        if self.error is not None:
            return {"image": self.image, "error": self.error}
        ranked = [{"class": name, "probability": p} for name, p in self.classes]
        record = {"image": self.image, "predictions": ranked}
        return record if self.unsure is None else {**record, "unsure": self.unsure}


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
    often. Shape: `image` (1, 3, S, S) uint8.
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
    on_error: Callable[[int, DataError], None],
    batch_size: int = 32,
) -> Iterator[Batch]:
    """Decode files in threads, a batch ahead of the one that is asked for, and yield batches.

    Every `batch_size` paths are one batch, less those that cannot be read: what a batch is made of
    does not depend on timing. Its indices count the paths, its targets stand for no image.
    `on_error` gets the number of each path that is no readable image, before its batch.
    """
    starts = range(0, len(paths), batch_size)
    # Decoding releases Python's lock, so threads are enough and an error needs no pickling.
    with ThreadPoolExecutor(min(cpu_count(), batch_size)) as pool:

        def begin(start: int) -> list[Future[Tensor]]:
            chunk = paths[start : start + batch_size]
            return [pool.submit(lambda p: preprocess(read_image(p)), path) for path in chunk]

        ahead = begin(0)
        try:
            for start in starts:
                # The next batch is begun before this one is waited for, and none beyond it: memory
                # holds two batches however many paths there are.
                due, ahead = ahead, begin(start + batch_size)
                images: list[Tensor] = []
                kept: list[int] = []
                for number, future in enumerate(due, start):
                    try:
                        images.append(future.result())
                        kept.append(number)
                    except DataError as error:
                        on_error(number, error)
                if images:
                    indices = torch.tensor(kept)
                    targets = torch.full((len(kept),), NO_TARGET, device=device)
                    pixels = torch.stack(images).to(device)  # (B, 3, S, S) uint8
                    yield Batch(pixels, targets, indices, start, len(kept))
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C nobody waits for what is ahead
