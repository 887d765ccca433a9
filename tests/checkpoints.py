"""A small checkpoint of every field, for tests that care for the file and not for the model."""

from typing import Any

import torch

from vtrain.files.checkpoint import Checkpoint, ModelDescription


def small_checkpoint(step: int = 0, numbers: int = 1000, **changes: Any) -> Checkpoint:
    """Return a checkpoint that says which one it is, with so many weights."""
    weights = {"w": torch.full((numbers,), float(step))}
    fields: dict[str, Any] = {
        "model": ModelDescription("vit_ti", {"depth": 2}, 16, 3),
        "classes": ("a", "b"),
        "preprocess": {"image_size": 16},
        "dataset": {"classes": ["a", "b"]},
        "config": "seed: 0\n",
        "metrics": {},
        "state": {"model": weights, "ema": None, "step": step},
    }
    return Checkpoint(**{**fields, **changes})
