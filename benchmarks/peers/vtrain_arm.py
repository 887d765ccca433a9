"""vtrain as a user runs it: a config, the real loader, trainer and callbacks, default settings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.arm import (
    LABEL_SMOOTHING,
    LR,
    WEIGHT_DECAY,
    Job,
    Turns,
    first_losses,
    static_batch,
)
from vtrain.config import config_from_text
from vtrain.data.input import no_augmentation
from vtrain.data.loading.batches import Batch
from vtrain.engine.callback import Callback
from vtrain.engine.state import TrainState
from vtrain.engine.trainer import Trainer
from vtrain.files.yaml import dump_yaml
from vtrain.models.pretrained import load_pretrained
from vtrain.models.profile import count_macs, count_parameters
from vtrain.resources import keep_freed_memory
from vtrain.run.bench import run_callbacks
from vtrain.run.build.model import build_model
from vtrain.run.build.parts import build_parts
from vtrain.run.build.resolve import resolve
from vtrain.run.build.trainer import build_trainer


class TakeTurns(Callback):
    """Stands still between turns."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_step_end(self, state: TrainState) -> None:
        self.turns.step_done(self.turns.job.batch_size)


def main() -> None:
    """Train until nobody asks for more."""
    job = Job.from_command_line()
    keep_freed_memory()  # as the command does
    config = config_from_text(dump_yaml(settings(job)), "bench_peers")
    turns = Turns(job)
    parts = build_parts(resolve(config))
    turns.answer(
        parameters=count_parameters(parts.model),
        flops=2 * count_macs(parts.model),
        precision=parts.plan.precision,
        images="" if job.bare else parts.train_loader.describe(),
        torch=torch.__version__,
    )
    callbacks = [*run_callbacks(parts, Path(job.folder)), TakeTurns(turns)]
    trainer = build_trainer(parts, callbacks)
    # `TakeTurns` stands still in `on_step_end`; the loop ends with the process.
    if not job.bare:
        trainer.fit(parts.train_loader)
    train_on(trainer, turns)


def settings(job: Job) -> dict[str, Any]:
    """Return the config: what every arm does, and vtrain's defaults for everything else."""
    crop = "pad" if job.image_size <= 64 else "resized"
    return {
        "model": {"name": job.model, **job.arguments},
        "data": {
            "name": "image_folder",
            "root": job.data,
            "image_size": job.image_size,
            "cache": job.cache,
        },
        "augment": {"crop": crop},
        "optimizer": {"name": "adamw", "lr": LR, "weight_decay": WEIGHT_DECAY},
        "schedule": {"name": "cosine", "warmup_epochs": 5},
        "train": {
            "epochs": 1000,
            "eval_every": 1000,
            "batch_size": job.batch_size,
            "device": job.device,
            "loss": {"name": "cross_entropy", "label_smoothing": LABEL_SMOOTHING},
        },
    }


def losses_with(job: Job, folder: str) -> dict[str, float]:
    """Return the first losses of vtrain's model with the weights of another arm."""
    config = config_from_text(dump_yaml(settings(job)), "bench_peers")
    batch = torch.load(Path(folder, "check.pt"), weights_only=True)
    model = build_model(config, job.num_classes)
    # By the translation that `model.pretrained` uses: this is a test of it as well.
    load_pretrained(model, str(Path(folder, "weights.pt")))
    return first_losses(model, batch)


def train_on(trainer: Trainer, turns: Turns) -> None:
    """Make bare steps: the trainer's own, on a batch that lies in memory."""
    images, targets = static_batch(turns.job)
    bare = replace(
        trainer,
        input=no_augmentation,
        lr=0.0,  # one batch for ever would be learnt by heart, and its gradients vanish
    )
    batch = Batch(images, targets, torch.arange(len(images)), 0, len(images))
    while True:
        bare.train_step(batch)
        turns.step_done(len(images))


if __name__ == "__main__":
    main()
