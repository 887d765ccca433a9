"""Cut an image into square patches and project each to a token."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.layers.position import resize_map


class PatchEmbed(nn.Module):
    """Project every patch of an image by one linear map.

    The parameters are those of a convolution whose stride is its kernel size, which is what the
    published weights hold; the computation is a reshape and a matrix product, which is the same
    map and spares the convolution's own rearrangements.

    Shape: (B, C, H, W) -> (B, H / patch_size, W / patch_size, embed_dim).

    `norm` makes the normalisation of the tokens from their width; there is none by default.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dim: int,
        patch_size: int,
        norm: Callable[[int], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)
        self.norm = norm(embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        (B, C, H, W), p = images.shape, self.patch_size
        x = images.reshape(B, C, H // p, p, W // p, p)
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, rows, columns, C * p * p)
        x = F.linear(x, self.proj.weight.flatten(1), self.proj.bias)
        tokens: Tensor = self.norm(x)
        return tokens


def resize_kernel(kernel: Tensor, size: int) -> Tensor:
    """Resize a patch kernel so that resized patches give the same tokens, as closely as possible.

    Resizing a patch is a linear map R, so the new kernel solves R w' = w in the least squares.
    Reference: Beyer et al., "FlexiViT", arXiv:2212.08013, section 3.4.

    Shape: (D, C, p, p) -> (D, C, size, size).
    """
    p = kernel.shape[-1]
    pixels = torch.eye(p * p).reshape(-1, 1, p, p)
    resize = resize_map(pixels, size, size).flatten(1)  # R, transposed: (p * p, size * size)
    resized: Tensor = kernel.flatten(2) @ torch.linalg.pinv(resize).T
    return resized.reshape(*kernel.shape[:2], size, size)
