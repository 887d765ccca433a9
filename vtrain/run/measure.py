"""What `vtrain report --cost --corruptions` measures with the run's checkpoint."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vtrain.bench.timing import windows
from vtrain.data.labels import refuse_several
from vtrain.data.progress import said_if_long
from vtrain.device import describe, peak_memory
from vtrain.inference.loaded import load_model
from vtrain.report.corruptions import Corruptions, under_corruptions
from vtrain.report.measured import Measured, Speed, speed
from vtrain.run.evaluate import Subject, prepare

SECONDS = 3.0
"""Of timing, for each batch size."""
IMAGES = 2000
"""Of the validation images that are corrupted, 35 times each: an interval of about +-2 %."""


def measure(path: Path, *, cost: bool, corruptions: bool) -> Measured:
    """Measure what is asked for.

    Raises:
        CheckpointError: The run has no checkpoint.
        DataError: Its images cannot be read.
    """
    if not (cost or corruptions):
        return Measured()
    subject = prepare(load_model(path), (), "val")
    if corruptions:
        refuse_several(subject.samples.targets, "--corruptions")
    with said_if_long("timing the model"):
        speeds = _speeds(subject) if cost else []
        memory = peak_memory(subject.device) if cost else 0
    return Measured(
        describe(subject.device),
        speeds,
        memory,
        _corruptions(subject) if corruptions else None,
    )


def _speeds(subject: Subject) -> list[Speed]:
    """Time the model at one image and at the batch of evaluation."""
    size, channels = subject.loaded.geometry.image_size, subject.loaded.geometry.channels
    result = []
    for count in sorted({1, subject.loader.batch_size}):
        images = torch.randint(256, (count, channels, size, size), dtype=torch.uint8)
        on_device = images.to(subject.device)

        # Bound as a default: the loop gives its variable another batch before this is called again.
        def work(images: Tensor = on_device) -> int:
            subject.predict(images)
            return len(images)

        result.append(speed(count, windows(work, SECONDS, subject.device)))
    return result


def _corruptions(subject: Subject) -> Corruptions:
    loader = subject.loader_of(subject.sampled(IMAGES))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader.batches("corrupting images and asking the model"):
            yield batch.images, batch.targets

    return under_corruptions(lambda images: subject.predict(images).argmax(1), batches())
