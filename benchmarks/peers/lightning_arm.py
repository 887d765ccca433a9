"""timm's models trained by Lightning, which brings the loop and leaves the model to its users."""

import lightning
import timm
import torch
import torch.nn.functional as F
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


class Classifier(lightning.LightningModule):
    """The module that Lightning's own guide for image classification shows."""

    def __init__(self, model: nn.Module, job: Job) -> None:
        super().__init__()
        self.model, self.job = model, job

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        images, targets = batch
        loss = F.cross_entropy(self.model(images), targets, label_smoothing=LABEL_SMOOTHING)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        lr = 0.0 if self.job.bare else LR
        return torch.optim.AdamW(
            self.parameters(), lr=lr, weight_decay=WEIGHT_DECAY, fused=self.job.fast or None
        )


class TakeTurns(lightning.Callback):
    """Stands still between turns."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        self.turns.step_done(len(batch[0]))


def main() -> None:
    """Train until nobody asks for more."""
    job = Job.from_command_line()
    turns = Turns(job)
    torch.manual_seed(0)
    model = timm.create_model(
        job.model, num_classes=job.num_classes, img_size=job.image_size, **job.arguments
    )
    introduce(turns, model, lambda logits: logits)
    trainer = lightning.Trainer(
        accelerator="cpu" if job.device == "cpu" else "gpu",
        devices=1,
        precision="bf16-mixed" if job.bf16 else "32-true",
        max_epochs=-1,
        default_root_dir=job.folder,
        callbacks=[TakeTurns(turns)],
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    if job.bare:
        batches = Forever(static_batch(job))
    else:
        batches = DataLoader(
            image_folder(job),
            batch_size=job.batch_size,
            shuffle=True,
            num_workers=job.workers,
            persistent_workers=job.workers > 0,
        )
    trainer.fit(Classifier(model, job), batches)


if __name__ == "__main__":
    main()
