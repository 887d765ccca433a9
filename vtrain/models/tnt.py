"""Transformer in Transformer.

Reference: Han et al., "Transformer in Transformer", arXiv:2103.00112
(github.com/huawei-noah/Efficient-AI-Backbones, tnt_pytorch).

B images, N patches of an image, m words of a patch, c inner_dim, D embed_dim, K num_classes.
Differs: dropout is left out (0 in every published recipe).
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from vtrain.layers import norm
from vtrain.layers.attention import attend, self_attend
from vtrain.layers.drop_path import DropPath, drop_path_rates
from vtrain.layers.linear import Linear, linear
from vtrain.layers.mlp import MLP
from vtrain.models.base import ImageClassifier, check_multiple, init_linear_layers, learned
from vtrain.models.layout import AttentionLayer, AttentionLayout, repeated, words_of
from vtrain.models.options import grouped_keywords
from vtrain.registry import MODELS, Depth, DropRate

LayerNorm = partial(norm.LayerNorm, eps=1e-5)
Layout = Literal["official", "legacy"]
CLASS = ("class",)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The size of the stack of blocks; `TNT` explains each field."""

    embed_dim: PositiveInt = 384
    depth: Depth = 12
    num_heads: PositiveInt = 6
    inner_dim: PositiveInt = 24
    inner_num_heads: PositiveInt = 4
    inner_stride: PositiveInt = 4
    mlp_ratio: PositiveFloat = 4.0
    layout: Layout = "official"

    def __post_init__(self) -> None:
        check_multiple("embed_dim", self.embed_dim, "num_heads", self.num_heads)
        check_multiple("inner_dim", self.inner_dim, "inner_num_heads", self.inner_num_heads)


