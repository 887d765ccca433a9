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
from vtrain.layers.probe import current_probe

RECOMPUTE_ABOVE = 128
"""Tokens above which the weights would take about as much memory as all else of attention."""
SCORES_IN_CACHE = 1 << 18
"""Scores computed at a time where they are not kept: 512 KiB in bf16, to stay in a cache."""

MAX_CUDA_ROWS = 65_535
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
    probe = current_probe()
    if probe is None and _plain_is_faster(qkv) and not torch.compiler.is_compiling():
        recompute = bias is None and N > RECOMPUTE_ABOVE
        function = _RecomputedSelfAttention if recompute else _SelfAttention
        out: Tensor = function.apply(qkv, num_heads, bias, scale)
        return out
    # P neighbouring rows take the P biases in turn. Seen as one row of P * H heads, every P rows
    # need the same bias, so that it is broadcast and never copied.
    groups = num_heads if bias is None else len(bias) * num_heads
    parts = qkv.view(B, N, 3, num_heads, -1).permute(2, 0, 3, 1, 4)  # (3, B, H, N, d)
    if probe is not None:  # who looks at the weights wants them by row
        biases = None if bias is None else bias.repeat(B // len(bias), 1, 1, 1)
        q, k, v = parts.unbind(0)
        return attend(q, k, v, biases, scale).transpose(1, 2).flatten(2)
    q, k, v = parts.reshape(3, -1, groups, N, parts.shape[-1]).unbind(0)
    x = attend(q, k, v, None if bias is None else bias.flatten(0, 1), scale)
    return x.reshape(B, num_heads, N, -1).transpose(1, 2).flatten(2)  # (B, N, D)


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return softmax(q k^T * scale + bias) v by the kernel that suits device and dtype.

    `scale` is 1 / sqrt(d) unless given.

    Shape: q (B, H, Nq, d), k and v (B, H, Nk, d), bias broadcastable to (B, H, Nq, Nk)
    -> (B, H, Nq, d).
    """
    if (probe := current_probe()) is not None:
        return probe.attend(q, k, v, bias, scale)
    if _plain_is_faster(q):
        return attend_plainly(q, k, v, bias, scale)
    mask = None if bias is None else bias.to(q.dtype)
    if q.device.type == "cuda" and q.shape[0] > MAX_CUDA_ROWS:
        assert mask is None or mask.dim() < q.dim() or len(mask) == 1, "a bias for all rows"
        rows = zip(*(torch.split(x, MAX_CUDA_ROWS) for x in (q, k, v)), strict=True)
        parts = [
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale) for q, k, v in rows
        ]
        return torch.cat(parts)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def attend_plainly(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Compute `attend` as two products with a softmax between; same arguments and shapes."""
    # Scaling q, the smaller factor, costs less than scaling the scores: (B, H, Nq, Nk).
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    weights = scores.softmax(dim=-1, dtype=_softmax_dtype(scores))
    return weights.to(v.dtype) @ v


def _plain_is_faster(q: Tensor) -> bool:
    """Return whether two products and a softmax beat the fused kernel.

    Without matrix tiles (AMX) the fused CPU kernel is slow in bf16, while plain products run at the
    full bf16 rate; `scripts/bench attention` times both.
    """
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and not _has_amx()


def _softmax_dtype(scores: Tensor) -> torch.dtype:
    """Return the dtype in which softmax is fast.

    A row of 16 to 31 fills a vector of 512 bits in fp32 but not in bf16, whose kernel then goes
    number by number: `scripts/bench attention --shape 1024,3,16,32` (a window of Swin, a patch of
    TNT).
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
    """Compute `attend_plainly` on (B, N, 3 * D), without the copies of a chain of autograd's steps.

    Heads are split in one copy, scores are biased and turned into weights in place, and the
    gradients of queries, keys and values are written where one copy merges them.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, num_heads: int, bias: Tensor | None, scale: float | None
    ) -> Tensor:
        q, k, v = split_heads(qkv, num_heads)  # each (B * H, N, d), a copy that is ours to change
        ctx.scale = q.shape[-1] ** -0.5 if scale is None else scale
        q *= ctx.scale
        scores = q @ k.mT  # (B * H, N, N)
        if bias is not None:
            # Rows i, i + P, i + 2 P ... share number i of the bias: (B / P, P, H, N, N).
            scores.view(-1, *bias.shape).add_(bias.to(scores.dtype))
        weights = softmax_(scores)
        ctx.save_for_backward(q, k, v, weights)
        ctx.num_heads, ctx.bias = num_heads, None if bias is None else (bias.shape, bias.dtype)
        return merge_heads((weights @ v)[None], num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
        q, k, v, weights = ctx.saved_tensors
        (grad,) = split_heads(grad, ctx.num_heads, 1)  # (B * H, N, d), of weights @ v
        scores_grad = softmax_backward_(grad @ v.mT, weights)
        parts = q.new_empty(3, *q.shape)  # gradients of q, k and v
        # The saved q is scaled already, so only its own gradient needs the factor.
        torch.bmm(scores_grad, k, out=parts[0]).mul_(ctx.scale)
        torch.bmm(scores_grad.mT, q, out=parts[1])
        torch.bmm(weights.mT, grad, out=parts[2])
        bias_grad = None
        if ctx.needs_input_grad[2]:
            shape, dtype = ctx.bias
            # Summed over the rows that share a bias.
            bias_grad = column_sums(scores_grad.view(-1, shape.numel())).view(shape).to(dtype)
        return merge_heads(parts, ctx.num_heads), None, bias_grad, None


class _RecomputedSelfAttention(torch.autograd.Function):
    """Compute `_SelfAttention` without keeping the weights, larger than all else for many tokens.

    The backward pass computes them again. Both passes work on a few heads at a time, whose scores
    stay in the processor's cache; `scripts/bench attention` times both classes.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, num_heads: int, bias: None, scale: float | None) -> Tensor:
        assert bias is None
        q, k, v = split_heads(qkv, num_heads)
        ctx.scale = q.shape[-1] ** -0.5 if scale is None else scale
        q *= ctx.scale
        ctx.save_for_backward(q, k, v)
        ctx.num_heads = num_heads
        heads = torch.empty_like(q)
        for q_chunk, k_chunk, v_chunk, out in cache_sized_chunks(q, k, v, heads):
            torch.bmm(softmax_(q_chunk @ k_chunk.mT), v_chunk, out=out)
        return merge_heads(heads[None], num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = split_heads(grad, ctx.num_heads, 1)
        parts = grad.new_empty(3, *grad.shape)
        chunks = cache_sized_chunks(*ctx.saved_tensors, grad, *parts)
        for q, k, v, upstream, q_grad, k_grad, v_grad in chunks:  # the last three are written
            weights = softmax_(q @ k.mT)
            torch.bmm(weights.mT, upstream, out=v_grad)
            scores_grad = softmax_backward_(upstream @ v.mT, weights)
            torch.bmm(scores_grad, k, out=q_grad).mul_(ctx.scale)
            torch.bmm(scores_grad.mT, q, out=k_grad)
        return merge_heads(parts, ctx.num_heads), None, None, None


def split_heads(x: Tensor, num_heads: int, parts: int = 3) -> Tensor:
    """Copy projections so that heads are rows. Shape: (B, N, parts * D) -> (parts, B * H, N, d)."""
    B, N, _ = x.shape
    return x.view(B, N, parts, num_heads, -1).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)


def merge_heads(x: Tensor, num_heads: int) -> Tensor:
    """Undo `split_heads`. Shape: (parts, B * H, N, d) -> (B, N, parts * D)."""
    parts, rows, N, d = x.shape
    x = x.view(parts, rows // num_heads, num_heads, N, d).permute(1, 3, 0, 2, 4)
    return x.reshape(rows // num_heads, N, -1)


def cache_sized_chunks(*heads: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield chunks of heads whose scores stay in cache, of every tensor. Shape: (B * H, N, d)."""
    N = heads[0].shape[1]
    count = max(1, SCORES_IN_CACHE // (N * N))
    return zip(*(torch.split(x, count) for x in heads), strict=True)


class SelfAttention(nn.Module):
    """Multi-head self-attention, and dropout after it.

    Shape: (B, N, D) -> (B, N, D), or (B, queries, D).
    """

    def __init__(
        self, embed_dim: int, num_heads: int, qkv_bias: bool = True, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            what = f"embed_dim ({embed_dim}) must be a multiple of num_heads ({num_heads})"
            raise ValueError(what)
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
