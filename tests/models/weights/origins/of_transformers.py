"""A folder `checkpoint-1` of transformers' Trainer, with the image processor beside the model."""

import torch
from common import leave, shaken
from transformers import (
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

config = ViTConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=128,
    image_size=32,
    patch_size=8,
    layer_norm_eps=1e-6,
    num_labels=10,
)
model = shaken(ViTForImageClassification(config))
images = [{"pixel_values": torch.randn(3, 32, 32), "labels": label} for label in range(4)]
arguments = TrainingArguments(
    "weights", max_steps=1, save_steps=1, report_to=[], use_cpu=True, disable_tqdm=True
)
processor = ViTImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
Trainer(model, arguments, train_dataset=images, processing_class=processor).train()
leave(model, lambda batch: model(batch).logits)