class Attention(nn.Module):
    """Multi-head self-attention without a bias for queries, keys and values.

    Shape: (B, N, D) -> (B, N, D); given `queries`, (B, N, D) -> (B, queries, D), the first rows.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qk = nn.Linear(embed_dim, 2 * embed_dim, bias=False)
        self.v = nn.Linear(embed_dim, embed_dim, bias=False)
        self.proj = Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        D = x.shape[-1]
        if queries is None:  # one product in place of two: x is read once
            qkv = linear(x, torch.cat([self.qk.weight, self.v.weight]))
            x = self_attend(qkv, self.num_heads)
        else:
            # Rows of the weight are [q; k]: keys and values of all tokens, few queries.
            (q,) = self.heads(x[:, :queries], self.qk.weight[:D])
            k, v = self.heads(x, torch.cat([self.qk.weight[D:], self.v.weight]))
            x = attend(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(x)
        return out

    def heads(self, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """Project and split into heads; D rows of `weight` make one part of shape (B, H, N, d)."""
        B, N, D = x.shape
        x = linear(x, weight).reshape(B, N, -1, self.num_heads, D // self.num_heads)
        return x.permute(2, 0, 3, 1, 4).unbind(0)


class Block(nn.Module):
    """An inner transformer over the words of each patch, whose result joins an outer one's tokens.

    Shape: words (B * N, m, c) and tokens (B, 1 + N, D) -> the same; given `queries`, tokens
    (B, queries, D), the first rows of the same result.
    """

    def __init__(self, encoder: Encoder, words: int, drop_path_rate: float) -> None:
        super().__init__()
        D, c, mlp_ratio = encoder.embed_dim, encoder.inner_dim, encoder.mlp_ratio
        self.norm_in = LayerNorm(c)
        self.attn_in = Attention(c, encoder.inner_num_heads)
        self.norm_mlp_in = LayerNorm(c)
        self.mlp_in = MLP(c, int(c * mlp_ratio))

        # The official layout normalises a patch's words as one vector, the legacy one each word.
        legacy = encoder.layout == "legacy"
        self.norm1_proj = LayerNorm(c if legacy else words * c)
        self.proj = Linear(words * c, D, bias=legacy)
        self.norm2_proj = nn.Identity() if legacy else LayerNorm(D)

        self.norm_out = LayerNorm(D)
        self.attn_out = Attention(D, encoder.num_heads)
        self.norm_mlp = LayerNorm(D)
        self.mlp = MLP(D, int(D * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self, words: Tensor, tokens: Tensor, queries: int | None = None
    ) -> tuple[Tensor, Tensor]:
        words = self.inner(words)
        tokens = self.join(words, tokens)
        attended = self.attn_out(self.norm_out(tokens), queries)
        tokens = tokens[:, :queries] + self.drop_path(attended)
        tokens = tokens + self.drop_path(self.mlp(self.norm_mlp(tokens)))
        return words, tokens

    def inner(self, words: Tensor) -> Tensor:
        """Let the words of each patch attend to one another. Shape: (B * N, m, c), unchanged."""
        words = words + self.drop_path(self.attn_in(self.norm_in(words)))
        out: Tensor = words + self.drop_path(self.mlp_in(self.norm_mlp_in(words)))
        return out

    def join(self, words: Tensor, tokens: Tensor) -> Tensor:
        """Add the words of each patch to its token, and nothing to the class token."""
        words = words.reshape(-1, *self.norm1_proj.normalized_shape)
        B, N = tokens.shape[0], tokens.shape[1] - 1
        patches = self.norm1_proj(words).reshape(B, N, -1)  # (B, N, m * c)
        patches = self.norm2_proj(self.proj(patches))  # (B, N, D)
        return tokens + F.pad(patches, (0, 0, 1, 0))  # zeros for the class token, which is first


class PixelEmbed(nn.Module):
    """Turn each patch into words by a convolution.

    It sees nothing beyond the patch's border in the official layout; in the legacy one it does.

    Shape: (B, C, H, W) -> (B * N, m, c); the words of a patch row by row.
    """

    def __init__(
        self, in_channels: int, inner_dim: int, patch_size: int, stride: int, layout: Layout
    ) -> None:
        super().__init__()
        self.patch_size, self.stride, self.layout = patch_size, stride, layout
        self.proj = nn.Conv2d(in_channels, inner_dim, 7, stride=stride, padding=3)

    def forward(self, images: Tensor) -> Tensor:
        if self.layout == "official":
            words = self.proj(cut_patches(images, self.patch_size))  # (B * N, c, rows, columns)
        else:
            # The convolution sees the whole image, so a border word reads the next patch, too.
            words = cut_patches(self.proj(images), self.patch_size // self.stride)
        tokens: Tensor = words.flatten(2).mT.contiguous()
        return tokens


def cut_patches(maps: Tensor, side: int) -> Tensor:
    """Cut maps into squares, row by row. Shape: (B, C, H, W) -> (B * N, C, side, side)."""
    B, C, H, W = maps.shape
    squares = maps.reshape(B, C, H // side, side, W // side, side)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(-1, C, side, side)


REFERENCE = "Han et al., arXiv:2103.00112"
TI = {"embed_dim": 192, "num_heads": 3, "inner_dim": 12, "inner_num_heads": 2}
S = {"embed_dim": 384, "num_heads": 6, "inner_dim": 24, "inner_num_heads": 4}
B = {"embed_dim": 640, "num_heads": 10, "inner_dim": 40, "inner_num_heads": 4}


@MODELS.register("tnt_ti", reference=REFERENCE, **TI)
@MODELS.register("tnt_s", reference=REFERENCE, **S)
@MODELS.register("tnt_b", reference=REFERENCE, **B)
@MODELS.register("tnt_s_legacy", reference=REFERENCE, **S, layout="legacy")
class TNT(ImageClassifier):
    """Transformer in Transformer: words inside each patch attend to one another, and so do patches.

    Shape: (B, in_channels, image_size, image_size) -> (B, K).

    Args:
        num_classes: Length of the logits, K.
        image_size: Pixels per side; a multiple of `patch_size`.
        in_channels: Channels of the images.
        patch_size: Pixels per side of a patch.
        embed_dim: Width of a patch's token, D.
        depth: Number of blocks.
        num_heads: Attention heads among patches; divides `embed_dim`.
        inner_dim: Width of a word, c.
        inner_num_heads: Attention heads among the words of a patch; divides `inner_dim`.
        inner_stride: Pixels from one word to the next; a patch has ceil(patch_size / inner_stride)
            squared words.
        mlp_ratio: Hidden width / width of the MLPs, inner and outer.
        layout: `official`, or `legacy` for the weights of timm's first port, which is another
            function: words are embedded across the borders of patches, and what joins a token is
            normalised word by word and not after its projection.
        inner_position_embedding: Add a learned vector to each word of a patch (the
            paper's ablation of position encodings).
        outer_position_embedding: Add a learned vector to each token (the same ablation).
        drop_path_rate: Chance to skip a residual branch, inner or outer, for the last block; grows
            linearly from 0 at the first.
    """

    no_weight_decay = frozenset({"cls_token", "patch_pos", "pixel_pos"})

    @grouped_keywords
    def __init__(
        self,
        num_classes: int = 1000,
        image_size: int = 224,
        in_channels: int = 3,
        *,
        patch_size: PositiveInt = 16,
        encoder: Encoder,
        inner_position_embedding: bool = True,
        outer_position_embedding: bool = True,
        drop_path_rate: DropRate = 0.0,
    ) -> None:
        super().__init__()
        check_multiple("image_size", image_size, "patch_size", patch_size)
        D, c, stride = encoder.embed_dim, encoder.inner_dim, encoder.inner_stride
        if encoder.layout == "legacy" and patch_size % stride:
            raise ValueError(
                f"patch_size ({patch_size}) must be a multiple of inner_stride ({stride}) in "
                "layout (legacy)"
            )
        self.num_classes, self.image_size, self.in_channels = num_classes, image_size, in_channels
        side, grid = math.ceil(patch_size / stride), image_size // patch_size  # words, patches
        # The order of all that follows fixes the random weights that a seed gives.
        self.pixel_embed = PixelEmbed(in_channels, c, patch_size, stride, encoder.layout)
        self.norm1_proj = LayerNorm(side**2 * c)
        self.proj = Linear(side**2 * c, D)
        self.norm2_proj = LayerNorm(D)
        self.cls_token = learned(1, 1, D)
        self.pixel_pos = learned(1, c, side, side) if inner_position_embedding else None
        self.patch_pos = learned(1, 1 + grid**2, D) if outer_position_embedding else None
        rates = drop_path_rates(drop_path_rate, encoder.depth)
        self.blocks = nn.ModuleList(Block(encoder, side**2, rate) for rate in rates)
        self.norm = LayerNorm(D)
        self.head = nn.Linear(D, num_classes)
        init_linear_layers(self)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn images into words and tokens with their positions.

        Shape: (B, C, H, W) -> words (B * N, m, c), tokens (B, 1 + N, D), the class token first.
        """
        self.check_images(images)
        words = self.pixel_embed(images)
        if self.pixel_pos is not None:
            words = words + self.pixel_pos.flatten(2).mT  # (1, m, c), the same for every patch
        # A token starts as all the words of its patch, side by side.
        B = images.shape[0]
        patches = words.reshape(B, -1, words[0].numel())  # (B, N, m * c)
        patches = self.norm2_proj(self.proj(self.norm1_proj(patches)))
        tokens = torch.cat([self.cls_token.expand(B, -1, -1), patches], dim=1)
        return words, tokens if self.patch_pos is None else tokens + self.patch_pos

    def forward(self, images: Tensor) -> Tensor:
        # The head reads only the class token, so the last block computes only this one, exactly.
        return self.forward_head(self.norm(self.encode(images, queries=1)))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the normalised tokens after the last block, the class token first.

        Shape: (B, C, H, W) -> (B, 1 + N, D).
        """
        tokens: Tensor = self.norm(self.encode(images))
        return tokens

    def encode(self, images: Tensor, queries: int | None = None) -> Tensor:
        """Run all blocks; the last one for the first `queries` tokens, by default for all."""
        words, tokens = self.embed(images)
        for block in self.blocks[:-1]:
            words, tokens = self.run_block(block, words, tokens)
        result: Tensor = self.run_block(self.blocks[-1], words, tokens, queries)[1]
        return result

    def forward_head(self, features: Tensor) -> Tensor:
        """Classify the class token. Shape: (B, 1 + N, D) -> (B, K)."""
        logits: Tensor = self.head(features[:, 0])
        return logits

    def attention_layout(self, height: int, width: int) -> AttentionLayout:
        size, stride = self.pixel_embed.patch_size, self.pixel_embed.stride
        patches = AttentionLayer("attn_out", "norm_out", height // size, width // size, CLASS)
        words = words_of(patches, math.ceil(size / stride), "attn_in", "norm_in")
        return repeated([words, patches], len(self.blocks), CLASS)

    def depth_groups(self) -> list[tuple[str, ...]]:
        words = ("pixel_embed", "pixel_pos", "norm1_proj", "proj", "norm2_proj")
        *blocks, last = [(f"blocks.{i}",) for i in range(len(self.blocks))]
        stem = (*words, "cls_token", "patch_pos")
        return [stem, *blocks, (*last, "norm"), ("head",)]
