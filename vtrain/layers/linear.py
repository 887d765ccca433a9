"""The dense layer, and the one place that chooses how it is computed.

M rows (all leading dimensions together), K inputs, N outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by the kernels that suit device and dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias as `torch.nn.functional.linear` does, autocast included.

    Shape: x (..., K), weight (N, K), bias (N) -> (..., N).
    """
    if uses_cpu_bf16(x, weight):
        out: Tensor = _BFloat16Linear.apply(x, weight, bias, False)
        return out
    return F.linear(x, weight, bias)


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `linear` of GELU(x), the exact one, keeping only x for the backward pass.

    That is so in bf16 on a CPU, where it costs a GELU more. Shape: as `linear`.
    """
    if uses_cpu_bf16(x, weight):
        out: Tensor = _BFloat16Linear.apply(x, weight, bias, True)
        return out
    return linear(F.gelu(x), weight, bias)


def uses_cpu_bf16(x: Tensor, weight: Tensor) -> bool:
    """Return whether a layer of `x` runs in bf16 on a CPU, by the kernels that are chosen here."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    if torch.is_autocast_enabled("cpu"):
        low = torch.get_autocast_dtype("cpu") == torch.bfloat16
    else:
        low = x.dtype == weight.dtype == torch.bfloat16
    return low and _has_bf16()


def _has_bf16() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _BFloat16Linear(torch.autograd.Function):
    """Compute a dense layer in bf16 as autocast does, but faster on a CPU.

    `scripts/bench linear` times each of the three differences: the bias is added where the product
    is stored, and not laid out as a matrix before it; the gradient of the bias is a product with
    ones, as a sum down the columns is slow in bf16; and of the two ways to the gradient of the
    weight the one that transposes the narrower matrix is taken.

    With `gelu`, x goes through it first, and the result is not kept but computed again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).bfloat16()  # (M, K)
        low = weight.bfloat16()
        ctx.save_for_backward(rows, low)
        ctx.shape, ctx.dtypes, ctx.gelu = x.shape, (x.dtype, weight.dtype), gelu
        if gelu:
            rows = F.gelu(rows)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, low, None if bias is None else bias.bfloat16(), "none", [], ""
        )
        return out.view(*x.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (rows, weight), (x_dtype, dtype) = ctx.saved_tensors, ctx.dtypes
        grad = grad.reshape(-1, grad.shape[-1])  # (M, N)
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        x_grad = weight_grad = bias_grad = None
        if wants_weight:
            weight_grad = weight_gradient(grad, F.gelu(rows) if ctx.gelu else rows).to(dtype)
        if wants_x:
            x_grad = grad @ weight  # (M, K)
            if ctx.gelu:
                x_grad = torch.ops.aten.gelu_backward(x_grad, rows)
            x_grad = x_grad.to(x_dtype).view(ctx.shape)
        if wants_bias:
            bias_grad = column_sums(grad).to(dtype)
        return x_grad, weight_grad, bias_grad, None


def weight_gradient(grad: Tensor, rows: Tensor) -> Tensor:
    """Return a weight's gradient, grad^T rows. Shape: (M, N), (M, K) -> (N, K)."""
    (M, K), N = rows.shape, grad.shape[1]
    # The first factor is transposed in memory before the product. Where that is much of the work,
    # it should be the narrower one.
    if N > K and M > 8 * K:
        return (rows.t() @ grad).t().contiguous()
    return grad.t() @ rows


def column_sums(x: Tensor) -> Tensor:
    """Return the sum of each column, added in fp32. Shape: (M, N) -> (N,)."""
    return (x.new_ones(1, x.shape[0]) @ x)[0]
