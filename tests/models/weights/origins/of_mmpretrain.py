"""A ViT and a Swin of mmpretrain, saved as it publishes them."""

import sys

import torch
from common import leave, shaken
from mmpretrain.models import ImageClassifier

VIT = {
    "backbone": {
        "type": "VisionTransformer",
        "arch": {
            "embed_dims": 32,
            "num_layers": 2,
            "num_heads": 2,
            "feedforward_channels": 128,
        },
        "img_size": 32,
        "patch_size": 8,
    },
    "head": {"type": "VisionTransformerClsHead", "num_classes": 10, "in_channels": 32},
}
SWIN = {
    "backbone": {
        "type": "SwinTransformer",
        "arch": {"embed_dims": 16, "depths": [2, 2], "num_heads": [2, 4]},
        "img_size": 32,
        "patch_size": 2,
        "window_size": 4,
        "out_indices": (1,),
    },
    "neck": {"type": "GlobalAveragePooling"},
    "head": {"type": "LinearClsHead", "num_classes": 10, "in_channels": 32},
}

model = shaken(ImageClassifier(**{"vit": VIT, "swin": SWIN}[sys.argv[1]]))
torch.save({"meta": {}, "state_dict": model.state_dict()}, "weights.pth")
leave(model, lambda images: model(images, mode="tensor"))
