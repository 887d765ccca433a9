"""Fit a tensor to another shape: one rule for each kind of parameter that has a meaning in pixels.

All of it in fp32. Position embeddings and bias tables go to another grid or window, patch kernels
to another patch size, and input kernels to another number of channels.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vtrain.layers.patch_embed import resize_kernel
from vtrain.layers.position import resize_map, resize_tokens


def fit_to_shape(name: str, tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """Return `tensor` in the wanted shape: itself, resized in fp32, or None if no rule does it."""
    if tensor.shape == shape:
        return tensor
    rule = next((rule for ending, rule in RULES.items() if name.endswith(ending)), None)
    if rule is None or tensor.ndim != len(shape):
        return None
    try:
        fitted = rule(tensor.float(), shape)
    except (ValueError, RuntimeError):  # not a square, or too small for one
        return None
    return fitted if fitted.shape == shape else None


def fit_tokens(positions: Tensor, shape: torch.Size) -> Tensor:
    """Resize positions of prefix tokens and a square grid. Shape: (1, P + N, D), another N."""
    # The largest square is the grid: a prefix has fewer rows than the 2 * grid + 1 to the next one.
    grid = math.isqrt(shape[1])
    return resize_tokens(positions, grid, prefix=shape[1] - grid * grid)


def fit_axis(positions: Tensor, shape: torch.Size) -> Tensor:
    """Resize positions along one axis. Shape: (1, n, D), another n."""
    # As a map of one row: (1, D, 1, n).
    return resize_map(positions.mT[:, :, None], 1, shape[1])[:, :, 0].mT


def fit_table(table: Tensor, shape: torch.Size) -> Tensor:
    """Resize a bias for each offset, dy by dx. Shape: ((2 * side - 1)**2, heads), another side."""
    old, new = math.isqrt(len(table)), math.isqrt(shape[0])
    return resize_map(table.mT.reshape(1, -1, old, old), new, new)[0].flatten(1).mT


def fit_kernel(kernel: Tensor, shape: torch.Size) -> Tensor:
    """Change the input channels and the size of a patch kernel. Shape: (D, C, p, p), another C, p.

    One channel gets the sum over the channels, so that a grey image gives what its copies in every
    channel gave. More get the channels in turn, scaled to keep the size of the result.
    """
    channels, old = shape[1], kernel.shape[1]
    # Channels first: the resize then works on as many as are kept.
    if channels == 1:
        kernel = kernel.sum(1, keepdim=True)
    elif channels != old:
        kernel = kernel[:, torch.arange(channels) % old] * (old / channels)
    return resize_kernel(kernel, shape[2])


STEM = "embed.proj.weight"
"""How the name of the kernels ends that look at the image."""


def stem_note(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say how kernels were adapted to another number of channels; empty if they were not."""
    for name, kernel in wanted.items():
        if name.endswith(STEM) and name in given and given[name].ndim == kernel.ndim == 4:
            old, new = given[name].shape[1], kernel.shape[1]
            if old != new:
                how = "added up" if new == 1 else f"taken in turn, times {old}/{new}"
                return f"kernels of {old} channels {how} for {new}"
    return ""


RULES: dict[str, Callable[[Tensor, torch.Size], Tensor]] = {
    "absolute_pos_embed": fit_tokens,
    "patch_pos": fit_tokens,
    "pos_embed": fit_tokens,
    "pos_embed_x": fit_axis,
    "pos_embed_y": fit_axis,
    "pixel_pos": lambda positions, shape: resize_map(positions, shape[2], shape[3]),  # (1, D, h, w)
    "relative_position_bias_table": fit_table,
    STEM: fit_kernel,
}
"""How a tensor is fitted, by the end of its name."""
