"""Time each attention kernel, forward and backward: `python scripts/bench_attention.py --help`."""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vtrain.layers.attention import attend, attend_plainly

KERNELS: dict[str, Callable[..., Tensor]] = {
    "chosen": attend,
    "plain": attend_plainly,
    "fused": F.scaled_dot_product_attention,
}


def main() -> None:
    """Print the median and the lowest time of each kernel for each dtype."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="128,3,65,64", help="batch,heads,tokens,head_dim")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    shape = [int(size) for size in arguments.shape.split(",")]
    for dtype in arguments.dtypes.split(","):
        q, k, v = (
            torch.randn(shape, device=arguments.device, dtype=getattr(torch, dtype))
            for _ in range(3)
        )
        for tensor in (q, k, v):
            tensor.requires_grad_()
        upstream = torch.randn_like(q)
        # Interleaved, so that a disturbance hits every kernel alike.
        times: dict[str, list[float]] = {name: [] for name in KERNELS}
        for repeat in range(arguments.repeats + 3):
            for name, kernel in KERNELS.items():
                start = time.perf_counter()
                torch.autograd.grad(kernel(q, k, v), (q, k, v), upstream)
                if arguments.device != "cpu":
                    torch.accelerator.synchronize()
                if repeat >= 3:  # the first ones warm up
                    times[name].append(1e3 * (time.perf_counter() - start))
        for name, measured in times.items():
            median, lowest = sorted(measured)[len(measured) // 2], min(measured)
            print(f"{dtype:10} {name:8} median {median:8.2f} ms  lowest {lowest:8.2f} ms")


if __name__ == "__main__":
    main()
