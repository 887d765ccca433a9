"""Vision Transformer. Its presets of DeiT and DeiT III are in `deit.py`.

Reference: Dosovitskiy et al., arXiv:2010.11929 (github.com/google-research/vision_transformer);
register tokens: Darcet et al., arXiv:2309.16588.

B images, N patches, P prefix tokens (class, distillation, registers), D embed_dim, K num_classes.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from vtrain.layers.attention import SelfAttention
from vtrain.layers.constant import constant
from vtrain.layers.drop_path import DropPath, drop_path_rates
from vtrain.layers.layer_scale import LayerScale
from vtrain.layers.mlp import MLP
from vtrain.layers.norm import LayerNorm
from vtrain.layers.patch_embed import PatchEmbed
from vtrain.layers.position import sincos_2d
from vtrain.models.base import ImageClassifier, check_multiple, init_linear_layers, learned
from vtrain.models.layout import AttentionLayer, AttentionLayout, repeated
from vtrain.models.options import grouped_keywords
from vtrain.registry import MODELS, Depth, DropRate


class DistilledLogits(NamedTuple):
    """The logits of a distilled model in training, each (B, K): a loss may treat them apart."""

    classes: Tensor
    distillation: Tensor


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The size of the stack of blocks; `ViT` explains each field."""

    embed_dim: PositiveInt = 768
    depth: Depth = 12
    num_heads: PositiveInt = 12
    mlp_ratio: PositiveFloat = 4.0
    qkv_bias: bool = True


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What goes into the blocks and what is read from them; `ViT` explains each field."""

    position_embedding: Literal["learned_1d", "learned_2d", "sincos_2d", "none"] = "learned_1d"
    class_position: bool = True
    pooling: Literal["cls", "mean"] = "cls"
    num_registers: NonNegativeInt = 0
    distillation_token: bool = False

    def __post_init__(self) -> None:
        if self.distillation_token and self.pooling != "cls":
            raise ValueError(
                "distillation_token (true) is trained beside a class token: "
                f"pooling ({self.pooling}) must be cls"
            )


@dataclass(frozen=True, kw_only=True)
class Branches:
    """What is done to the residual branches; `ViT` explains each field."""

    layer_scale: NonNegativeFloat = 0.0
    drop_rate: DropRate = 0.0
    drop_path_rate: DropRate = 0.0
    drop_path_schedule: Literal["linear", "constant"] = "linear"

    def drop_path_rates(self, depth: int) -> list[float]:
        """Return the chance to skip a branch, for each block."""
        if self.drop_path_schedule == "constant":
            return [self.drop_path_rate] * depth
        return drop_path_rates(self.drop_path_rate, depth)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each on a residual branch.

    Shape: (B, N, D) -> (B, N, D); given `queries`, (B, N, D) -> (B, queries, D), the first rows of
    the same result.
    """

    def __init__(self, encoder: Encoder, branches: Branches, drop_path_rate: float) -> None:
        super().__init__()
        D, hidden = encoder.embed_dim, int(encoder.embed_dim * encoder.mlp_ratio)
        scale, drop_rate = branches.layer_scale, branches.drop_rate
        self.norm1 = LayerNorm(D, eps=1e-6)
        self.attn = SelfAttention(D, encoder.num_heads, encoder.qkv_bias, drop_rate)
        self.ls1 = LayerScale(D, scale) if scale else nn.Identity()
        self.norm2 = LayerNorm(D, eps=1e-6)
        self.mlp = MLP(D, hidden, drop_rate, keep_gelu=False)
        self.ls2 = LayerScale(D, scale) if scale else nn.Identity()
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        # queries None takes all rows, a number only the first ones; keys and values stay all.
        x = x[:, :queries] + self.drop_path(self.ls1(self.attn(self.norm1(x), queries)))
        out: Tensor = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return out


TI = {"embed_dim": 192, "depth": 12, "num_heads": 3}
S = {"embed_dim": 384, "depth": 12, "num_heads": 6}
B = {"embed_dim": 768, "depth": 12, "num_heads": 12}
L = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
H = {"embed_dim": 1280, "depth": 32, "num_heads": 16, "patch_size": 14}

VIT = "Dosovitskiy et al., arXiv:2010.11929"


