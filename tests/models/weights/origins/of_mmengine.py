"""A checkpoint of mmengine's Runner: logged values, schedules, and averaged weights in exchange."""

import torch
from common import SIZES, leave, shaken
from mmengine.model import BaseModel
from mmengine.runner import Runner
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = shaken(VisionTransformer(num_classes=10, **SIZES))

    def forward(self, inputs: Tensor, targets: Tensor, mode: str = "tensor") -> object:
        logits = self.backbone(inputs)
        return {"loss": nn.functional.cross_entropy(logits, targets)} if mode == "loss" else logits


data = [(torch.randn(3, 32, 32), label) for label in range(4)]
Runner(
    Model(),
    "weights",
    train_dataloader={
        "batch_size": 2,
        "dataset": data,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "collate_fn": {"type": "default_collate"},
    },
    train_cfg={"by_epoch": True, "max_epochs": 1},
    optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.01}},
    param_scheduler=[{"type": "LinearLR", "start_factor": 0.1, "by_epoch": False}],
    custom_hooks=[{"type": "EMAHook", "momentum": 0.5}],
).train()
# What the Runner itself would evaluate: the averaged weights, which it keeps as `state_dict`.
content = torch.load("weights/epoch_1.pth", weights_only=False)
model = Model()
model.load_state_dict(content["state_dict"])
leave(model, model.backbone)
