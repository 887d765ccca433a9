"""Measure how the cost of training grows, print tables, and plot them.

attention  time of one attention layer, forward and backward, against the tokens of a map. The Swin
           paper (arXiv:2103.14030, equations 1 and 2) counts 4 N C^2 + 2 N^2 C for all tokens with
           all, and 4 N C^2 + 2 M^2 N C in windows of M x M: the exponent should rise towards 2 for
           the first and stay at 1 for the second.
model      time of a whole training step for each image, against the image size
window     time of a window attention layer against the side of the window
batch      images per second and peak memory of a training step, against the batch
processes  images per second of `vtrain fit` in one process and in two
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vtrain.bench.machine import describe_machine, peak_rss, wait
from vtrain.bench.stats import summarise
from vtrain.bench.timing import windows
from vtrain.engine.device import autocast, choose_precision
from vtrain.layers.attention import SelfAttention
from vtrain.layers.windows import WindowPair
from vtrain.models.swin import WindowAttention
from vtrain.registry import MODELS
from vtrain.run.memory import keep_freed_memory

WIDTH, HEADS = 96, 3  # Swin-T's first stage
SIDES, WINDOW = (8, 16, 24, 32, 48, 64), 8
IMAGE_SIZES = {"vit_ti": (64, 128, 192, 256, 320, 384), "swin_t": (56, 112, 168, 224, 280, 336)}
BATCHES = (8, 16, 32, 64, 128, 256)
LARGER = ("model.embed_dim=192", "model.depth=12", "train.epochs=4", "schedule.warmup_epochs=1")
"""Makes the digits' small model one whose gradients are worth sending."""
Rows = list[dict[str, Any]]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        "scripts/bench_scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--what", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number, about")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: processor time on one thread, for a machine that others use too",
    )
    parser.add_argument("--json", metavar="FILE", help="write every number there")
    parser.add_argument("--plot", metavar="FILE", help="draw the curves there")
    parser.add_argument("--one-batch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.clock == "cpu":
        torch.set_num_threads(1)
    keep_freed_memory()
    if options.one_batch:
        print(json.dumps(one_batch(options)))
        return
    machine = describe_machine(torch.device(options.device))
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    results: dict[str, Any] = {"machine": machine, "clock": options.clock}
    for name in options.what:
        results[name] = rows = MEASUREMENTS[name](options)
        print(f"\n{name}")
        for row in rows:
            print("  " + "  ".join(f"{key} {shown(value)}" for key, value in row.items()))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    if options.plot:
        draw(results, Path(options.plot))


def attention(options: argparse.Namespace) -> Rows:
    """Time global and window attention on maps of growing size."""
    rows: Rows = []
    for side in SIDES:
        tokens = side * side
        x = torch.randn(1, side, side, WIDTH, device=options.device)
        everywhere = SelfAttention(WIDTH, HEADS).to(options.device)
        global_ms = milliseconds(everywhere, (x.flatten(1, 2),), options)
        window_ms = in_windows(x, WINDOW, options)
        rows.append({"tokens": tokens, "global ms": global_ms, "windows ms": window_ms})
    for kind in ("global", "windows"):
        slopes = [math.nan]
        for small, large in pairwise(rows):
            grown = math.log(large[f"{kind} ms"] / small[f"{kind} ms"])
            slopes.append(grown / math.log(large["tokens"] / small["tokens"]))
        for row, slope in zip(rows, slopes, strict=True):
            row[f"{kind} exponent"] = slope
    return rows


def in_windows(x: torch.Tensor, side: int, options: argparse.Namespace) -> float:
    """Return the milliseconds of a window attention layer."""
    height = x.shape[1]
    windows_of = WindowPair(height, height, side, shifted=True).to(options.device)
    _plain, shifted = windows_of.of(height, height, x.device)
    layer = WindowAttention(WIDTH, HEADS, side, True).to(options.device)
    return milliseconds(layer, (x, shifted), options)


def window(options: argparse.Namespace) -> Rows:
    """Time window attention on one map, in windows of growing size."""
    x = torch.randn(4, 32, 32, WIDTH, device=options.device)
    return [{"side": side, "ms": in_windows(x, side, options)} for side in (2, 4, 8, 16)]


def model(options: argparse.Namespace) -> Rows:
    """Time a training step for each image, for images of growing size."""
    rows: Rows = []
    for name, sizes in IMAGE_SIZES.items():
        for size in sizes:
            batch = max(1, 8 * 64 * 64 // (size * size))
            step = training_step(name, size, batch, options.device)
            rate = summarise(
                windows(step, options.seconds, torch.device(options.device), clock(options))
            )
            rows.append({"model": name, "image_size": size, "ms per image": 1e3 / rate.median})
    return rows


def batch(options: argparse.Namespace) -> Rows:
    """Measure each batch size in a process of its own, as memory has only one peak in each."""
    rows = []
    for size in BATCHES:
        command = [sys.executable, __file__, "--one-batch", str(size), "--clock", options.clock]
        command += ["--seconds", str(options.seconds), "--device", options.device]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout))
    return rows


