"""Swin Transformer.

Reference: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
arXiv:2103.14030 (github.com/microsoft/Swin-Transformer).

B images, H x W tokens of a stage's map, C its channels, nW windows, N tokens of a window, h heads,
d head dimension, K num_classes.
Differs: dropout is left out (0 in every published recipe).
"""

from pydantic import PositiveFloat
from torch import Tensor, nn

from vtrain.layers.drop_path import DropPath
from vtrain.layers.linear import Linear
from vtrain.layers.mlp import MLP
from vtrain.layers.windows import RelativeBias, Windows, attend_in_windows
from vtrain.models.base import ImageClassifier, learned
from vtrain.models.options import grouped_keywords
from vtrain.models.shifted_windows import LayerNorm, ShiftedWindowTransformer, Stages, two_by_two
from vtrain.registry import MODELS, DropRate


class WindowAttention(nn.Module):
    """Self-attention within windows, with a learned bias for each offset between two tokens.

    `side` is that of the largest window, in tokens, which sets the size of the bias table.

    Shape: (B, H, W, C) -> (B, H, W, C).
    """

    def __init__(
        self, channels: int, num_heads: int, side: int, relative_position_bias: bool
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.relative_position_bias_table = None
        if relative_position_bias:
            # One row for each offset, from -(side - 1) to side - 1 in both directions.
            self.relative_position_bias_table = learned((2 * side - 1) ** 2, num_heads)
        self.bias_of_offsets = RelativeBias(side)
        self.qkv = Linear(channels, 3 * channels)
        self.proj = Linear(channels, channels)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        bias, table = None, self.relative_position_bias_table
        if table is not None:
            bias = self.bias_of_offsets(table, windows.side)  # (h, N, N)
        qkv = self.qkv(windows.split(x))  # (B, nW, N, 3 * C)
        x = attend_in_windows(qkv, self.num_heads, bias, windows.mask)
        return windows.join(self.proj(x))


class Block(nn.Module):
    """Pre-norm transformer block with attention in windows. Shape: (B, H, W, C), unchanged."""

    def __init__(
        self, channels: int, attn: WindowAttention, mlp_ratio: float, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.attn = attn
        self.norm2 = LayerNorm(channels)
        self.mlp = MLP(channels, int(channels * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), windows))  # (B, H, W, C)
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class PatchMerging(nn.Module):
    """Halve the map and double the channels. Shape: (B, H, W, C) -> (B, H / 2, W / 2, 2 * C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * channels)
        self.reduction = Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.reduction(self.norm(two_by_two(x)))
        return out


SWIN = "Liu et al., arXiv:2103.14030"


@MODELS.register("swin_t", reference=SWIN)
@MODELS.register("swin_s", reference=SWIN, depths=(2, 2, 18, 2))
@MODELS.register(
    "swin_b", reference=SWIN, embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32)
)
@MODELS.register(
    "swin_l", reference=SWIN, embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48)
)
class Swin(ShiftedWindowTransformer):
    """Swin Transformer: attention in windows that shift from block to block, on four scales.

    Images may be of any size that is a multiple of `patch_size`, unless there is an absolute
    position embedding: `image_size` is what the bias tables are made for. Where a map is smaller
    than that, its windows use the inner part of their table.

    Shape: (B, in_channels, height, width) -> (B, K).

    Args:
        num_classes: Length of the logits, K.
        image_size: Pixels per side; a multiple of `patch_size`.
        in_channels: Channels of the images.
        patch_size: Pixels per side of a patch.
        embed_dim: Channels of the first stage; each later stage has twice as many.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage; divide its channels.
        window_size: Tokens per side of a window. A stage whose map is not larger has one window,
            the whole map.
        mlp_ratio: Hidden width of the MLP / channels.
        relative_position_bias: Add to each score a learned number for the offset between the tokens
            (section 3.2 and table 4 of the paper).
        absolute_position_embedding: Add a learned vector to each patch (table 4, `abs. pos.`).
        window_shift: Shift the windows of every second block by half a window (table 4).
        drop_path_rate: Chance to skip a residual branch, for the last block; grows linearly from 0
            at the first.
    """

    merging = PatchMerging
    no_weight_decay = frozenset({"absolute_pos_embed", "relative_position_bias_table"})

    @grouped_keywords
    def __init__(
        self,
        num_classes: int = 1000,
        image_size: int = 224,
        in_channels: int = 3,
        *,
        stages: Stages,
        mlp_ratio: PositiveFloat = 4.0,
        relative_position_bias: bool = True,
        absolute_position_embedding: bool = False,
        window_shift: bool = True,
        drop_path_rate: DropRate = 0.1,
    ) -> None:
        # What differs from the second version: the block, the merging, and absolute positions.
        def make_block(stage: int, side: int, rate: float) -> nn.Module:
            channels, heads = stages.channels(stage), stages.num_heads[stage]
            attn = WindowAttention(channels, heads, side, relative_position_bias)
            return Block(channels, attn, mlp_ratio, rate)

        super().__init__(
            num_classes, image_size, in_channels, stages, window_shift, drop_path_rate, make_block
        )
        self.absolute_pos_embed = None
        if absolute_position_embedding:
            patches = (image_size // stages.patch_size) ** 2
            self.absolute_pos_embed = learned(1, patches, stages.embed_dim)

    def embed(self, images: Tensor) -> Tensor:
        """Turn images into the map of the first stage. Shape: (B, C, H, W) -> (B, H, W, C)."""
        x = super().embed(images)
        if self.absolute_pos_embed is not None:
            # Stored as timm does, (1, rows * columns, C), and added to the map.
            x = x + self.absolute_pos_embed.reshape(1, *x.shape[1:])
        return x

    def check_images(self, images: Tensor) -> None:
        """Refuse images of another size if positions are absolute, else as any Swin does."""
        if self.absolute_pos_embed is None:
            super().check_images(images)
        else:
            ImageClassifier.check_images(self, images)