@MODELS.register("vit_ti", reference=VIT, **TI)
@MODELS.register("vit_s", reference=VIT, **S)
@MODELS.register("vit_b", reference=VIT, **B)
@MODELS.register("vit_l", reference=VIT, **L)
@MODELS.register("vit_h", reference=VIT, **H)
class ViT(ImageClassifier):
    """Vision Transformer: patches become tokens, a stack of pre-norm blocks, a linear head.

    Shape: (B, in_channels, image_size, image_size) -> (B, K). With a distillation token it returns
    `DistilledLogits` in training and the mean of both heads in evaluation.

    Args:
        num_classes: Length of the logits, K.
        image_size: Pixels per side; a multiple of `patch_size`.
        in_channels: Channels of the images.
        patch_size: Pixels per side of a patch.
        embed_dim: Width of a token, D.
        depth: Number of blocks.
        num_heads: Attention heads of a block; divides `embed_dim`.
        mlp_ratio: Hidden width of the MLP / `embed_dim`.
        qkv_bias: Whether queries, keys and values have a bias.
        position_embedding: `learned_1d`: a vector for each token; `learned_2d`: one for each row
            and one for each column, each half as wide, side by side (arXiv:2010.11929, appendix
            D.4); `sincos_2d`: fixed sines and cosines (arXiv:2104.02057); `none`.
        class_position: Whether prefix tokens have rows of their own in `learned_1d`; not in DeiT
            III (arXiv:2204.07118).
        pooling: `cls` classifies the class token; `mean` has no class token and normalises the
            mean of the patch tokens (as timm's `avg` with `class_token=False`, and fine-tuning in
            arXiv:2111.06377).
        num_registers: Extra learned tokens that no head reads (arXiv:2309.16588).
        distillation_token: Add DeiT's second token and head (arXiv:2012.12877, section 4).
        layer_scale: Start value of a learned factor on each branch (arXiv:2103.17239); 0 leaves it
            out.
        drop_rate: Dropout after every dense layer but qkv and heads, and after the positions
            (arXiv:2010.11929, appendix B.1).
        drop_path_rate: Chance to skip a residual branch, for the last block (arXiv:1603.09382).
        drop_path_schedule: `linear` grows from 0 at the first block; `constant` is the same in all
            (DeiT III, arXiv:2204.07118).
    """

    no_weight_decay = frozenset(
        {"cls_token", "dist_token", "reg_token", "pos_embed", "pos_embed_x", "pos_embed_y"}
    )

    @grouped_keywords
    def __init__(
        self,
        num_classes: int = 1000,
        image_size: int = 224,
        in_channels: int = 3,
        *,
        patch_size: PositiveInt = 16,
        encoder: Encoder,
        tokens: Tokens,
        branches: Branches,
    ) -> None:
        super().__init__()
        check_multiple("image_size", image_size, "patch_size", patch_size)
        D = encoder.embed_dim
        self.num_classes, self.image_size, self.in_channels = num_classes, image_size, in_channels
        self.position_embedding, self.pooling = tokens.position_embedding, tokens.pooling
        self.class_position = tokens.class_position

        # The parts are made in this order: it decides which random weights a seed gives.
        # Tokens in front of the patches: class, distillation, registers. Heads read the first two.
        has_class = tokens.pooling == "cls"
        self.cls_token = learned(1, 1, D, std=1e-6) if has_class else None
        self.dist_token = learned(1, 1, D) if tokens.distillation_token else None
        registers = tokens.num_registers
        self.reg_token = learned(1, registers, D, std=1e-6) if registers else None
        self.num_prefix_tokens = sum(t.shape[1] for t in self.prefix_tokens())
        self.num_pooled_tokens = 1 + tokens.distillation_token
        self.make_positions(image_size // patch_size, D)

        self.patch_embed = PatchEmbed(in_channels, D, patch_size)
        self.pos_drop = nn.Dropout(branches.drop_rate)
        rates = branches.drop_path_rates(encoder.depth)
        self.blocks = nn.ModuleList(Block(encoder, branches, rate) for rate in rates)
        # timm has two names for the last norm: before the pooling, or after a mean.
        norm = LayerNorm(D, eps=1e-6)
        self.norm = norm if has_class else nn.Identity()
        self.fc_norm = nn.Identity() if has_class else norm
        self.head = nn.Linear(D, num_classes)
        self.head_dist = nn.Linear(D, num_classes) if tokens.distillation_token else None
        init_linear_layers(self)

    def make_positions(self, grid: int, embed_dim: int) -> None:
        """Make the position embeddings of `grid` x `grid` patches."""
        if embed_dim % 4 and self.position_embedding.endswith("2d"):
            raise ValueError(
                f"embed_dim ({embed_dim}) must be a multiple of 4 for position_embedding "
                f"({self.position_embedding})"
            )
        if self.position_embedding == "learned_1d":
            prefix = self.num_prefix_tokens if self.class_position else 0
            self.pos_embed = learned(1, prefix + grid * grid, embed_dim)
        elif self.position_embedding == "learned_2d":
            self.pos_embed_x = learned(1, grid, embed_dim // 2)
            self.pos_embed_y = learned(1, grid, embed_dim // 2)
        elif self.position_embedding == "sincos_2d":
            # Computed, not learned: it moves with the model, but belongs in no checkpoint.
            shape = (1, grid * grid, embed_dim)
            fixed = constant(shape, torch.float32, lambda: sincos_2d(grid, embed_dim))
            self.register_buffer("pos_embed", fixed, persistent=False)

    def prefix_tokens(self) -> list[Tensor]:
        """Return the learned tokens in front of the patches, each (1, n, D)."""
        tokens = (self.cls_token, self.dist_token, self.reg_token)
        return [token for token in tokens if token is not None]

    def embed(self, images: Tensor) -> Tensor:
        """Turn images into tokens with their positions. Shape: (B, C, H, W) -> (B, P + N, D)."""
        self.check_images(images)
        x = self.patch_embed(images).flatten(1, 2)  # (B, N, D)
        prefix = [token.expand(x.shape[0], -1, -1) for token in self.prefix_tokens()]
        if self.position_embedding == "learned_1d" and self.class_position:
            x = torch.cat([*prefix, x], dim=1) + self.pos_embed  # a row for each token
        else:
            x = torch.cat([*prefix, self.add_patch_positions(x)], dim=1)
        tokens: Tensor = self.pos_drop(x)
        return tokens

    def add_patch_positions(self, x: Tensor) -> Tensor:
        """Add to each patch where it is. Shape: (B, N, D) -> (B, N, D)."""
        if self.position_embedding == "none":
            return x
        if self.position_embedding == "learned_2d":
            grid = self.pos_embed_x.shape[1]
            # Patches go row by row: the column changes fastest. Each (1, N, D / 2).
            columns = self.pos_embed_x.repeat(1, grid, 1)
            rows = self.pos_embed_y.repeat_interleave(grid, dim=1)
            return x + torch.cat([columns, rows], dim=-1)
        return x + self.pos_embed

    def forward(self, images: Tensor) -> Tensor | DistilledLogits:
        if self.pooling == "mean":
            return self.forward_head(self.forward_features(images))
        x = self.embed(images)  # (B, P + N, D)
        for block in self.blocks[:-1]:
            x = self.run_block(block, x)
        # The heads read only the first tokens, so the last block computes only these, exactly.
        x = self.run_block(self.blocks[-1], x, self.num_pooled_tokens)
        return self.forward_head(self.norm(x))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the tokens after the last block, prefix first.

        They are normalised unless the pooling is `mean`, where the norm follows the mean.

        Shape: (B, C, H, W) -> (B, P + N, D).
        """
        x = self.embed(images)
        for block in self.blocks:
            x = self.run_block(block, x)
        tokens: Tensor = self.norm(x)
        return tokens

    def forward_head(self, features: Tensor) -> Tensor | DistilledLogits:
        """Pool the tokens and classify. Shape: (B, P + N, D) -> (B, K)."""
        if self.pooling == "mean":
            pooled = self.fc_norm(features[:, self.num_prefix_tokens :].mean(dim=1))
        else:
            pooled = features[:, 0]  # already normalised: the class token comes first
        logits: Tensor = self.head(pooled)  # (B, K)
        if self.head_dist is None:
            return logits
        # Each head reads a token of its own; without labels of a teacher the mean is the answer.
        both = DistilledLogits(logits, self.head_dist(features[:, 1]))
        return both if self.training else (both.classes + both.distillation) / 2

    def attention_layout(self, height: int, width: int) -> AttentionLayout:
        pooled = (
            ("class", "distillation")[: self.num_pooled_tokens] if self.pooling == "cls" else ()
        )
        prefix = (*pooled, *["register"] * (self.num_prefix_tokens - len(pooled)))
        side = self.patch_embed.patch_size
        layer = AttentionLayer("attn", "norm1", height // side, width // side, prefix)
        return repeated([layer], len(self.blocks), pooled)

    def depth_groups(self) -> list[tuple[str, ...]]:
        stem = ("cls_token", "dist_token", "reg_token", "pos_embed", "pos_embed_x", "pos_embed_y")
        *blocks, last = [(f"blocks.{i}",) for i in range(len(self.blocks))]
        heads = ("head", "head_dist")
        return [(*stem, "patch_embed"), *blocks, (*last, "norm", "fc_norm"), heads]
