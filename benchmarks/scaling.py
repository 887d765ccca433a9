"""Measure how the cost of training grows, print tables, and plot them.

attention  time of one attention layer, forward and backward, against the tokens of a map. The Swin
           paper (arXiv:2103.14030, equations 1 and 2) counts 4 N C^2 + 2 N^2 C operations for all
           tokens with all, and 4 N C^2 + 2 M^2 N C in windows of M x M
model      time of a training step for each image, against the image size
window     time of a window attention layer against the side of the window
batch      images per second and peak memory of a training step, against the batch
processes  images per second of `vtrain fit` in one process and in two, one thread in each

Where a cost grows with a power of the size, the exponent is fitted to the larger half of the sizes,
where the work outweighs the calls, and stands beside that of the operations counted on paper.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, linear_regression
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.peers.arm import peak_memory
from vtrain.bench.machine import CLEAN, OtherLoad, describe_machine
from vtrain.bench.stats import summarise
from vtrain.bench.timing import in_turns, windows
from vtrain.device import autocast, choose_precision
from vtrain.layers.attention import SelfAttention
from vtrain.layers.windows import WindowPair
from vtrain.models.profile import count_macs
from vtrain.models.swin import WindowAttention
from vtrain.registry import MODELS
from vtrain.resources import keep_freed_memory

WIDTH, HEADS, WINDOW = 96, 3, 8  # Swin-T's first stage, with a window that divides every map
LARGER = ("model.embed_dim=192", "model.depth=12", "train.epochs=4", "schedule.warmup_epochs=1")
"""Makes the digits' small model one whose gradients are worth sending."""
ROUNDS = 3
"""How often what has a process of its own is measured."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """What is measured: on a GPU more at once, or only the cost of launching it would be seen."""

    maps: int
    """Maps in a batch of the attention layers."""
    sides: tuple[int, ...]
    """Tokens per side of a map."""
    window_sides: tuple[int, ...]
    images: dict[str, tuple[int, ...]]
    """Image sizes for each model."""
    least_images: int
    """Images in a step at the largest size; smaller ones come in batches of as many pixels."""
    batches: tuple[int, ...]


SIZES = {
    "cpu": Sizes(
        maps=1,
        sides=(8, 16, 24, 32, 48, 64),
        window_sides=(2, 4, 8, 16, 32),
        images={"vit_ti": (64, 128, 192, 256, 384, 512), "swin_t": (56, 112, 168, 224, 336, 448)},
        least_images=1,
        batches=(8, 16, 32, 64, 128, 256),
    ),
    "cuda": Sizes(
        maps=16,
        sides=(16, 24, 32, 48, 64, 96),
        window_sides=(2, 4, 8, 16, 32),
        images={"vit_ti": (64, 128, 256, 384, 512, 1024), "swin_t": (56, 112, 224, 336, 448, 896)},
        least_images=16,
        batches=(64, 128, 256, 512, 1024, 2048),
    ),
}


@dataclass
class Measurement:
    """The rows of one table, and what they show."""

    rows: list[Row]
    findings: list[str]


def main() -> None:
    """Measure what is asked for."""
    options = parse(sys.argv[1:])
    # As the command does: without it every step would ask the system for its memory again.
    keep_freed_memory()
    if options.one_batch:
        print(json.dumps(one_batch(options)))
        return
    machine = describe_machine(torch.device(options.device))
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    results: dict[str, Any] = {"machine": machine, "clock": options.clock}
    for name in options.what:
        # One share for each measurement: a busy minute marks that one alone.
        other_load = OtherLoad(lambda: sum(os.times()[:4]))
        measured = MEASUREMENTS[name](options)
        others = other_load.share() or 0.0
        results[name] = {**vars(measured), "others_share": others}
        print(f"\n{name}")
        print("\n".join(f"  {line}" for line in [*table(measured.rows), *measured.findings]))
        if others >= CLEAN and options.clock == "wall":
            print(f"  CONTENDED: others used {others:.0%} of the processors; not to be published")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    if options.plot:
        draw(results, Path(options.plot))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line, and refuse at once what would fail in minutes."""
    parser = argparse.ArgumentParser(
        "scripts/bench scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--what", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number, about")
    parser.add_argument(
        "--device", choices=SIZES, default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: processor time on one thread, for a machine that others use too",
    )
    parser.add_argument("--json", metavar="FILE", help="write every number there")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the curves there")
    parser.add_argument("--one-batch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU")
    if options.seconds <= 0:
        parser.error(f"--seconds must be more than 0, not {options.seconds:g}")
    for option, file in (("--json", options.json), ("--plot", options.plot)):
        if file and not Path(file).absolute().parent.is_dir():
            parser.error(f"{option}: there is no folder {Path(file).absolute().parent}")
    if options.plot and Path(options.plot).suffix not in {".png", ".svg", ".pdf"}:
        parser.error(f"--plot: {options.plot} must end in .png, .svg or .pdf")
    # Threads that wait for each other use processor time, too: one thread has no such time.
    if options.clock == "cpu":
        torch.set_num_threads(1)
        if "processes" in options.what:
            print("processes: left out, processor time says nothing about two", file=sys.stderr)
            options.what = [name for name in options.what if name != "processes"]
    return options


def attention(options: argparse.Namespace) -> Measurement:
    """Time global and window attention on maps of growing size."""
    sizes, passes = SIZES[options.device], []
    for side in sizes.sides:
        # (maps, side, side, WIDTH); attention over all tokens sees it as (maps, side^2, WIDTH).
        x = torch.randn(sizes.maps, side, side, WIDTH, device=options.device)
        everywhere = SelfAttention(WIDTH, HEADS).to(options.device)
        passes.append(both_ways(everywhere, (x.flatten(1, 2),), options))
        passes.append(in_windows(x, WINDOW, options))
    # All sizes take turns: a slow minute moves every point of a curve, and bends none.
    times = milliseconds(passes, options)
    tokens = [side * side for side in sizes.sides]
    rows: list[Row] = [
        {"tokens": n, "all ms": global_ms, "windows ms": window_ms}
        for n, global_ms, window_ms in zip(tokens, times[::2], times[1::2], strict=True)
    ]
    findings = []
    for kind, text, others in (
        ("all ms", "all with all", lambda n: n),
        ("windows ms", f"windows of {WINDOW} x {WINDOW}", lambda _n: WINDOW**2),
    ):
        # Equations 1 and 2 of the paper: projections, and products of queries, keys and values.
        work = [4 * n * WIDTH**2 + 2 * n * others(n) * WIDTH for n in tokens]
        findings.append(growth(text, "tokens", tokens, [row[kind] for row in rows], work))
    return Measurement(rows, findings)


def in_windows(x: torch.Tensor, side: int, options: argparse.Namespace) -> Callable[[], int]:
    """Return what passes a map through a window attention layer and back."""
    height = x.shape[1]
    windows_of = WindowPair(height, height, side, shifted=True).to(options.device)
    _plain, shifted = windows_of.for_map(height, height, x.device)
    layer = WindowAttention(WIDTH, HEADS, side, True).to(options.device)
    return both_ways(layer, (x, shifted), options)


def window(options: argparse.Namespace) -> Measurement:
    """Time window attention on one map, in windows of growing size."""
    # (4 maps, 32, 32, WIDTH): every side of a window divides 32.
    x = torch.randn(4 * SIZES[options.device].maps, 32, 32, WIDTH, device=options.device)
    sides = SIZES[options.device].window_sides
    times = milliseconds([in_windows(x, side, options) for side in sides], options)
    return Measurement([{"side": a, "ms": b} for a, b in zip(sides, times, strict=True)], [])


def model(options: argparse.Namespace) -> Measurement:
    """Time a training step for each image, for images of growing size."""
    sizes, rows, findings = SIZES[options.device], [], []
    for name, image_sizes in sizes.images.items():
        steps = []
        for size in image_sizes:
            # As many pixels in each batch, so that small sizes are not measured by launches alone.
            images = int(sizes.least_images * (max(image_sizes) / size) ** 2)
            steps.append(training_step(name, size, images, options.device))
        own: list[Row] = [
            {"model": name, "size": size, "pixels": size**2, "ms per image": ms}
            for size, ms in zip(image_sizes, milliseconds(steps, options), strict=True)
        ]
        pixels = [row["pixels"] for row in own]
        # Counted on paper: shapes without memory.
        with torch.device("meta"):
            work = [
                float(count_macs(MODELS[name](num_classes=10, image_size=size)))
                for size in image_sizes
            ]
        findings.append(growth(name, "pixels", pixels, [row["ms per image"] for row in own], work))
        rows += own
    return Measurement(rows, findings)


def batch(options: argparse.Namespace) -> Measurement:
    """Measure each batch size in a process of its own, as memory has only one peak in each."""

    def measure(size: int) -> Row:
        # The child calls `one_batch`, and prints its row as JSON.
        command = [sys.executable, "-m", "benchmarks.scaling", "--one-batch", str(size)]
        command += ["--clock", options.clock, "--device", options.device]
        command += ["--seconds", str(options.seconds)]
        row: Row = json.loads(output_of(command))
        return row

    rows = medians(measure, SIZES[options.device].batches)
    # A line through the ends: what one image adds, and what is there without any.
    small, large = rows[0], rows[-1]
    share = (large["peak MiB"] - small["peak MiB"]) / (large["batch"] - small["batch"])
    fixed = small["peak MiB"] - share * small["batch"]
    return Measurement(rows, [f"memory: {fixed:.0f} MiB and {share:.2f} MiB for each image"])


def one_batch(options: argparse.Namespace) -> dict[str, Any]:
    """Return speed and memory of one batch size of ViT-Ti/4 at 32 pixels."""
    device, size = torch.device(options.device), options.one_batch
    # What the libraries take is there before the model; on a GPU nothing is.
    before = peak_memory(options.device)
    step = training_step("vit_ti", 32, size, options.device, patch_size=4)
    rate = summarise(windows(step, options.seconds, device, clock(options))).median
    peak = peak_memory(options.device) - before
    return {"batch": size, "images/s": rate, "peak MiB": peak / 2**20}


def processes(options: argparse.Namespace) -> Measurement:
    """Train by the command, one thread in each process, and read the speed from its summary."""
    if options.device == "cpu" and len(os.sched_getaffinity(0)) == 1:
        return Measurement([], ["left out: two processes would share one core"])

    def measure(count: int) -> Row:
        with tempfile.TemporaryDirectory(prefix="bench_scaling_") as folder:
            # By torchrun for one process as well: both counts pay for the same machinery.
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            launch += [f"--nproc-per-node={count}", "-m", "vtrain"]
            fit = ["fit", "configs/vit_digits.yaml", "--run-dir", f"{folder}/run", *LARGER]
            output_of([*launch, *fit, f"train.device={options.device}"], OMP_NUM_THREADS="1")
            summary = json.loads(Path(folder, "run", "summary.json").read_text())
        return {"processes": count, "images/s": summary["images_per_second"]}

    rows = medians(measure, (1, 2))
    for row in rows:
        # 1 means that each process works as fast as one alone.
        row["efficiency"] = row["images/s"] / rows[0]["images/s"] / row["processes"]
    return Measurement(rows, [])


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], Measurement]] = {
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
    # Rate 0: the one batch is not learnt by heart, and its gradients stay what they are.
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


def both_ways(
    layer: nn.Module, inputs: tuple[Any, ...], options: argparse.Namespace
) -> Callable[[], int]:
    """Return what passes inputs through a layer and gradients back."""
    device = torch.device(options.device)
    precision = choose_precision("auto", device)
    # So that the backward pass computes the gradient of the input, as within a model.
    inputs[0].requires_grad_()

    def run() -> int:
        with autocast(device, precision):
            out = layer(*inputs)
        out.backward(torch.ones_like(out))
        return 1

    return run


def milliseconds(works: list[Callable[[], int]], options: argparse.Namespace) -> list[float]:
    """Return the time that each work needs for one of what it counts; they take turns."""
    measured = in_turns(works, options.seconds, torch.device(options.device), clock(options))
    return [1e3 / summarise(rates).median for rates in measured]


def medians(measure: Callable[[int], Row], sizes: Sequence[int]) -> list[Row]:
    """Return the medians of what `measure` finds for each size, in rounds of all sizes."""
    # Rounds of all sizes, not all repetitions of one: a slow minute hits every size.
    rounds = [[measure(size) for size in sizes] for _ in range(ROUNDS)]
    return [
        {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for rows in zip(*rounds, strict=True)
    ]


def clock(options: argparse.Namespace) -> Callable[[], float]:
    """Return the clock that was asked for."""
    return time.process_time if options.clock == "cpu" else time.perf_counter


def output_of(command: list[str], **variables: str) -> str:
    """Run a command and return what it prints.

    Raises:
        SystemExit: It failed; the message ends with its last line.
    """
    env = {**os.environ, **variables}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}: {last}")
    return done.stdout


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the power of `x` with which `y` grows, fitted to the larger half of the points."""
    # The slope of a line through logarithms is the power.
    return linear_regression(*(list(map(math.log, larger_half(values))) for values in (x, y))).slope


def larger_half(values: Sequence[float]) -> Sequence[float]:
    """Return the last half of some values, two at least."""
    return values[min(len(values) // 2, len(values) - 2) :]


def growth(
    what: str, of: str, x: Sequence[float], cost: Sequence[float], work: Sequence[float]
) -> str:
    """Return a line that says how a cost grows beside the operations on paper."""
    return (
        f"{what}: time grows with {of}^{exponent(x, cost):.2f}, "
        f"operations with {of}^{exponent(x, work):.2f} (from {larger_half(x)[0]:,} {of} on)"
    )


def table(rows: list[Row]) -> list[str]:
    """Return rows as lines of text, the names of the columns first."""
    if not rows:
        return []
    cells = [list(rows[0]), *([shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]


def shown(value: object) -> str:
    """Return a value as a short text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


Scale = Literal["power", "doubling", "linear"]
Curves = dict[str, tuple[list[float], list[float]]]


@dataclass
class Panel:
    """One picture of the plot.

    Attributes:
        title: What was measured.
        x: What it is drawn against, with its unit.
        y: What is drawn, with its unit.
        curves: The points of each curve by its name.
        scale: `power`: both axes are logarithmic, and the fitted powers are drawn as well;
            `doubling`: x doubles from mark to mark, and y starts at 0; `linear`: both start at 0.
    """

    title: str
    x: str
    y: str
    curves: Curves
    scale: Scale = "doubling"

    def draw(self, axes: Any) -> None:
        """Draw it."""
        for name, (x, y) in self.curves.items():
            (curve,) = axes.plot(x, y, marker="o", label=name)
            if self.scale == "power":
                # The fitted line goes through the middle of the points, in logarithms.
                slope, fitted = exponent(x, y), larger_half(x)
                ends, centre_x = [fitted[0], fitted[-1]], geometric_mean(fitted)
                fit = [geometric_mean(larger_half(y)) * (end / centre_x) ** slope for end in ends]
                curve.set_label(f"{name}: power {slope:.2f}")
                axes.plot(ends, fit, color="black", linestyle=":", zorder=3)
        axes.set_title(self.title, fontsize=11)
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)
        axes.grid(visible=True, alpha=0.3)
        if self.scale == "power":
            axes.loglog()
            axes.legend()
            return
        axes.set_ylim(bottom=0)
        if self.scale == "linear":
            axes.set_xlim(left=0)
            return
        marks, _ = next(iter(self.curves.values()))
        axes.set_xscale("log", base=2)
        axes.set_xticks(marks, [f"{mark}" for mark in marks])
        axes.minorticks_off()


