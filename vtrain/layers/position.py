"""Fixed position embeddings, and the resizing of learned ones to another grid."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sincos_2d(grid: int, embed_dim: int, temperature: float = 10_000.0) -> Tensor:
    """Return fixed positions: sin x, cos x, sin y, cos y, each a quarter of the width.

    Frequencies fall from 1 to 1 / temperature. Reference: Chen et al. (MoCo v3), arXiv:2104.02057.

    Shape: -> (1, grid * grid, embed_dim), row by row.
    """
    steps = torch.arange(embed_dim // 4, dtype=torch.float32)
    frequencies = temperature ** (-steps / max(embed_dim // 4 - 1, 1))
    y, x = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    x, y = (axis.reshape(-1, 1) * frequencies for axis in (x, y))  # each (grid * grid, D / 4)
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)[None]


def resize_map(grid: Tensor, height: int, width: int) -> Tensor:
    """Resize a map of vectors, in fp32, bicubic with antialiasing.

    A map of the right size is returned unchanged.

    Shape: (1, D, h, w) -> (1, D, height, width).
    """
    if tuple(grid.shape[2:]) == (height, width):
        return grid
    resized = F.interpolate(
        grid.float(), (height, width), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.to(grid.dtype)


def resize_tokens(positions: Tensor, grid: int, prefix: int) -> Tensor:
    """Resize learned token positions to another square grid; the first `prefix` rows stay as is.

    Shape: (1, prefix + h * h, D) -> (1, prefix + grid * grid, D).

    Raises:
        ValueError: The rows after the prefix do not make a square.
    """
    first, rows = positions[:, :prefix], positions[:, prefix:]
    side = round(rows.shape[1] ** 0.5)
    if side * side != rows.shape[1]:
        raise ValueError(
            f"{positions.shape[1]} positions are not {prefix} prefix tokens and a square grid"
        )
    # To a map, channels first, and back to rows.
    as_map = rows.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = resize_map(as_map, grid, grid).permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([first, resized], dim=1)
