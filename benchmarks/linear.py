"""Time a dense layer against torch's, forward and backward, under bf16 autocast on the CPU.

scripts/bench linear --shape 32768,96,384
OMP_NUM_THREADS=1 scripts/bench linear --cpu-time    for a machine that others use too
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from vtrain.layers.linear import Linear, column_sums, weight_gradient

SHAPES = "32768,96,384 32768,384,96 8192,192,768 2048,384,1536 512,768,3072 8320,192,576"


def main() -> None:
    """Print the median time of each part for each shape, and how much faster vtrain's is."""
    parser = argparse.ArgumentParser("scripts/bench linear", description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default=SHAPES, help="rows,inputs,outputs, any number of them")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds, not wall time")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    print(f"{'rows, inputs, outputs':24}{'part':22}{'torch':>10}{'vtrain':>10}{'ratio':>8}")
    for shape in options.shape.split():
        rows, inputs, outputs = map(int, shape.split(","))
        for part, (theirs, ours) in parts(rows, inputs, outputs).items():
            times = in_turns([theirs, ours], options.repeats, clock)
            paired = median(a / b for a, b in zip(*times, strict=True))
            a, b = (f"{1e3 * median(t):7.2f} ms" for t in times)
            print(f"{shape.replace(',', ', '):24}{part:22}{a}{b}{paired:8.2f}")


def parts(rows: int, inputs: int, outputs: int) -> dict[str, tuple[Callable[[], object], ...]]:
    """Return torch's and vtrain's way to do each part of a layer and the whole of it."""
    torchs, vtrains = torch.nn.Linear(inputs, outputs), Linear(inputs, outputs)
    x = torch.randn(rows, inputs, dtype=torch.bfloat16, requires_grad=True)
    upstream = torch.randn(rows, outputs, dtype=torch.bfloat16)

    def forward(layer: torch.nn.Module) -> Tensor:
        # Autocast casts weights in each call, as in training; the layers are (rows, inputs) in.
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = layer(x)
        return out

    def both(layer: torch.nn.Module) -> None:
        torch.autograd.grad(forward(layer), [x, *layer.parameters()], upstream)

    # (rows, inputs) and (rows, outputs): the gradient of the weight is (outputs, inputs).
    values = x.detach()
    return {
        "forward": (lambda: forward(torchs), lambda: forward(vtrains)),
        "gradient of weight": (
            lambda: upstream.t() @ values,
            lambda: weight_gradient(upstream, values),
        ),
        "gradient of bias": (lambda: upstream.sum(0), lambda: column_sums(upstream)),
        "forward and backward": (lambda: both(torchs), lambda: both(vtrains)),
    }


def in_turns(
    calls: list[Callable[[], object]], repeats: int, clock: Callable[[], float]
) -> list[list[float]]:
    """Time each call in turns, so that a disturbance hits all of them alike."""
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(repeats + 3):
        for call, measured in zip(calls, times, strict=True):
            start = clock()
            call()
            if repeat >= 3:  # the first ones warm up
                measured.append(clock() - start)
    return times


if __name__ == "__main__":
    main()
