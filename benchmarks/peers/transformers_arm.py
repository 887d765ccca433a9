"""Hugging Face's models trained by its `Trainer`."""

from typing import Any

import torch
import transformers
from torch import Tensor

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


class TakeTurns(transformers.TrainerCallback):
    """Stands still between turns."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.turns.step_done(self.turns.job.batch_size)


class BareTrainer(transformers.Trainer):
    """The Trainer on one batch that lies in memory."""

    def get_train_dataloader(self) -> Any:
        images, targets = static_batch(self.job)
        return Forever({"pixel_values": images, "labels": targets})


def main() -> None:
    """Train until nobody asks for more."""
    job = Job.from_command_line()
    turns = Turns(job)
    torch.manual_seed(0)
    family = {"ViT": transformers.ViTConfig, "Swin": transformers.SwinConfig}[job.model]
    config = family(image_size=job.image_size, num_labels=job.num_classes, **job.arguments)
    model = getattr(transformers, f"{job.model}ForImageClassification")(config).train()
    introduce(turns, model, lambda output: output.logits)
    arguments = transformers.TrainingArguments(
        output_dir=job.folder,
        per_device_train_batch_size=job.batch_size,
        max_steps=1_000_000,
        learning_rate=1e-30 if job.bare else LR,
        weight_decay=WEIGHT_DECAY,
        label_smoothing_factor=LABEL_SMOOTHING,
        bf16=job.bf16,
        use_cpu=job.device == "cpu",
        dataloader_num_workers=job.workers,
        dataloader_persistent_workers=job.fast and job.workers > 0,
        dataloader_drop_last=True,
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
    )
    trainer_class = BareTrainer if job.bare else transformers.Trainer
    trainer_class.job = job
    trainer_class(
        model=model,
        args=arguments,
        train_dataset=image_folder(job),
        data_collator=collate,
        callbacks=[TakeTurns(turns)],
    ).train()


def collate(samples: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
    """Stack samples under the names that the models take, as Hugging Face's examples do."""
    images, targets = zip(*samples, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.tensor(targets)}


if __name__ == "__main__":
    main()
