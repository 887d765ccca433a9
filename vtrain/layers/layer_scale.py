"""A learned factor for each channel of a residual branch.

Reference: Touvron et al., "Going deeper with image transformers", arXiv:2103.17239.
"""

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Multiply each channel by a learned factor. Shape: (..., D) -> (..., D)."""

    def __init__(self, embed_dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((embed_dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma
