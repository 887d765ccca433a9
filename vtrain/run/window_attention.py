"""`train.window_attention`: how the blocks of a Swin attend within their windows.

A kernel is taken only after it has agreed with fp64 on this device, and by `fastest` only where it
is faster than torch, for each shape of windows in the model on its own.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from vtrain import distributed
from vtrain.errors import ConfigError, DeviceError
from vtrain.layers.window_kernel import attend_in_windows_fused, fits, is_available
from vtrain.layers.windows import attend_in_windows
from vtrain.models.base import ImageClassifier
from vtrain.models.swin import ShiftedWindowTransformer

log = logging.getLogger(__name__)

KEY = "train.window_attention"
Attend: TypeAlias = Callable[[Tensor, int, Tensor | None, Tensor | None], Tensor]

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""Largest error of an output or a gradient that is allowed, in units of the largest right number.

A few roundings of the dtype: the weights of attention are rounded to it before their product."""
CHECKED_IMAGES = 2
TIMED_IMAGES = 128
"""At most; a GPU is busy with fewer, and memory is to be left for the run."""


@dataclass(frozen=True)
class Shape:
    """What a block attends within."""

    windows: int
    tokens: int
    num_heads: int
    head_dim: int
    masked: bool

    def __str__(self) -> str:
        shifted = "shifted " if self.masked else ""
        return (
            f"{self.windows} {shifted}windows of {self.tokens} tokens, "
            f"{self.num_heads} heads of {self.head_dim}"
        )


def choose_window_attention(
    way: Literal["torch", "triton", "fastest"],
    model: ImageClassifier,
    device: torch.device,
    dtype: torch.dtype,
    images: int,
    compiled: bool,
) -> None:
    """Make the model attend within its windows by torch, by the kernel or by the faster of them.

    Args:
        way: The value of the key.
        model: On its device.
        device: Where it is trained.
        dtype: Of the activations.
        images: That pass through the model at once.
        compiled: Whether the model will be compiled; so is what is timed.

    Raises:
        ConfigError: The way is `triton` and the model has no windows, or none that fit.
        DeviceError: The way is `triton` and the kernel does not work here.
    """
    if way == "torch":
        return
    blocks = window_shapes(model)
    if way == "triton" and not blocks:
        raise ConfigError(f"{KEY} is triton, but the model has no windows", KEY, "leave it out")
    for shape, layers in blocks.items():
        objection = fault(shape, device, dtype)
        if way == "triton" and objection is not None:
            error = DeviceError if fits(dtype, shape.tokens, shape.head_dim) else ConfigError
            raise error(f"{KEY} is triton, but {objection}", KEY, "take torch or fastest")
        if way == "fastest" and objection is None:
            objection = slowness(shape, device, dtype, min(images, TIMED_IMAGES), compiled)
        # One way in all processes, so that they do the same in the same time.
        if distributed.any_true(objection is not None):
            log.info("attend  %s: torch (%s)", shape, objection or "another process needs it")
            continue
        log.info("attend  %s: triton", shape)
        for layer in layers:
            layer.attend = attend_in_windows_fused


def window_shapes(model: ImageClassifier) -> dict[Shape, list[Any]]:
    """Return each shape of windows in the model, at the size it is made for, and who has it."""
    found: dict[Shape, list[Any]] = defaultdict(list)
    if isinstance(model, ShiftedWindowTransformer):
        for stage in cast(Any, model.layers):
            pair = next(iter(stage.windows.sizes.values()))
            for i, block in enumerate(stage.blocks):
                windows, layer = pair[i % 2], block.attn
                tokens = windows.side**2
                shape = Shape(
                    len(windows.order) // tokens,
                    tokens,
                    layer.num_heads,
                    layer.proj.in_features // layer.num_heads,
                    windows.mask is not None,
                )
                found[shape].append(layer)
    return found


def fault(
    shape: Shape,
    device: torch.device,
    dtype: torch.dtype,
    attend: Attend = attend_in_windows_fused,
) -> str | None:
    """Return what keeps the kernel from being right for a shape on this device, if anything does.

    Raises:
        AcceleratorError: The device has failed; nothing on it can be used any more.
    """
    if not fits(dtype, shape.tokens, shape.head_dim):
        return f"there is no kernel for {shape} in {str(dtype).removeprefix('torch.')}"
    if not is_available(device):
        return "the kernel needs Triton and an NVIDIA GPU of compute capability 8.0 or later"
    try:
        error = largest_error(attend, example(shape, device, dtype, CHECKED_IMAGES))
    except torch.AcceleratorError:
        raise
    except Exception as failure:
        return f"the kernel fails for {shape}: {_first_line(failure)}"
    if error > TOLERANCE[dtype]:
        return f"the kernel is off by {error:.1e} for {shape}; {TOLERANCE[dtype]:.0e} is allowed"
    return None


def slowness(
    shape: Shape, device: torch.device, dtype: torch.dtype, images: int, compiled: bool
) -> str | None:
    """Return what keeps the kernel from being faster than torch, if anything does."""
    try:
        inputs = example(shape, device, dtype, images)
        ways: dict[str, Attend] = {"torch": attend_in_windows, "triton": attend_in_windows_fused}
        times = {}
        for name, attend in ways.items():
            timed = torch.compile(attend, dynamic=False) if compiled else attend
            times[name] = milliseconds(partial(forward_and_backward, timed, inputs))
    except torch.AcceleratorError:
        raise
    except Exception as failure:
        return f"it cannot be timed: {_first_line(failure)}"
    finally:
        if compiled:  # what was compiled here must not count against the model
            torch.compiler.reset()
    said = f"{times['triton']:.3f} ms against {times['torch']:.3f} ms of torch"
    log.info("attend  %s: triton takes %s", shape, said)
    return None if times["triton"] < times["torch"] else f"triton is not faster: {said}"


@dataclass(frozen=True)
class Inputs:
    """What attention is checked and timed with: its arguments, and a gradient of its output."""

    qkv: Tensor
    num_heads: int
    bias: Tensor
    mask: Tensor | None
    grad: Tensor

    def exact(self) -> "Inputs":
        """Return the same in fp64."""
        mask = None if self.mask is None else self.mask.double()
        qkv, bias = (x.detach().double().requires_grad_() for x in (self.qkv, self.bias))
        return Inputs(qkv, self.num_heads, bias, mask, self.grad.double())


def example(shape: Shape, device: torch.device, dtype: torch.dtype, images: int) -> Inputs:
    """Return random inputs. A mask separates three pairs of ten, others in each window."""
    generator = torch.Generator(device).manual_seed(0)  # the run's own draws stay as they are

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, device=device)

    W, N, channels = shape.windows, shape.tokens, shape.num_heads * shape.head_dim
    mask = None
    if shape.masked:
        apart = torch.rand((W, N, N), generator=generator, device=device) < 0.3
        mask = torch.zeros(W, N, N, device=device).masked_fill(apart, -100.0)
    return Inputs(
        normal(images, W, N, 3 * channels).to(dtype).requires_grad_(),
        shape.num_heads,
        normal(shape.num_heads, N, N).requires_grad_(),
        mask,
        normal(images, W, N, channels).to(dtype),
    )


def forward_and_backward(attend: Attend, inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the output and the gradients of queries, keys and values, and of the bias."""
    out = attend(inputs.qkv, inputs.num_heads, inputs.bias, inputs.mask)
    return out.detach(), *torch.autograd.grad(out, (inputs.qkv, inputs.bias), inputs.grad)


def largest_error(attend: Attend, inputs: Inputs) -> float:
    """Return the largest error beside fp64, in units of the largest right number of its kind."""
    results = forward_and_backward(attend, inputs)
    right = forward_and_backward(attend_in_windows, inputs.exact())
    errors = [
        float((x.double() - y).abs().max() / y.abs().max())
        for x, y in zip(results, right, strict=True)
    ]
    return max(error if math.isfinite(error) else math.inf for error in errors)


def milliseconds(call: Callable[[], Any]) -> float:
    """Return the median time of a call on the GPU, after a warm-up, by CUDA events.

    Between calls a large buffer is written: inputs are no longer in the GPU's cache, and the host
    gets ahead of the GPU.
    """
    from triton.testing import do_bench

    return float(do_bench(call, warmup=25, rep=100, return_mode="median"))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
