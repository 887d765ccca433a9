"""What both versions of Swin share: stages of blocks in windows, and all that is around them.

Reference: Liu et al., arXiv:2103.14030, section 3.1 (github.com/microsoft/Swin-Transformer).

B images, H x W tokens of a stage's map, C its channels, K num_classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from vtrain.layers import norm
from vtrain.layers.drop_path import drop_path_rates
from vtrain.layers.patch_embed import PatchEmbed
from vtrain.layers.windows import WindowPair, Windows
from vtrain.models.base import ImageClassifier, check_multiple, init_linear_layers
from vtrain.models.layout import AttentionLayer, AttentionLayout
from vtrain.registry import Depth

LayerNorm = partial(norm.LayerNorm, eps=1e-5)


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
        # By the map and not by the configured size: images may be of another one.
        windows = self.windows.for_map(x.shape[1], x.shape[2], x.device)
        for i, block in enumerate(self.blocks):
            x = run_block(block, x, windows[i % 2])  # plain windows, then shifted ones
        return x


class MeanPoolHead(nn.Module):
    """Classify the mean token. Shape: (B, H, W, C) -> (B, K)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.mean((1, 2)))
        return logits


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The sizes of the stages; `Swin` explains each field."""

    patch_size: PositiveInt = 4
    embed_dim: PositiveInt = 96
    depths: tuple[Depth, ...] = (2, 2, 6, 2)
    num_heads: tuple[PositiveInt, ...] = (3, 6, 12, 24)
    window_size: PositiveInt = 7

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.num_heads):
            raise ValueError(
                f"depths {list(self.depths)} and num_heads {list(self.num_heads)} must have a "
                "number for each stage"
            )
        for stage, heads in enumerate(self.num_heads):
            if self.channels(stage) % heads:
                raise ValueError(
                    f"num_heads ({heads}) of stage {stage} must divide its channels "
                    f"({self.channels(stage)}), embed_dim ({self.embed_dim}) doubled {stage} times"
                )

    def channels(self, stage: int) -> int:
        """Return the width of a token."""
        width: int = self.embed_dim * 2**stage
        return width


class ShiftedWindowTransformer(ImageClassifier):
    """What both versions of Swin share: stages of blocks in windows, and all that is around them.

    `make_block` makes a block from its stage, the side of its windows and its drop path rate;
    `Swin` explains the other arguments.
    """

    merging: type[nn.Module]
    """Halves the map; made from the channels of the stage before."""

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        in_channels: int,
        stages: Stages,
        window_shift: bool,
        drop_path_rate: float,
        make_block: Callable[[int, int, float], nn.Module],
    ) -> None:
        super().__init__()
        check_multiple("image_size", image_size, "patch_size", stages.patch_size)
        self.num_classes, self.image_size, self.in_channels = num_classes, image_size, in_channels
        self.depths = stages.depths
        # The order of all that follows fixes the random weights that a seed gives.
        self.patch_embed = PatchEmbed(in_channels, stages.embed_dim, stages.patch_size, LayerNorm)
        self.layers = nn.ModuleList()
        grid = image_size // stages.patch_size
        rates = iter(drop_path_rates(drop_path_rate, sum(stages.depths)))
        for i, depth in enumerate(stages.depths):
            merging: nn.Module = nn.Identity()
            if i > 0:  # merging comes first in a stage, as in timm; the paper has it at the end
                merging, grid = self.merging(stages.channels(i - 1)), math.ceil(grid / 2)
            side = min(stages.window_size, grid)  # a small map is one window
            blocks = [make_block(i, side, next(rates)) for _ in range(depth)]
            self.layers.append(Stage(merging, blocks, WindowPair(grid, grid, side, window_shift)))
        channels = stages.channels(len(stages.depths) - 1)
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
        maps = []  # channels last inside, channels first for who builds on them
        for stage in self.layers:
            x = stage(x, self.run_block)
            maps.append(x.permute(0, 3, 1, 2))
        return maps

    def forward_head(self, features: list[Tensor]) -> Tensor:
        """Normalise the last map, take its mean and classify it. Shape: -> (B, K)."""
        logits: Tensor = self.head(self.norm(features[-1].permute(0, 2, 3, 1)))
        return logits

    def attention_layout(self, height: int, width: int) -> AttentionLayout:
        side = self.patch_embed.patch_size
        rows, columns = height // side, width // side
        layers = []
        for i, stage in enumerate(self.layers):
            if i > 0:  # merged two by two; an odd map is padded
                rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
            assert isinstance(stage, Stage)
            pair = stage.windows.for_map(rows, columns, self.head.fc.weight.device)
            for j in range(len(stage.blocks)):
                block = f"layers.{i}.blocks.{j}"
                windows = pair[j % 2]
                assert isinstance(windows, Windows)
                layers.append(AttentionLayer(f"{block}.attn", block, rows, columns, (), windows))
        return AttentionLayout(tuple(layers))

    def depth_groups(self) -> list[tuple[str, ...]]:
        blocks = []
        for i, depth in enumerate(self.depths):
            first, *others = [f"layers.{i}.blocks.{j}" for j in range(depth)]
            # What halves the map learns at the rate of the block that it feeds.
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
