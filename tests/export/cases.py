"""A small trained model, and what is written of it, made once for many tests."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from tests.checkpoints import small_checkpoint
from tests.conftest import stated, tiny
from tests.models.agreement import shaken
from vtrain.data.preprocess import Preprocess
from vtrain.export.graph import Input, described, example, exportable
from vtrain.export.onnx_file import onnx_bytes
from vtrain.export.proof import Evidence
from vtrain.files.checkpoint import ModelDescription
from vtrain.inference.loaded import LoadedModel
from vtrain.registry import MODELS

CLASSES = tuple(f"class_{k}" for k in range(10))
GEOMETRY = Preprocess(32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), crop_fraction=0.875)


def loaded(
    name: str = "vit_ti", geometry: Preprocess = GEOMETRY, **arguments: object
) -> LoadedModel:
    """Return a model whose every parameter counts, as if it came from a checkpoint."""
    channels = geometry.channels
    model = shaken(tiny(name, in_channels=channels, **arguments)).eval()
    checkpoint = small_checkpoint(
        model=ModelDescription(name, {**stated(name, "TINY"), **arguments}, 32, channels),
        classes=CLASSES,
        preprocess=geometry.to_dict(),
        state={"model": model.state_dict(), "ema": None},
    )
    return LoadedModel(model, CLASSES, geometry, checkpoint, Path("x.pt"))


def evidence(model: LoadedModel, count: int = 12) -> Evidence:
    """Ask a model for noise, without vtrain's own loop."""
    draw = torch.Generator().manual_seed(1)
    shape = (count, model.model.in_channels, 32, 32)
    images = torch.randint(256, shape, generator=draw).to(torch.uint8)
    with torch.no_grad():
        logits = model.model(model.geometry.normalise(images))
    return Evidence(images.numpy(), logits.numpy(), logits.argmax(1).numpy())


def native(name: str, count: int, **arguments: object) -> tuple[LoadedModel, Evidence]:
    """Return a model of the size that it has by default, and what it says of noise."""
    component = MODELS[name]
    size = component.default("image_size")
    torch.manual_seed(0)
    model = shaken(component(num_classes=10, image_size=size, **arguments)).eval()
    source = replace(loaded(), model=model, geometry=replace(GEOMETRY, image_size=size))
    images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        logits = model(source.geometry.normalise(images)).numpy()
    return source, Evidence(images.numpy(), logits, logits.argmax(1))


@cache  # the exporter takes seconds
def written(taking: Input) -> bytes:
    """Return the ONNX file of `loaded()`."""
    model = loaded()
    return onnx_bytes(exportable(model, taking), example(model), 20, described(model, taking))


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(1).numpy()