def one_batch(options: argparse.Namespace) -> dict[str, Any]:
    """Return speed and memory of one batch size of ViT-Ti/4 at 32 pixels."""
    device, size = torch.device(options.device), options.one_batch
    before = peak_rss()
    step = training_step("vit_ti", 32, size, options.device, patch_size=4)
    rate = summarise(windows(step, options.seconds, device, clock(options))).median
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_rss() - before
    return {"batch": size, "images/s": rate, "peak MiB": peak / 2**20}


def processes(options: argparse.Namespace) -> Rows:
    """Train by the command, one thread in each process, and read the speed from its summary."""
    rows = []
    for count in (1, 2):
        with tempfile.TemporaryDirectory(prefix="bench_scaling_") as folder:
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            launch += [f"--nproc-per-node={count}", "-m", "vtrain"]
            fit = ["fit", "configs/vit_digits.yaml", "--run-dir", f"{folder}/run", *LARGER]
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([*launch, *fit], env=env, check=True, capture_output=True)
            summary = json.loads(Path(folder, "run", "summary.json").read_text())
        rows.append({"processes": count, "images/s": summary["images_per_second"]})
    for row in rows:
        row["efficiency"] = row["images/s"] / rows[0]["images/s"] / row["processes"]
    return rows


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "attention": attention,
    "model": model,
    "window": window,
    "batch": batch,
    "processes": processes,
}


def training_step(
    name: str, image_size: int, batch: int, device: str, **arguments: Any
) -> Callable[[], int]:
    """Return what makes one step of a model and gives the number of images."""
    torch.manual_seed(0)
    net = MODELS[name](num_classes=10, image_size=image_size, **arguments).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, fused=True)
    images = torch.randn(batch, 3, image_size, image_size, device=device)
    targets = torch.randint(10, (batch,), device=device)
    precision = choose_precision("auto", torch.device(device))

    def step() -> int:
        with autocast(torch.device(device), precision):
            loss = nn.functional.cross_entropy(net(images).float(), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return batch

    return step


def milliseconds(layer: nn.Module, inputs: tuple[Any, ...], options: argparse.Namespace) -> float:
    """Return the time of a layer, forward and backward."""
    device = torch.device(options.device)
    precision = choose_precision("auto", device)
    inputs[0].requires_grad_()

    def run() -> int:
        with autocast(device, precision):
            out = layer(*inputs)
        out.backward(torch.ones_like(out))
        return 1

    rate = summarise(windows(run, options.seconds, device, clock(options))).median
    wait(device)
    return 1e3 / rate


def clock(options: argparse.Namespace) -> Callable[[], float]:
    """Return the clock that was asked for."""
    return time.process_time if options.clock == "cpu" else time.perf_counter


def shown(value: object) -> str:
    """Return a value as a short text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw a curve for each measurement."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    axes_of = {
        "attention": [("tokens", "global ms"), ("tokens", "windows ms")],
        "window": [("side", "ms")],
        "batch": [("batch", "images/s"), ("batch", "peak MiB")],
    }
    names = [name for name in ("attention", "model", "window", "batch") if name in results]
    figure, panels = plt.subplots(1, len(names), figsize=(5 * len(names), 4), squeeze=False)
    for name, panel in zip(names, panels[0], strict=True):
        rows = results[name]
        if name == "model":
            for kind in IMAGE_SIZES:
                own = [row for row in rows if row["model"] == kind]
                line(
                    [row["image_size"] ** 2 for row in own],
                    [r["ms per image"] for r in own],
                    kind,
                    panel,
                )
            panel.set_xlabel("pixels of an image")
        for x, y in axes_of.get(name, []):
            line([row[x] for row in rows], [row[y] for row in rows], y, panel)
            panel.set_xlabel(x)
        panel.set_title(name)
        panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def line(x: list[float], y: list[float], label: str, panel: Any) -> None:
    """Draw one curve on logarithmic axes, where a power of x is a straight line."""
    panel.loglog(x, y, marker="o", label=label)
    panel.grid(visible=True, which="both", alpha=0.3)


if __name__ == "__main__":
    main()
