"""Pixels as tensors: from a picture to bytes, and from bytes to a model's input and back."""

from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vtrain.data.geometry import Triple


def to_bytes(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image. Shape: (3, H, W) uint8."""
    assert image.mode == "RGB", f"the decoder gives RGB, not {image.mode}"
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def normalise(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Scale bytes to [0, 1], subtract the mean and divide by the standard deviation.

    Shape: (B, 3, H, W) uint8 -> the same in float32.
    """
    scale, shift = coefficients(mean, std, images.device)
    return images.to(torch.float32).mul_(scale).add_(shift)


def denormalise(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Undo `normalise`, to look at images. Shape: (B, 3, H, W) float -> uint8."""
    scale, shift = coefficients(mean, std, images.device)
    return ((images - shift) / scale).round().clamp(0, 255).to(torch.uint8)


@cache  # a copy to the GPU in every step would wait for it
def coefficients(mean: Triple, std: Triple, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return scale and shift of each channel. Shape: (3, 1, 1) both."""
    # (x / 255 - mean) / std = x * scale + shift: one multiplication and one addition a value.
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale[:, None, None], shift[:, None, None]
