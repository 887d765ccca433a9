"""Swin Transformer.

Reference: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
arXiv:2103.14030 (github.com/microsoft/Swin-Transformer).

B images, H x W tokens of a stage's map, C its channels, nW windows, N tokens of a window, h heads,
d head dimension, K num_classes.
Differs: dropout is left out (0 in every published recipe).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from vtrain.layers import norm
from vtrain.layers.drop_path import DropPath, drop_path_rates
from vtrain.layers.linear import Linear
from vtrain.layers.mlp import MLP
from vtrain.layers.patch_embed import PatchEmbed
from vtrain.layers.windows import RelativeBias, WindowPair, Windows, attend_in_windows
from vtrain.models.base import ImageClassifier, init_linear_layers
from vtrain.registry import MODELS, Depth, Probability

LayerNorm = partial(norm.LayerNorm, eps=1e-5)


class WindowAttention(nn.Module):
    """Self-attention within windows, with a learned bias for each offset between two tokens.

    Shape: (B, H, W, C) -> (B, H, W, C).

    Args:
        channels: Width of a token, C.
        num_heads: Number of heads, h.
        side: Tokens per side of the largest window, which sets the size of the bias table.
        relative_position_bias: Whether there is a bias table.
    """

    def __init__(
        self, channels: int, num_heads: int, side: int, relative_position_bias: bool
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.relative_position_bias_table = None
        if relative_position_bias:
            table = torch.empty((2 * side - 1) ** 2, num_heads)
            self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.bias_of_offsets = RelativeBias(side)
        self.qkv = Linear(channels, 3 * channels)
        self.proj = Linear(channels, channels)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        bias, table = None, self.relative_position_bias_table
        if table is not None:
            bias = self.bias_of_offsets(table, windows.side)
        qkv = self.qkv(windows.split(x))
        x = attend_in_windows(qkv, self.num_heads, bias, windows.mask)
        return windows.join(self.proj(x))


class Block(nn.Module):
    """Pre-norm transformer block with attention in windows. Shape: (B, H, W, C), unchanged."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        side: int,
        relative_position_bias: bool,
        mlp_ratio: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.attn = WindowAttention(channels, num_heads, side, relative_position_bias)
        self.norm2 = LayerNorm(channels)
        self.mlp = MLP(channels, int(channels * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), windows))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


def two_by_two(x: Tensor) -> Tensor:
    """Put each square of four tokens side by side as channels, down the columns first.

    An odd map is padded with zeros. Shape: (B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 4 * C).
    """
    H, W = x.shape[1:3]
    if H % 2 or W % 2:
        x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))
    B, H, W, C = x.shape
    x = x.reshape(B, H // 2, 2, W // 2, 2, C)
    return x.permute(0, 1, 3, 4, 2, 5).flatten(3)  # (B, rows, columns, right?, below?, C)


class PatchMerging(nn.Module):
    """Halve the map and double the channels. Shape: (B, H, W, C) -> (B, H / 2, W / 2, 2 * C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * channels)
        self.reduction = Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.reduction(self.norm(two_by_two(x)))
        return out


class Stage(nn.Module):
    """Make a map of the size that this stage works on, then run its blocks.

    Shape: (B, H, W, C) -> the same in the first stage, else (B, H / 2, W / 2, 2 * C), rounded up.
    """

    def __init__(self, downsample: nn.Module, blocks: list[nn.Module], windows: WindowPair) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.windows = windows

    def forward(self, x: Tensor, run_block: Callable[..., Tensor]) -> Tensor:
        x = self.downsample(x)
        windows = self.windows.of(x.shape[1], x.shape[2], x.device)
        for i, block in enumerate(self.blocks):
            x = run_block(block, x, windows[i % 2])
        return x


class MeanPoolHead(nn.Module):
    """Classify the mean token. Shape: (B, H, W, C) -> (B, K)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.mean((1, 2)))
        return logits


