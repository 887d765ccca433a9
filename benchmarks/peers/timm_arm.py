"""timm's models in the loop of its own training script, without what a benchmark does not need.

Like the script it reads `loss.item()` at every step, sets the learning rate at every update, and
takes the images through timm's dataset, collation and prefetching loader. Written after
github.com/huggingface/pytorch-image-models, train.py and timm/data/loader.py.
"""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import create_dataset, create_loader
from timm.data.transforms import ToNumpy
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter
from torchvision.transforms import Compose

from benchmarks.peers.arm import (
    LABEL_SMOOTHING,
    LR,
    MEAN,
    STD,
    WEIGHT_DECAY,
    Forever,
    Job,
    Turns,
    introduce,
    pixel_transforms,
    static_batch,
)


def main() -> None:
    """Train until nobody asks for more."""
    job = Job.from_command_line()
    turns = Turns(job)
    torch.manual_seed(0)
    model = timm.create_model(
        job.model, num_classes=job.num_classes, img_size=job.image_size, **job.arguments
    )
    introduce(turns, model, lambda logits: logits)
    model = model.to(job.device)
    if job.compile:
        model = torch.compile(model.to(memory_format=torch.channels_last))
    kwargs = {"fused": True} if job.fast else {}
    optimizer = create_optimizer_v2(
        model, "adamw", lr=0.0 if job.bare else LR, weight_decay=WEIGHT_DECAY, **kwargs
    )
    scheduler, epochs = create_scheduler_v2(
        optimizer,
        "cosine",
        num_epochs=1000,
        warmup_epochs=5,
        step_on_epochs=False,
        updates_per_epoch=100,
    )
    train_loss = LabelSmoothingCrossEntropy(LABEL_SMOOTHING)
    meter, updates = AverageMeter(), 0
    batches = Forever(static_batch(job)) if job.bare else loader(job)
    for _epoch in range(epochs):
        for images, targets in batches:
            if job.compile:
                images = images.contiguous(memory_format=torch.channels_last)  # noqa: PLW2901
            with job.autocast():
                loss = train_loss(model(images), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            meter.update(loss.item(), len(images))
            updates += 1
            if not job.bare:
                scheduler.step_update(num_updates=updates, metric=meter.avg)
            turns.step_done(len(images))


def loader(job: Job) -> Any:
    """Return timm's training loader, with the same augmentation as everybody's."""
    dataset = create_dataset("", root=str(Path(job.data, "train")), is_training=True)
    batches = create_loader(
        dataset,
        input_size=(3, job.image_size, job.image_size),
        batch_size=job.batch_size,
        is_training=True,
        mean=MEAN,
        std=STD,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
        device=torch.device(job.device),
    )
    dataset.transform = Compose([*pixel_transforms(job), ToNumpy()])
    return batches


if __name__ == "__main__":
    main()
