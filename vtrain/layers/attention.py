"""Multi-head self-attention, and the one place that chooses how it is computed.

B images, N tokens, H heads, d head dimension, D = H * d.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vtrain.layers.linear import Linear, column_sums, linear

LONG = 128
"""Tokens from which on the weights would take about as much memory as all else of attention."""
CACHED = 1 << 18
"""Scores worked on at a time where they are not kept: 512 KiB in bf16, to stay in a cache."""

MOST_ROWS = 65_535
"""Rows of a fused attention kernel on CUDA, whose grid ends there: github.com/pytorch/pytorch,
issue 146704."""


def self_attend(
    qkv: Tensor, num_heads: int, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Let the tokens of each row attend to one another; the heads' results end up side by side.

    `scale` is 1 / sqrt(d) unless given.

    Shape: qkv (B, N, 3 * D), which holds the queries, keys and values of all heads, bias
    (P, H, N, N), of which row i takes number i modulo P -> (B, N, D).
    """
    B, N, _ = qkv.shape
    if _plain_is_faster(qkv) and not torch.compiler.is_compiling():
        is_long = bias is None and N > LONG
        function = _LongSelfAttention if is_long else _SelfAttention
        out: Tensor = function.apply(qkv, num_heads, bias, scale)
        return out
    # With rows that differ in their bias beside one another, as if they were heads, it is broadcast
    # and not copied for each group of them.
    groups = num_heads if bias is None else len(bias) * num_heads
    parts = qkv.view(B, N, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = parts.reshape(3, -1, groups, N, parts.shape[-1]).unbind(0)
    x = attend(q, k, v, None if bias is None else bias.flatten(0, 1), scale)
    return x.reshape(B, num_heads, N, -1).transpose(1, 2).flatten(2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return softmax(q k^T * scale + bias) v by the kernel that suits device and dtype.

    `scale` is 1 / sqrt(d) unless given.

    Shape: q (B, H, Nq, d), k and v (B, H, Nk, d), bias broadcastable to (B, H, Nq, Nk)
    -> (B, H, Nq, d).
    """
    if _plain_is_faster(q):
        return attend_plainly(q, k, v, bias, scale)
    mask = None if bias is None else bias.to(q.dtype)
    if q.device.type == "cuda" and len(q) > MOST_ROWS:
        assert mask is None or mask.dim() < q.dim() or len(mask) == 1, "a bias for all rows"
        rows = zip(*(torch.split(x, MOST_ROWS) for x in (q, k, v)), strict=True)
        parts = [
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale) for q, k, v in rows
        ]
        return torch.cat(parts)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def attend_plainly(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Compute `attend` as two products with a softmax between; same arguments and shapes."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    weights = scores.softmax(dim=-1, dtype=_softmax_dtype(scores))
    return weights.to(v.dtype) @ v


def _plain_is_faster(q: Tensor) -> bool:
    """Whether two products and a softmax beat the fused kernel.

    Without matrix tiles (AMX) the fused CPU kernel is slow in bf16, while plain products run at the
    full bf16 rate; benchmarks/attention.py times both.
    """
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and not _has_amx()


def _softmax_dtype(scores: Tensor) -> torch.dtype:
    """Return the dtype in which softmax is fast.

    A row of 16 to 31 fills a vector of 512 bits in fp32 but not in bf16, whose kernel then goes
    number by number: bench_attention.py --shape 1024,3,16,32 (a window of Swin, a patch of TNT).
    """
    narrow = scores.dtype == torch.bfloat16 and 16 <= scores.shape[-1] < 32
    return torch.float32 if narrow else scores.dtype


def softmax_(scores: Tensor) -> Tensor:
    """Replace each row of scores by its softmax, in the same memory."""
    dtype = _softmax_dtype(scores)
    if dtype != scores.dtype:
        return scores.copy_(scores.softmax(-1, dtype=dtype))
    return torch.softmax(scores, -1, out=scores)


def softmax_backward_(grad: Tensor, weights: Tensor) -> Tensor:
    """Replace the gradient of a softmax's result, `weights`, by that of the scores."""
    dtype = _softmax_dtype(weights)
    backward = torch.ops.aten._softmax_backward_data
    if dtype != grad.dtype:
        return grad.copy_(backward(grad.to(dtype), weights.to(dtype), -1, dtype))
    result: Tensor = backward.out(grad, weights, -1, dtype, grad_input=grad)
    return result


def _has_amx() -> bool:
    return bool(torch.cpu._is_amx_tile_supported())


# What the decorator `torch.compiler.assume_constant_result` sets; to call it would import the whole
# compiler, more than two seconds at every start.
_has_amx._dynamo_marked_constant = True  # type: ignore[attr-defined]


class _SelfAttention(torch.autograd.Function):
    # `attend_plainly` with the copies that a chain of autograd's own steps would make left out:
    # heads are put apart in one copy, scores are biased and turned into weights in place, and the
    # gradients of the three parts are written where one copy brings them together.

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, num_heads: int, bias: Tensor | None, scale: float | None
    ) -> Tensor:
        q, k, v = heads_apart(qkv, num_heads)
        ctx.scale = q.shape[-1] ** -0.5 if scale is None else scale
        q *= ctx.scale
        scores = q @ k.mT
        if bias is not None:
            scores.view(-1, *bias.shape).add_(bias.to(scores.dtype))
        weights = softmax_(scores)
        ctx.save_for_backward(q, k, v, weights)
        ctx.num_heads, ctx.bias = num_heads, None if bias is None else (bias.shape, bias.dtype)
        return heads_together((weights @ v)[None], num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
        q, k, v, weights = ctx.saved_tensors
        (grad,) = heads_apart(grad, ctx.num_heads, 1)
        scores_grad = softmax_backward_(grad @ v.mT, weights)
        parts = q.new_empty(3, *q.shape)
        torch.bmm(scores_grad, k, out=parts[0]).mul_(ctx.scale)
        torch.bmm(scores_grad.mT, q, out=parts[1])
        torch.bmm(weights.mT, grad, out=parts[2])
        bias_grad = None
        if ctx.needs_input_grad[2]:
            shape, dtype = ctx.bias
            bias_grad = column_sums(scores_grad.view(-1, shape.numel())).view(shape).to(dtype)
        return heads_together(parts, ctx.num_heads), None, bias_grad, None


class _LongSelfAttention(torch.autograd.Function):
    # The same for so many tokens that the weights would be larger than all else that is saved: they
    # are computed again in the backward pass, and in both a few heads at a time, which stay in the
    # processor's cache. benchmarks/attention.py times both ways.

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, num_heads: int, bias: None, scale: float | None) -> Tensor:
        assert bias is None
        q, k, v = heads_apart(qkv, num_heads)
        ctx.scale = q.shape[-1] ** -0.5 if scale is None else scale
        q *= ctx.scale
        ctx.save_for_backward(q, k, v)
        ctx.num_heads = num_heads
        heads = torch.empty_like(q)
        for some_q, some_k, some_v, out in a_few_at_a_time(q, k, v, heads):
            torch.bmm(softmax_(some_q @ some_k.mT), some_v, out=out)
        return heads_together(heads[None], num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = heads_apart(grad, ctx.num_heads, 1)
        parts = grad.new_empty(3, *grad.shape)
        for q, k, v, upstream, q_grad, k_grad, v_grad in a_few_at_a_time(
            *ctx.saved_tensors, grad, *parts
        ):
            weights = softmax_(q @ k.mT)
            torch.bmm(weights.mT, upstream, out=v_grad)
            scores_grad = softmax_backward_(upstream @ v.mT, weights)
            torch.bmm(scores_grad, k, out=q_grad).mul_(ctx.scale)
            torch.bmm(scores_grad.mT, q, out=k_grad)
        return heads_together(parts, ctx.num_heads), None, None, None


def heads_apart(x: Tensor, num_heads: int, parts: int = 3) -> Tensor:
    """Copy projections, heads apart. Shape: (B, N, parts * D) -> (parts, B * H, N, d)."""
    B, N, _ = x.shape
    return x.view(B, N, parts, num_heads, -1).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)


def heads_together(x: Tensor, num_heads: int) -> Tensor:
    """Undo `heads_apart`. Shape: (parts, B * H, N, d) -> (B, N, parts * D)."""
    parts, rows, N, d = x.shape
    x = x.view(parts, rows // num_heads, num_heads, N, d).permute(1, 3, 0, 2, 4)
    return x.reshape(rows // num_heads, N, -1)


def a_few_at_a_time(*heads: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors of heads so that the scores of a piece stay in cache. Shape: (B * H, N, d)."""
    N = heads[0].shape[1]
    count = max(1, CACHED // (N * N))
    return zip(*(torch.split(x, count) for x in heads), strict=True)


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
        self.qkv = Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.proj = Linear(embed_dim, embed_dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """Attend from the first `queries` tokens (all of them by default) to every token."""
        if queries is None:
            x = self_attend(self.qkv(x), self.num_heads)
        else:
            # Rows of the weight are [q; k; v]: keys and values of all tokens, few queries.
            D = x.shape[-1]
            weight, bias = self.qkv.weight, self.qkv.bias
            q_bias, kv_bias = (None, None) if bias is None else (bias[:D], bias[D:])
            (q,) = self._heads(linear(x[:, :queries], weight[:D], q_bias), 1)
            k, v = self._heads(linear(x, weight[D:], kv_bias), 2)
            x = attend(q, k, v).transpose(1, 2).flatten(2)  # heads side by side: (B, queries, D)
        out: Tensor = self.drop(self.proj(x))
        return out

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Split projections into heads. Shape: (B, N, parts * D) -> parts x (B, H, N, d)."""
        B, N, _ = x.shape
        return x.reshape(B, N, parts, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