class ShiftedWindowTransformer(ImageClassifier):
    """What both versions of Swin share: stages of blocks in windows, and all that is around them.

    Args:
        num_classes: Length of the logits, K.
        image_size: Pixels per side that the windows are made for; a multiple of `patch_size`.
        in_channels: Channels of the images.
        patch_size: Pixels per side of a patch.
        embed_dim: Channels of the first stage; each later stage has twice as many.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        window_size: Tokens per side of a window, where the map is larger.
        window_shift: Whether the windows of every second block are shifted.
        drop_path_rate: Chance to skip a residual branch, for the last block.
        make_block: Makes a block from its stage, the side of its windows and its drop path rate.
        make_merging: Makes what halves the map from the channels of the stage before.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        in_channels: int,
        patch_size: int,
        embed_dim: int,
        depths: tuple[int, ...],
        num_heads: tuple[int, ...],
        window_size: int,
        window_shift: bool,
        drop_path_rate: float,
        make_block: Callable[[int, int, float], nn.Module],
        make_merging: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(
                f"image_size ({image_size}) must be a multiple of patch_size ({patch_size})"
            )
        if len(depths) != len(num_heads):
            raise ValueError(
                f"depths {list(depths)} and num_heads {list(num_heads)} must have a number for "
                "each stage"
            )
        self.num_classes, self.image_size, self.in_channels = num_classes, image_size, in_channels
        self.depths = depths
        self.patch_embed = PatchEmbed(in_channels, embed_dim, patch_size, LayerNorm)
        self.layers = nn.ModuleList()
        channels, grid = embed_dim, image_size // patch_size
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            merging: nn.Module = nn.Identity()
            if i > 0:
                merging = make_merging(channels)
                channels, grid = 2 * channels, math.ceil(grid / 2)
            if channels % heads:
                raise ValueError(
                    f"num_heads ({heads}) of stage {i} must divide its channels ({channels}), "
                    f"embed_dim ({embed_dim}) doubled {i} times"
                )
            side = min(window_size, grid)
            blocks = [make_block(i, side, next(rates)) for _ in range(depth)]
            windows = WindowPair(grid, grid, side, window_shift)
            self.layers.append(Stage(merging, blocks, windows))
        self.norm = LayerNorm(channels)
        self.head = MeanPoolHead(channels, num_classes)
        init_linear_layers(self)

    def embed(self, images: Tensor) -> Tensor:
        """Turn images into the map of the first stage. Shape: (B, C, H, W) -> (B, H, W, C)."""
        self.check_images(images)
        x: Tensor = self.patch_embed(images)
        return x

    def forward_features(self, images: Tensor) -> list[Tensor]:
        """Return the map of each stage after its last block, not normalised.

        Shape: (B, in_channels, height, width) -> for stage i, (B, embed_dim * 2**i,
        height / patch_size / 2**i, width / patch_size / 2**i), rounded up at each stage.
        """
        x = self.embed(images)
        maps = []
        for stage in self.layers:
            x = stage(x, self.run_block)
            maps.append(x.permute(0, 3, 1, 2))
        return maps

    def forward_head(self, features: list[Tensor]) -> Tensor:
        """Normalise the last map, take its mean and classify it. Shape: -> (B, K)."""
        logits: Tensor = self.head(self.norm(features[-1].permute(0, 2, 3, 1)))
        return logits

    def depth_groups(self) -> list[tuple[str, ...]]:
        blocks = []
        for i, depth in enumerate(self.depths):
            first, *others = [f"layers.{i}.blocks.{j}" for j in range(depth)]
            blocks += [(first, f"layers.{i}.downsample"), *((other,) for other in others)]
        blocks[-1] += ("norm",)
        return [("patch_embed", "absolute_pos_embed"), *blocks, ("head",)]

    def check_images(self, images: Tensor) -> None:
        """Refuse images that cannot be cut into patches; their size may differ from `image_size`.

        Raises:
            ValueError: The channels are wrong, or a side is no multiple of the patch size.
        """
        channels, *sides = images.shape[1:]
        patch_size = self.patch_embed.patch_size
        if channels != self.in_channels or any(side % patch_size for side in sides):
            raise ValueError(
                f"images of shape {tuple(images.shape)} do not fit this model: it takes "
                f"{self.in_channels} channels (in_channels) and sides that are multiples of "
                f"patch_size ({patch_size})"
            )


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

    no_weight_decay = frozenset({"absolute_pos_embed", "relative_position_bias_table"})

    def __init__(
        self,
        num_classes: int = 1000,
        image_size: int = 224,
        in_channels: int = 3,
        *,
        patch_size: PositiveInt = 4,
        embed_dim: PositiveInt = 96,
        depths: tuple[Depth, ...] = (2, 2, 6, 2),
        num_heads: tuple[PositiveInt, ...] = (3, 6, 12, 24),
        window_size: PositiveInt = 7,
        mlp_ratio: PositiveFloat = 4.0,
        relative_position_bias: bool = True,
        absolute_position_embedding: bool = False,
        window_shift: bool = True,
        drop_path_rate: Probability = 0.1,
    ) -> None:
        def make_block(stage: int, side: int, rate: float) -> nn.Module:
            channels, heads = embed_dim * 2**stage, num_heads[stage]
            return Block(channels, heads, side, relative_position_bias, mlp_ratio, rate)

        super().__init__(
            num_classes,
            image_size,
            in_channels,
            patch_size,
            embed_dim,
            depths,
            num_heads,
            window_size,
            window_shift,
            drop_path_rate,
            make_block,
            PatchMerging,
        )
        self.absolute_pos_embed = None
        if absolute_position_embedding:
            positions = torch.empty(1, (image_size // patch_size) ** 2, embed_dim)
            self.absolute_pos_embed = nn.Parameter(nn.init.trunc_normal_(positions, std=0.02))

    def embed(self, images: Tensor) -> Tensor:
        """Turn images into the map of the first stage. Shape: (B, C, H, W) -> (B, H, W, C)."""
        x = super().embed(images)
        if self.absolute_pos_embed is not None:
            x = x + self.absolute_pos_embed.reshape(1, *x.shape[1:])
        return x

    def check_images(self, images: Tensor) -> None:
        """Refuse images of another size if positions are absolute, else as any Swin does."""
        if self.absolute_pos_embed is None:
            super().check_images(images)
        else:
            ImageClassifier.check_images(self, images)
