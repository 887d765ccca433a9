"""Time Swin-T's window attention, forward and backward, by each way on a GPU.

`torch` is what vtrain does by default, `plain` two products with a softmax between, `triton` the
kernel of `train.window_attention`; with an asterisk as torch.compile compiles it. `GB/s` counts
what the kernel has to read and write: a GPU's memory sets its limit. `error` is its largest one
beside fp64, in units of the largest right number.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vtrain.layers.attention import attend_plainly
from vtrain.layers.window_kernel import attend_in_windows_fused, is_available
from vtrain.layers.windows import attend_in_windows
from vtrain.models.swin import Swin
from vtrain.run.window_attention import (
    CHECKED_IMAGES,
    Shape,
    example,
    forward_and_backward,
    largest_error,
    milliseconds,
    window_shapes,
)

SIZES = {  # image size: images, patch_size, window_size of configs/swin_t_{imagenet,cifar}.yaml
    224: (128, 4, 7),
    32: (512, 2, 4),
}


def plainly(qkv: Tensor, num_heads: int, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Compute `attend_in_windows` without a fused kernel; same arguments and shapes."""
    q, k, v = qkv.unflatten(-1, (3, num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
    added = bias if mask is None else bias + mask[:, None]
    return attend_plainly(q, k, v, added).transpose(2, 3).flatten(3)


WAYS: dict[str, Callable[..., Tensor]] = {
    "torch": attend_in_windows,
    "plain": plainly,
    "triton": attend_in_windows_fused,
}


def row(shape: Shape, images: int, dtype: torch.dtype) -> str:
    """Return the milliseconds of each way, and how well the kernel does."""
    device = torch.device("cuda")
    inputs = example(shape, device, dtype, images)
    times = {}
    for name, attend in WAYS.items():
        torch.compiler.reset()
        for mark, way in (("", attend), ("*", torch.compile(attend, dynamic=False))):
            times[name + mark] = milliseconds(partial(forward_and_backward, way, inputs))
    # Forward: 3 parts and the output; backward: 3 parts, a gradient, and 3 of them written.
    numbers = 11 * inputs.grad.numel() * inputs.grad.element_size()
    speed = numbers / min(times["triton"], times["triton*"]) / 1e6
    error = largest_error(attend_in_windows_fused, example(shape, device, dtype, CHECKED_IMAGES))
    columns = [f"{time:8.3f}" for time in times.values()]
    return f"{images:6} {shape!s:52}{''.join(columns)} {speed:8.0f} {error:8.0e}"


def main() -> None:
    """Print a table, one row for each shape of windows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    arguments = parser.parse_args()
    if not (torch.cuda.is_available() and is_available(torch.device("cuda"))):
        print("this needs Triton and an NVIDIA GPU, Ampere or later", file=sys.stderr)
        raise SystemExit(6)
    print(torch.cuda.get_device_name(), "torch", torch.__version__, arguments.dtype)
    print("milliseconds of a forward and a backward pass; *: compiled")
    heads = "".join(f"{name:>8}{name + '*':>8}" for name in WAYS)
    print(f"{'images':>6} {'':52}{heads} {'GB/s':>8} {'error':>8}")
    for size in arguments.sizes:
        images, patch_size, window_size = SIZES[size]
        with torch.device("meta"):
            model = Swin(10, size, patch_size=patch_size, window_size=window_size)
        for shape in window_shapes(model):
            print(row(shape, images, getattr(torch, arguments.dtype)), flush=True)


if __name__ == "__main__":
    main()
