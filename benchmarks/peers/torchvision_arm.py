"""torchvision's models in a loop like that of its reference script, written anew.

Like the script it computes top-1 and top-5 of the training batch and reads them and the loss at
every step, and takes images through `ImageFolder`, Pillow and the default collation. Written after
github.com/pytorch/vision, references/classification/train.py.
"""

from collections import deque
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.peers.arm import (
    LABEL_SMOOTHING,
    LR,
    WEIGHT_DECAY,
    Forever,
    Job,
    Turns,
    image_folder,
    introduce,
    static_batch,
)


def main() -> None:
    """Train until nobody asks for more."""
    job = Job.from_command_line()
    turns = Turns(job)
    torch.manual_seed(0)
    model = build(job)
    introduce(turns, model, lambda logits: logits)
    model = model.to(job.device)
    criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=0.0 if job.bare else LR,
        weight_decay=WEIGHT_DECAY,
        fused=job.fast or None,
    )
    batches: Any = Forever(static_batch(job)) if job.bare else loader(job)
    recent: deque[tuple[float, ...]] = deque(maxlen=20)
    while True:
        for images, targets in batches:
            images, targets = images.to(job.device), targets.to(job.device)  # noqa: PLW2901
            with job.autocast():
                logits = model(images)
                loss = criterion(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            top1, top5 = accuracy(logits, targets)
            recent.append((loss.item(), top1.item(), top5.item()))
            turns.step_done(len(images))


def build(job: Job) -> nn.Module:
    """Return the model; its class is named with its family, as the presets have other sizes."""
    size = {} if job.model == "SwinTransformer" else {"image_size": job.image_size}
    model: nn.Module = getattr(torchvision.models, job.model)(
        num_classes=job.num_classes, **size, **job.arguments
    )
    return model


def loader(job: Job) -> Any:
    """Return torch's loader over the folder."""
    return DataLoader(
        image_folder(job),
        batch_size=job.batch_size,
        shuffle=True,
        num_workers=job.workers,
        persistent_workers=job.fast and job.workers > 0,
    )


@torch.no_grad()
def accuracy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return top-1 and top-5 of a batch."""
    hits = logits.topk(5, dim=1).indices == targets[:, None]
    return hits[:, 0].float().mean(), hits.any(1).float().mean()


if __name__ == "__main__":
    main()
