"""Layer normalisation, and the one place that chooses how it is computed."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NUMBERS_IN_CACHE = 1 << 19
"""Numbers whose gradients are computed at a time: 2 MiB of each tensor in fp32."""


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last dimension, whose gradients are right in bf16, too."""

    def forward(self, x: Tensor) -> Tensor:
        low = x.dtype == torch.bfloat16 and x.device.type == "cpu"
        if low and not torch.compiler.is_compiling():
            out: Tensor = _BFloat16LayerNorm.apply(x, self.weight, self.bias, self.eps)
            return out
        return super().forward(x)


class _BFloat16LayerNorm(torch.autograd.Function):
    """Normalise in bf16, with gradients from the fp32 kernel, at the price of the casts.

    torch's CPU kernel adds the gradients of weight and bias up in bf16, row by row: over 16,384
    rows of random numbers both are off by 15 % (tests/layers/test_norm.py).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        wide = weight.float(), bias.float()  # so that mean and deviation are fp32, too
        x = x.contiguous()
        out, *stats = torch.native_layer_norm(x, x.shape[-1:], *wide, eps)
        ctx.save_for_backward(x, *stats, *wide)
        ctx.dtypes = weight.dtype, bias.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *rows, weight, bias = ctx.saved_tensors
        x_grad = torch.empty_like(rows[0])
        weight_grad, bias_grad = torch.zeros_like(weight), torch.zeros_like(bias)
        channels = weight.shape  # (C,); all rows together are (M, C)
        # In chunks of rows, so that their fp32 copies stay in the processor's cache.
        tensors = (
            t.flatten(0, -2).split(NUMBERS_IN_CACHE // len(weight)) for t in (grad, *rows, x_grad)
        )
        for upstream, x, mean, deviation, out in zip(*tensors, strict=True):
            parts = torch.ops.aten.native_layer_norm_backward(
                upstream.float(), x.float(), channels, mean, deviation, weight, bias, [True] * 3
            )
            out.copy_(parts[0])
            weight_grad += parts[1]
            bias_grad += parts[2]
        grads = (x_grad, weight_grad.to(ctx.dtypes[0]), bias_grad.to(ctx.dtypes[1]))
        return *grads, None