def panels(results: dict[str, Any]) -> list[Panel]:
    """Return a panel for each thing that was measured."""
    drawn = []

    def rows(name: str) -> list[Row]:
        own: list[Row] = results.get(name, {}).get("rows", [])
        return own

    def points(rows: list[Row], x: str, y: str) -> tuple[list[float], list[float]]:
        return [row[x] for row in rows], [row[y] for row in rows]

    if own := rows("attention"):
        curves = {
            "all tokens with all": points(own, "tokens", "all ms"),
            f"windows of {WINDOW} x {WINDOW}": points(own, "tokens", "windows ms"),
        }
        title = "One attention layer, forward and backward"
        drawn.append(Panel(title, "tokens of a map", "ms", curves, "power"))
    if own := rows("model"):
        curves = {
            name: points([row for row in own if row["model"] == name], "pixels", "ms per image")
            for name in dict.fromkeys(row["model"] for row in own)
        }
        drawn.append(Panel("Training step", "pixels of an image", "ms per image", curves, "power"))
    for name, x, y, title, unit in (
        ("window", "side", "ms", "Window attention on a map of 32 x 32", "tokens per window side"),
        ("batch", "batch", "images/s", "ViT-Ti/4 at 32 px: speed", "images in a batch"),
        ("batch", "batch", "peak MiB", "ViT-Ti/4 at 32 px: peak memory", "images in a batch"),
        ("processes", "processes", "images/s", "vtrain fit, a thread for each", "processes"),
    ):
        if own := rows(name):
            scale: Scale = "linear" if y == "peak MiB" else "doubling"
            drawn.append(Panel(title, unit, y, {name: points(own, x, y)}, scale))
    return drawn


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw every panel into one file, under a line that says where it was measured."""
    # Imported here: tables do not need it. Agg draws without a screen.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    drawn = panels(results)
    columns = min(3, len(drawn)) or 1
    lines = math.ceil(len(drawn) / columns) or 1
    figure, grid = plt.subplots(lines, columns, figsize=(5 * columns, 4 * lines), squeeze=False)
    # The last row of the grid may have places to spare.
    for axes in grid.flat[len(drawn) :]:
        axes.remove()
    for panel, axes in zip(drawn, grid.flat, strict=False):
        panel.draw(axes)
    machine = results["machine"]
    device = machine["processor"] if machine["device"] == "cpu" else machine["device"]
    clock = "wall time" if results["clock"] == "wall" else "processor time"
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    figure.suptitle(f"{device}, {threads}, {clock}, torch {machine['torch']}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
