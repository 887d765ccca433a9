"""Layer normalisation, and the one place that chooses how it is computed."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last dimension, whose gradients are right in bf16, too."""

    def forward(self, x: Tensor) -> Tensor:
        low = x.dtype == torch.bfloat16 and x.device.type == "cpu"
        if low and not torch.compiler.is_compiling():
            out: Tensor = _BFloat16LayerNorm.apply(x, self.weight, self.bias, self.eps)
            return out
        return super().forward(x)


class _BFloat16LayerNorm(torch.autograd.Function):
    # torch's CPU kernel adds the gradients of weight and bias up in bf16, row by row: over 16,384
    # rows of random numbers both are off by 15 % (tests/layers/test_norm.py). Its fp32 kernel is as
    # fast, casts included.

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        wide = weight.float(), bias.float()  # so that mean and deviation are fp32, too
        out, *stats = torch.native_layer_norm(x, x.shape[-1:], *wide, eps)
        ctx.save_for_backward(x, *stats, *wide)
        ctx.dtypes = x.dtype, weight.dtype, bias.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        grads = torch.ops.aten.native_layer_norm_backward(
            grad.float(), x.float(), x.shape[-1:], *saved, ctx.needs_input_grad[:3]
        )
        made = zip(grads, ctx.dtypes, strict=True)
        return *(None if g is None else g.to(dtype) for g, dtype in made), None
