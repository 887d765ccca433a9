"""Pixels as tensors: from a picture to bytes, and from bytes to a model's input and back."""

from functools import cache

import torch
from PIL import Image
from torch import Tensor

from vtrain.data.geometry import PerChannel
from vtrain.files.lazy_image import image_of, samples_of


def to_bytes(image: Image.Image) -> Tensor:
    """Return the pixels of an image. Shape: (C, H, W) uint8."""
    return torch.from_numpy(samples_of(image)).permute(2, 0, 1).contiguous()


def to_image(pixels: Tensor) -> Image.Image:
    """Undo `to_bytes`. Shape: (C, H, W) uint8."""
    return image_of(pixels.permute(1, 2, 0).contiguous().numpy())


def normalise(images: Tensor, mean: PerChannel, std: PerChannel) -> Tensor:
    """Scale bytes to [0, 1], subtract the mean and divide by the standard deviation.

    Shape: (B, C, H, W) uint8 -> the same in float32.
    """
    scale, shift = coefficients(mean, std, images.device)
    return images.to(torch.float32).mul_(scale).add_(shift)


def denormalise(images: Tensor, mean: PerChannel, std: PerChannel) -> Tensor:
    """Undo `normalise`, to look at images. Shape: (B, C, H, W) float -> uint8."""
    scale, shift = coefficients(mean, std, images.device)
    return ((images - shift) / scale).round().clamp(0, 255).to(torch.uint8)


@cache  # a copy to the GPU in every step would wait for it
def coefficients(mean: PerChannel, std: PerChannel, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return scale and shift of each channel. Shape: (C, 1, 1) both."""
    # (x / 255 - mean) / std = x * scale + shift: one multiplication and one addition a value.
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale[:, None, None], shift[:, None, None]
