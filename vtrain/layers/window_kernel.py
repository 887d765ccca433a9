"""Window attention in one kernel for the forward pass and one for the backward pass.

It reads queries, keys and values where the projection wrote them, and keeps scores and weights in
registers: nothing but input, output and their gradients touches memory. `window_triton` holds the
programs; this file says when they apply, and makes them an operator that torch.compile takes.

B images, nW windows, N tokens of a window, h heads, d head dimension.
"""

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from vtrain.layers.windows import attend_in_windows

MOST_TOKENS = 64
"""Tokens of a window whose scores fit in the registers of a program, forward and backward."""
MOST_HEAD_DIM = 64
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FORWARD_WARPS, BACKWARD_WARPS = 8192, 4096
"""Warps to start if there is work for as many: enough to keep a large GPU busy to the end. They are
fewer in the backward pass, where each program leaves its share of the gradient of the bias. They do
not depend on the GPU, so that neither do the results."""


def is_available(device: torch.device) -> bool:
    """Return whether kernels run on this device: an NVIDIA GPU with bf16 products, and Triton.

    On the CPU Triton's interpreter runs them, for tests: TRITON_INTERPRET=1.
    """
    if importlib.util.find_spec("triton") is None:
        return False
    if device.type == "cuda":
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"


def fits(dtype: torch.dtype, tokens: int, head_dim: int) -> bool:
    """Return whether there is a kernel for windows of so many tokens."""
    return dtype in DTYPES and tokens <= MOST_TOKENS and head_dim <= MOST_HEAD_DIM


def attend_in_windows_fused(
    qkv: Tensor,
    num_heads: int,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float | None = None,
) -> Tensor:
    """Compute `attend_in_windows` by a kernel where one fits; same arguments and shapes.

    The scores, what is added to them and the softmax are fp32 whatever the dtype. The mask gets no
    gradient.
    """
    head_dim = qkv.shape[-1] // (3 * num_heads)
    if not fits(qkv.dtype, qkv.shape[2], head_dim):
        return attend_in_windows(qkv, num_heads, bias, mask, scale)
    scale = head_dim**-0.5 if scale is None else scale
    out: Tensor = _attend(qkv, bias, mask, num_heads, scale)
    return out


@torch.library.custom_op("vtrain::attend_in_windows", mutates_args=())
def _attend(
    qkv: Tensor, bias: Tensor | None, mask: Tensor | None, num_heads: int, scale: float
) -> Tensor:
    from vtrain.layers.window_triton import forward

    qkv = qkv.contiguous()
    grid, images, known = _launch(qkv, mask, num_heads, FORWARD_WARPS)
    out = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
    with _current(qkv.device):
        forward[grid](qkv, _dense(bias), _dense(mask), out, *images, scale, **known)
    return out


@_attend.register_fake
def _(
    qkv: Tensor, bias: Tensor | None, mask: Tensor | None, num_heads: int, scale: float
) -> Tensor:
    return qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)


@torch.library.custom_op("vtrain::attend_in_windows_backward", mutates_args=())
def _attend_backward(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    num_heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `qkv` and of `bias`; the latter is empty without a bias."""
    from vtrain.layers.window_triton import backward

    qkv, grad = qkv.contiguous(), grad.contiguous()
    grid, images, known = _launch(qkv, mask, num_heads, BACKWARD_WARPS)
    qkv_grad = torch.empty_like(qkv)
    shares = None
    if bias is not None:
        shares = torch.empty(*grid[:0:-1], *bias.shape, dtype=torch.float32, device=bias.device)
    with _current(qkv.device):
        backward[grid](
            qkv, _dense(bias), _dense(mask), grad, qkv_grad, shares, *images, scale, **known
        )
    if bias is None or shares is None:
        return qkv_grad, qkv.new_empty(0)
    return qkv_grad, shares.sum((0, 1)).to(bias.dtype)


@_attend_backward.register_fake
def _(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    num_heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    bias_grad = qkv.new_empty(0) if bias is None else bias.new_empty(bias.shape)
    return qkv.new_empty(qkv.shape), bias_grad


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.num_heads, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
    qkv, bias, mask = ctx.saved_tensors
    qkv_grad, bias_grad = _attend_backward(grad, qkv, bias, mask, ctx.num_heads, ctx.scale)
    return qkv_grad, None if bias is None else bias_grad, None, None, None


_attend.register_autograd(_gradients, setup_context=_remember)


def _launch(
    qkv: Tensor, mask: Tensor | None, num_heads: int, warps: int
) -> tuple[tuple[int, int, int], tuple[int, int], dict[str, Any]]:
    """Return the grid of programs, how the images are shared out, and what is known at compiling.

    One warp for 16 tokens, four for 64: then a program's numbers stay in its registers.
    """
    B, windows, N, width = qkv.shape
    d = width // (3 * num_heads)
    T, W = (max(16, 1 << (size - 1).bit_length()) for size in (N, d))
    places = 1 if mask is None else windows  # without a mask all windows are alike
    images = B * windows // places
    parts = min(images, -(-warps * 16 // (T * num_heads * places)))
    each = -(-images // parts)
    known = {
        "N": N,
        "d": d,
        "T": T,
        "W": W,
        "PRECISION": "tf32x3",  # of fp32: three products on the tensor cores, as exact as one
        "num_warps": T // 16,
        "enable_fp_fusion": True,  # a product and a sum are rounded once
    }
    return (num_heads, places, -(-images // each)), (images, each), known


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which Triton starts its programs on this device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
