"""Swin Transformer V2.

Reference: Liu et al., "Swin Transformer V2: Scaling Up Capacity and Resolution", arXiv:2111.09883
(github.com/microsoft/Swin-Transformer, models/swin_transformer_v2.py).

B images, H x W tokens of a stage's map, C its channels, h heads, K num_classes.
Differs: dropout is left out (0 in every published recipe).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from vtrain.layers.constant import constant
from vtrain.layers.drop_path import DropPath
from vtrain.layers.linear import Linear, linear
from vtrain.layers.mlp import MLP
from vtrain.layers.windows import RelativeBias, Windows, attend_in_windows
from vtrain.models.options import grouped_keywords
from vtrain.models.shifted_windows import LayerNorm, ShiftedWindowTransformer, Stages, two_by_two
from vtrain.registry import MODELS, DropRate

MAX_LOGIT_SCALE = math.log(100)  # section 3.2: the temperature is not set below 0.01


class WindowAttention(nn.Module):
    """Scaled cosine attention within windows, with a bias that a small network makes of offsets.

    `side` is that of the largest window, in tokens, and `trained_side` the same for the weights to
    start from: offsets are in units of it.

    Shape: (B, H, W, C) -> (B, H, W, C).
    """

    offsets: Tensor

    def __init__(self, channels: int, num_heads: int, side: int, trained_side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, num_heads, bias=False)
        )
        shape, dtype = ((2 * side - 1) ** 2, 2), torch.get_default_dtype()
        offsets = constant(shape, dtype, lambda: log_spaced_offsets(side, trained_side))
        self.register_buffer("offsets", offsets, persistent=False)
        self.bias_of_offsets = RelativeBias(side)
        self.qkv = Linear(channels, 3 * channels, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(channels))
        self.v_bias = nn.Parameter(torch.zeros(channels))
        self.proj = Linear(channels, channels)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        table = 16 * self.cpb_mlp(self.offsets).sigmoid()  # one row for each offset, (.., h)
        bias = self.bias_of_offsets(table, windows.side)
        # Keys have no bias, as in the official code.
        qkv_bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = linear(windows.split(x), self.qkv.weight, qkv_bias)
        q, k, v = qkv.reshape(*qkv.shape[:3], 3, self.num_heads, -1).unbind(3)
        scale = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()[:, 0]  # (h, 1)
        # Autocast may widen what `normalize` returns; the products are to have one dtype.
        q = (F.normalize(q, dim=-1) * scale).to(v.dtype)
        k = F.normalize(k, dim=-1).to(v.dtype)
        qkv = torch.stack([q, k, v], dim=3).flatten(3)  # side by side again, (B, nW, N, 3 * C)
        x = attend_in_windows(qkv, self.num_heads, bias, windows.mask, scale=1.0)
        return windows.join(self.proj(x))


def log_spaced_offsets(side: int, trained_side: int) -> Tensor:
    """Return the coordinates of each offset between two tokens of a window.

    In steps of the window that the weights were trained with, its largest offset being 8; then
    logarithmic: sign(t) log2(1 + |t|) / 3 (section 3.3, with the constants of the official code).

    Shape: -> ((2 * side - 1)**2, 2), numbered as in `relative_position_index`.
    """
    steps = 8 * torch.arange(1 - side, side) / max(trained_side - 1, 1)
    steps = steps.sign() * (1 + steps.abs()).log2() / math.log2(8)
    return torch.cartesian_prod(steps, steps)


class Block(nn.Module):
    """Transformer block that normalises what it adds: `res-post-norm`, section 3.2.

    Shape: (B, H, W, C), unchanged.
    """

    def __init__(
        self, channels: int, attn: WindowAttention, mlp_ratio: float, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.attn = attn
        self.norm1 = LayerNorm(channels)
        self.mlp = MLP(channels, int(channels * mlp_ratio))
        self.norm2 = LayerNorm(channels)
        self.drop_path = DropPath(drop_path_rate)
        for norm in (self.norm1, self.norm2):  # a new block passes its input through
            nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        x = x + self.drop_path(self.norm1(self.attn(x, windows)))
        out: Tensor = x + self.drop_path(self.norm2(self.mlp(x)))
        return out


class PatchMerging(nn.Module):
    """Halve the map and double the channels. Shape: (B, H, W, C) -> (B, H / 2, W / 2, 2 * C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = Linear(4 * channels, 2 * channels, bias=False)
        self.norm = LayerNorm(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.reduction(two_by_two(x)))
        return out


@dataclass(frozen=True, kw_only=True)
class StagesV2(Stages):
    """The sizes of the stages; windows are larger than in the first version."""

    window_size: PositiveInt = 8


SWIN_V2 = "Liu et al., arXiv:2111.09883"
B: dict[str, Any] = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}


@MODELS.register("swinv2_t", reference=SWIN_V2, image_size=256)
@MODELS.register("swinv2_s", reference=SWIN_V2, image_size=256, depths=(2, 2, 18, 2))
@MODELS.register("swinv2_b", reference=SWIN_V2, image_size=256, **B)
class SwinV2(ShiftedWindowTransformer):
    """Swin Transformer V2: cosine attention, a continuous position bias, norms after the branches.

    Images may be of any size that is a multiple of `patch_size`; windows are made for `image_size`.

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
        pretrained_window_sizes: For each stage, the tokens per side of a window in the training
            that `model.pretrained` comes from, if they differ from those of this model.
        mlp_ratio: Hidden width of the MLP / channels.
        window_shift: Shift the windows of every second block by half a window.
        drop_path_rate: Chance to skip a residual branch, for the last block; grows linearly from 0
            at the first.
    """

    merging = PatchMerging

    @grouped_keywords
    def __init__(
        self,
        num_classes: int = 1000,
        image_size: int = 224,
        in_channels: int = 3,
        *,
        stages: StagesV2,
        pretrained_window_sizes: tuple[PositiveInt, ...] | None = None,
        mlp_ratio: PositiveFloat = 4.0,
        window_shift: bool = True,
        drop_path_rate: DropRate = 0.1,
    ) -> None:
        trained_sides = pretrained_window_sizes
        if trained_sides is not None and len(trained_sides) != len(stages.depths):
            raise ValueError(
                f"pretrained_window_sizes {list(trained_sides)} and depths {list(stages.depths)} "
                "must have a number for each stage"
            )

        def make_block(stage: int, side: int, rate: float) -> nn.Module:
            channels, heads = stages.channels(stage), stages.num_heads[stage]
            trained_side = side if trained_sides is None else trained_sides[stage]
            attn = WindowAttention(channels, heads, side, trained_side)
            return Block(channels, attn, mlp_ratio, rate)

        super().__init__(
            num_classes, image_size, in_channels, stages, window_shift, drop_path_rate, make_block
        )
        # What makes the biases, and the temperatures: a decay would pull both to a fixed value.
        self.no_weight_decay = frozenset(
            name for name, _ in self.named_parameters() if "cpb_mlp" in name or "logit" in name
        )
