"""A training by timm's own parts, to start from the very file that they leave behind."""

import argparse
import sys
from pathlib import Path
from typing import Any

NAME = "vit_tiny_patch16_224"
SHAPE = {
    **{"img_size": 32, "patch_size": 4, "embed_dim": 128, "depth": 6, "num_heads": 4},
    **{"mlp_ratio": 2, "global_pool": "avg", "class_token": False},
}
"""timm's words for the model of configs/vit_cifar_finetune.yaml."""
BATCH_SIZE, LR, WEIGHT_DECAY, LABEL_SMOOTHING = 128, 1e-3, 0.05, 0.1


def timm_file(images: Path, folder: Path, epochs: int, seed: int = 0) -> Path:
    """Train a small ViT on a folder of classes as timm's script does, and return what it leaves.

    That is `model_best.pth.tar`, with settings, optimizer and all. A training that is done is not
    repeated.
    """
    best = folder / "model_best.pth.tar"
    if best.exists():
        return best
    import timm
    import torch
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import CheckpointSaver

    torch.manual_seed(seed)
    classes = sum(path.is_dir() for path in images.iterdir())
    model = timm.create_model(NAME, num_classes=classes, **SHAPE)
    batches = loader(model, images)
    optimizer = create_optimizer_v2(model, "adamw", lr=LR, weight_decay=WEIGHT_DECAY)
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=epochs, step_on_epochs=False, updates_per_epoch=len(batches)
    )
    loss_of, steps = LabelSmoothingCrossEntropy(LABEL_SMOOTHING), 0
    for epoch in range(epochs):
        right = seen = 0
        for inputs, targets in batches:
            logits = model(inputs)
            loss_of(logits, targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            steps, seen = steps + 1, seen + len(targets)
            right += int((logits.argmax(1) == targets).sum())
            scheduler.step_update(num_updates=steps)
        print(f"--- timm, epoch {epoch}: {right / seen:.2%} of what it trains on", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    settings = argparse.Namespace(model=NAME, lr=LR, epochs=epochs, mean=None, std=None)
    saver = CheckpointSaver(model, optimizer, args=settings, checkpoint_dir=str(folder))
    saver.save_checkpoint(epochs - 1, metric=0.0)
    return best


def loader(model: Any, images: Path) -> Any:
    """Return timm's training loader, with the mean and std that timm has for the model."""
    from timm.data import create_dataset, create_loader, resolve_data_config

    facts = resolve_data_config({}, model=model)
    dataset = create_dataset("", root=str(images), is_training=True)
    return create_loader(
        dataset,
        input_size=(3, SHAPE["img_size"], SHAPE["img_size"]),
        batch_size=min(BATCH_SIZE, len(dataset)),  # an incomplete batch is left out
        is_training=True,
        use_prefetcher=False,
        scale=(0.5, 1.0),
        color_jitter=0.0,
        interpolation="bicubic",
        mean=facts["mean"],
        std=facts["std"],
        num_workers=0,
        persistent_workers=False,
    )
