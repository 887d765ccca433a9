"""A checkpoint of Lightning's trainer, with hyper-parameters and a callback's state."""

import argparse
from pathlib import Path

import lightning
import torch
from common import SIZES, leave, shaken
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class Module(lightning.LightningModule):
    def __init__(self, settings: argparse.Namespace, folder: Path) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = shaken(VisionTransformer(num_classes=10, **SIZES))
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(10))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss: Tensor = self.criterion(self.model(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters())
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2),
        }


data = torch.utils.data.TensorDataset(torch.randn(4, 3, 32, 32), torch.arange(4))
trainer = lightning.Trainer(
    max_epochs=1,
    accelerator="cpu",
    logger=False,
    enable_progress_bar=False,
    callbacks=[EarlyStopping("loss"), ModelCheckpoint("weights", monitor="loss")],
)
module = Module(argparse.Namespace(lr=0.1, inner=Path("x")), Path("y"))
trainer.fit(module, torch.utils.data.DataLoader(data, 2))
leave(module, module.model)
