"""Multi-head self-attention, and the one place that chooses how it is computed.

B images, N tokens, H heads, d head dimension, D = H * d.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return softmax(q k^T * scale + bias) v by the kernel that suits device and dtype.

    `scale` is 1 / sqrt(d) unless given.

    Shape: q (B, H, Nq, d), k and v (B, H, Nk, d), bias broadcastable to (B, H, Nq, Nk)
    -> (B, H, Nq, d).
    """
    # Without matrix tiles (AMX) the fused CPU kernel is slow in bf16, while plain products run at
    # the full bf16 rate; scripts/bench_attention.py times both.
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and not _has_amx():
        return attend_plainly(q, k, v, bias, scale)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=None if bias is None else bias.to(q.dtype), scale=scale
    )


def attend_plainly(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Compute `attend` as two products with a softmax between; same arguments and shapes."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    # A row of 16 to 31 fills a vector of 512 bits in fp32 but not in bf16, whose kernel then goes
    # number by number: bench_attention.py --shape 1024,3,16,32 (a window of Swin, a patch of TNT).
    narrow = scores.dtype == torch.bfloat16 and 16 <= scores.shape[-1] < 32
    weights = scores.softmax(dim=-1, dtype=torch.float32 if narrow else None)
    return weights.to(v.dtype) @ v


def _has_amx() -> bool:
    return bool(torch.cpu._is_amx_tile_supported())


# What the decorator `torch.compiler.assume_constant_result` sets; to call it would import the whole
# compiler, more than two seconds at every start.
_has_amx._dynamo_marked_constant = True  # type: ignore[attr-defined]


class SelfAttention(nn.Module):
    """Multi-head self-attention. Shape: (B, N, D) -> (B, N, D), or (B, queries, D).

    Args:
        embed_dim: Width of a token, D.
        num_heads: Number of heads, H.
        qkv_bias: Whether the query, key and value projections have a bias.
        drop_rate: Dropout after the output projection.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, qkv_bias: bool = True, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"embed_dim ({embed_dim}) must be a multiple of num_heads ({num_heads})"
            )
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """Attend from the first `queries` tokens (all of them by default) to every token."""
        if queries is None:
            q, k, v = self._heads(self.qkv(x), 3)
        else:
            # Rows of the weight are [q; k; v]: keys and values of all tokens, few queries.
            D = x.shape[-1]
            weight, bias = self.qkv.weight, self.qkv.bias
            q_bias, kv_bias = (None, None) if bias is None else (bias[:D], bias[D:])
            (q,) = self._heads(F.linear(x[:, :queries], weight[:D], q_bias), 1)
            k, v = self._heads(F.linear(x, weight[D:], kv_bias), 2)
        x = attend(q, k, v).transpose(1, 2).flatten(2)  # heads side by side: (B, queries, D)
        out: Tensor = self.drop(self.proj(x))
        return out

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Split projections into heads. Shape: (B, N, parts * D) -> parts x (B, H, N, d)."""
        B, N, _ = x.shape
        return x.reshape(B, N, parts, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
