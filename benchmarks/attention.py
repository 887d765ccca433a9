"""Time each attention kernel, forward and backward."""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vtrain.layers.attention import (
    _RecomputedSelfAttention,
    _SelfAttention,
    attend_plainly,
    self_attend,
)


def by_heads(attend: Callable[..., Tensor]) -> Callable[[Tensor, int], Tensor]:
    """Return a kernel of queries, keys and values as one of projections that lie side by side."""

    def attend_packed(qkv: Tensor, heads: int) -> Tensor:
        # (B, N, 3 H d) -> three of (B, H, N, d)
        q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        return attend(q, k, v).transpose(1, 2).flatten(2)

    return attend_packed


KERNELS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "chosen": self_attend,
    "plain": by_heads(attend_plainly),
    "fused": by_heads(F.scaled_dot_product_attention),
    "one step, weights kept": lambda qkv, heads: _SelfAttention.apply(qkv, heads, None, None),
    "one step, computed again": lambda qkv, heads: _RecomputedSelfAttention.apply(
        qkv, heads, None, None
    ),
}


def main() -> None:
    """Print the median and the lowest time of each kernel for each dtype."""
    parser = argparse.ArgumentParser("scripts/bench attention", description=__doc__)
    parser.add_argument("--shape", default="128,3,65,64", help="batch,heads,tokens,head_dim")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    batch, heads, tokens, head_dim = (int(size) for size in arguments.shape.split(","))
    for dtype in arguments.dtypes.split(","):
        qkv = torch.randn(batch, tokens, 3 * heads * head_dim, device=arguments.device)
        qkv = qkv.to(getattr(torch, dtype)).requires_grad_()
        upstream = torch.randn_like(qkv[:, :, : heads * head_dim])
        # Interleaved, so that a disturbance hits every kernel alike.
        times: dict[str, list[float]] = {name: [] for name in KERNELS}
        for repeat in range(arguments.repeats + 3):
            for name, kernel in KERNELS.items():
                start = time.perf_counter()
                torch.autograd.grad(kernel(qkv, heads), qkv, upstream)
                if arguments.device != "cpu":
                    torch.accelerator.synchronize()
                if repeat >= 3:  # the first ones warm up
                    times[name].append(1e3 * (time.perf_counter() - start))
        for name, measured in times.items():
            median, lowest = sorted(measured)[len(measured) // 2], min(measured)
            print(f"{dtype:10} {name:24} median {median:8.2f} ms  lowest {lowest:8.2f} ms")


if __name__ == "__main__":
    main()
