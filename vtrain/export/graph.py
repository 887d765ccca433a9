"""The model as it leaves: with the normalisation inside, so that a caller hands over pixels."""

import json
from typing import Literal

import torch
from torch import Tensor, nn

from vtrain.data.normalise import coefficients
from vtrain.export.proof import Array, Runtime
from vtrain.inference.loaded import LoadedModel

Input = Literal["pixels", "normalised"]
"""What a file takes: values from 0 to 255, or what `Preprocess.normalise` makes of them."""


class OfPixels(nn.Module):
    """A model that normalises by itself. Shape: (B, C, S, S) float, 0 to 255 -> (B, K)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__()
        self.model = loaded.model
        geometry = loaded.geometry
        # Those of `Preprocess.normalise`: by its arithmetic both round alike.
        scale, shift = coefficients(geometry.mean, geometry.std, torch.device("cpu"))
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images * self.scale + self.shift)
        return logits


def exportable(loaded: LoadedModel, taking: Input) -> nn.Module:
    """Return the module to write, in evaluation mode on the CPU, without gradients."""
    module = OfPixels(loaded) if taking == "pixels" else loaded.model
    return module.eval().requires_grad_(False)


def example(loaded: LoadedModel) -> Tensor:
    """Return images of the right shape: two, as torch takes a batch of one for fixed."""
    model = loaded.model
    return torch.zeros(2, model.in_channels, model.image_size, model.image_size)


def described(loaded: LoadedModel, taking: Input) -> dict[str, str]:
    """Return what is needed to use the file, by the names under which it says so."""
    return {
        "classes": json.dumps(loaded.classes),
        "preprocess": json.dumps(loaded.geometry.to_dict()),
        "input": taking,
    }


def runtime(module: nn.Module, loaded: LoadedModel, taking: Input) -> Runtime:
    """Return how to ask a module of torch for bytes."""

    def ask(images: Array) -> Array:
        pixels = torch.from_numpy(images)
        inputs = pixels.float() if taking == "pixels" else loaded.geometry.normalise(pixels)
        with torch.no_grad():
            logits: Array = module(inputs).float().numpy()
        return logits

    return ask
