"""Compare exported ONNX files with their checkpoint: start, images per second, accuracy, size.

start      `vtrain predict` of one photograph, the whole process, by the file and by the checkpoint
folder     the same of a thousand photographs
rounded    of a run with its data: what --half and --int8 change in accuracy, size and speed

What is compared takes turns, A B, B A, ..., and a ratio is the median over pairs with its interval.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.serve import photographs, untrained
from vtrain.bench.stats import Ratio, paired_ratio, summarise

GOALS = {"start": "at most 0.35 of the time", "folder": "at least 1.3 x the images per second"}
ROUNDINGS: dict[str, list[str]] = {"fp32": [], "half": ["--half"], "int8": ["--int8"]}


def main() -> int:
    """Measure, and print a table and what to write down with it."""
    parser = argparse.ArgumentParser(
        "scripts/bench predict_onnx", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("run", type=Path, nargs="?", help="default: a new vit_s at 224 pixels")
    parser.add_argument("overrides", nargs="*", help="where the run's data are: data.root=...")
    parser.add_argument("--parts", nargs="+", choices=["start", "folder", "rounded"],
                        help="default: start and folder; with a run all")  # fmt: skip
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=10)
    given = parser.parse_intermixed_args()
    parts = given.parts or ["start", "folder", *["rounded"] * (given.run is not None)]
    if "rounded" in parts and given.run is None:
        parser.error("rounded needs a trained run: name its folder")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = given.run or untrained(folder, "vit_s", 224)
        count = given.photographs if {"folder", "rounded"} & set(parts) else 1
        paths = photographs(folder, count)
        if {"start", "folder"} & set(parts):
            file = export(run, folder / "fp32", [], given.overrides)
            for part in [one for one in parts if one != "rounded"]:
                images = paths[0] if part == "start" else paths[0].parent
                compare(part, images, file, run, given.turns, count)
        if "rounded" in parts:
            rounded(run, paths[0].parent, folder, given.overrides, given.turns)
    print(f"command: {' '.join(sys.argv)}, {os.cpu_count()} cores, torch {torch.__version__}, "
          f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")  # fmt: skip
    return 0


class NotTheModel(Exception):  # noqa: N818 - it is an outcome
    """A rounded file differs too much from its model, and was not written."""


def vtrain(*arguments: object) -> str:
    """Run a command to its end; return its output."""
    command = [sys.executable, "-m", "vtrain", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "the file is not the model" in done.stderr:
        raise NotTheModel(done.stderr.splitlines()[-1])
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def export(run: Path, folder: Path, rounding: Sequence[str], overrides: Sequence[str]) -> Path:
    """Write a run's model as an ONNX file of its own folder."""
    file = folder / "model.onnx"
    print(vtrain("export", run, "--output", file, *rounding, *overrides).splitlines()[1])
    return file


def seconds(images: Path, ckpt: Path) -> float:
    """Return how long `vtrain predict` takes, the start of Python with it."""
    began = time.perf_counter()
    vtrain("predict", images, "--ckpt", ckpt, "--format", "jsonl")
    return time.perf_counter() - began


def in_turns(images: Path, ckpts: Sequence[Path], turns: int) -> list[list[float]]:
    """Return the seconds of each checkpoint or file, turn by turn, every other turn backwards."""
    found: list[list[float]] = [[] for _ in ckpts]
    for turn in range(turns):
        order = range(len(ckpts)) if turn % 2 else reversed(range(len(ckpts)))
        for place in order:
            found[place].append(seconds(images, ckpts[place]))
    return found


def compare(part: str, images: Path, file: Path, run: Path, turns: int, count: int) -> Ratio:
    """Time the file and the checkpoint, and print both with their ratio."""
    by_file, by_checkpoint = in_turns(images, [file, run], turns)
    for name, took in (("ONNX file", by_file), ("checkpoint", by_checkpoint)):
        one = summarise(took)
        print(f"{part:8}{name:>12}  {one.median:7.2f} s  {one.low:.2f} to {one.high:.2f}")
    if part == "start":
        ratio, what = paired_ratio(by_file, by_checkpoint), "time of the file / of the checkpoint"
    else:
        # As many images each: the rates have the inverse ratio of the times.
        ratio = paired_ratio(by_checkpoint, by_file)
        what = f"images per second of {count}, file / checkpoint"
    print(f"{part:8}{what}: {ratio} ({GOALS[part]} is wanted)")
    return ratio


def rounded(
    run: Path, images: Path, folder: Path, overrides: Sequence[str], turns: int
) -> list[dict[str, float]]:
    """Print accuracy, size and speed of each rounding; the speed as a ratio to the file of fp32."""
    files = {}
    for name, options in ROUNDINGS.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        try:
            files[name] = export(run, folder / name, options, overrides)
        except NotTheModel as refused:
            print(f"{name:10}{refused}")
    took = dict(zip(files, in_turns(images, list(files.values()), turns), strict=True))
    rows = []
    print(f"{'rounding':10}{'val/top1':>10}{'MB':>9}   images per second / those of fp32")
    for name, file in files.items():
        top1 = json.loads(vtrain("eval", "--ckpt", file, "--json", *overrides))["val/top1"]
        size = file.stat().st_size / 1e6
        ratio = paired_ratio(took["fp32"], took[name])
        print(f"{name:10}{top1:10.4f}{size:9.2f}   {ratio}")
        rows.append({"top1": top1, "size": size, "ratio": ratio.median})
    return rows


if __name__ == "__main__":
    sys.exit(main())
