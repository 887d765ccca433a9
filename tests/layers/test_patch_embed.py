import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vtrain.layers.patch_embed import PatchEmbed


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_the_strided_convolution(channels: int) -> None:
    layer, images = PatchEmbed(channels, 7, patch_size=4), torch.randn(2, channels, 8, 12)
    expected = F.conv2d(images, layer.proj.weight, layer.proj.bias, stride=4)
    torch.testing.assert_close(layer(images), expected.permute(0, 2, 3, 1))


def test_the_norm_follows_the_projection() -> None:
    layer = PatchEmbed(3, 16, patch_size=4, norm=nn.LayerNorm)
    tokens = layer(torch.randn(2, 3, 8, 8))
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 2, 2), atol=1e-5, rtol=0)
