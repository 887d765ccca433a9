"""Measure what a report costs: time, memory and size, of 10 and of 1,000 classes.

cifar     10,000 predictions of 10 classes, images of 32 pixels, the model of vit_cifar_small
imagenet  50,000 predictions of 1,000 classes, images of 500 x 375 pixels, a ViT-S/16 at 224

The runs' folders are made up: a training of one step, whose predictions are replaced by random ones
of a model that is right on most images, and whose log is that of a long run. The images are blurred
noise, and only some hundreds of them differ. A report is `vtrain report` as it is typed, the start
of Python with it; `keep` is what writing predictions.npz adds to an evaluation.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from vtrain.config import load_config
from vtrain.report.predictions import Predictions
from vtrain.run.build.data import build_source

DISTINCT = 200
SMALL = "{name: vit_ti, patch_size: 4, embed_dim: 128, depth: 6, num_heads: 4, mlp_ratio: 2}"


@dataclass(frozen=True)
class Case:
    """A run to report on, and what its report may cost."""

    classes: int
    per_class: int
    pixels: tuple[int, int]
    image_size: int
    model: str
    most_seconds: float
    most_bytes: float


CASES = {
    "cifar": Case(10, 1000, (32, 32), 32, SMALL, 30, 3e6),
    "imagenet": Case(1000, 50, (500, 375), 224, "{name: vit_s, patch_size: 16}", 60, 8e6),
}


@dataclass(frozen=True)
class Cost:
    """Of one report."""

    wall: float
    processor: float
    """Seconds of all threads."""
    peak_bytes: int
    page_bytes: int
    twin_bytes: int


def main() -> None:
    """Measure, and print a table and what to write down with it."""
    parser = argparse.ArgumentParser("scripts/bench report", description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", choices=[*CASES], help="default: all of them")
    options = parser.parse_args()
    print("          median of each; in brackets what is allowed")
    print(f"{'case':10}{'wall s':>14}{'processor s':>14}{'keep s':>9}{'peak MB':>10}"
          f"{'page MB':>14}{'json MB':>9}")  # fmt: skip
    for name in [options.case] if options.case else CASES:
        with tempfile.TemporaryDirectory() as folder:
            run, keep = made_up(CASES[name], Path(folder))
            costs = [cost(run) for _ in range(options.repeats)]
        print(line(name, CASES[name], keep, costs))
    print(f"command: {' '.join(sys.argv)}, {os.cpu_count()} cores, "
          f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")  # fmt: skip


def made_up(case: Case, folder: Path) -> tuple[Path, float]:
    """Return the folder of a run with its dataset, and the seconds that keeping predictions took.

    The seconds are of one processor.
    """
    photographs(case, folder)
    config = folder / "made_up.yaml"
    config.write_text(
        f"seed: 0\nmodel: {case.model}\n"
        f"data: {{name: image_folder, root: {folder / 'photos'}, image_size: {case.image_size},"
        " limit: 16}\n"
        "optimizer: {name: adamw, lr: 1e-3}\nschedule: {name: cosine}\n"
        "train: {epochs: 1, max_steps: 1, batch_size: 8}\n"
    )
    run = folder / "run"
    command = [sys.executable, "-m", "vtrain", "fit", str(config), "--run-dir", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    predictions = guessed(run)
    started = time.process_time()
    predictions.save(run / "predictions.npz")
    keep = time.process_time() - started
    rows = [
        {"step": n, "epoch": n / 100, "train/loss": 2 / n, "train/lr": 1e-3,
         "train/images_per_second": 500.0} for n in range(1, 20_000, 10)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run, keep


def photographs(case: Case, folder: Path) -> None:
    """Write some images, and link all others to them."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(DISTINCT):
        height, width = case.pixels[1], case.pixels[0]
        noise = rng.integers(0, 256, (height, width, 3), np.uint8)
        blurred = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(width / 40))
        spread = np.asarray(blurred, float)
        spread = 128 + (spread - 128) * 50 / max(1.0, spread.std())
        files.append(folder / f"{number}.jpg")
        Image.fromarray(spread.clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    for split, count in (("train", 2), ("val", case.per_class)):
        for label in range(case.classes):
            place = folder / "photos" / split / f"class_{label:04d}"
            place.mkdir(parents=True)
            for number in range(count):
                source = files[(label * count + number) % DISTINCT]
                os.link(source, place / f"{number:04d}.jpg")


def guessed(run: Path) -> Predictions:
    """Return predictions of all validation images that are mostly right."""
    whole = Predictions.load(run / "predictions.npz")
    source = build_source(load_config(run / "config.yaml", ["data.limit=null"]))
    samples = source.split("val")
    targets = samples.targets.numpy()
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.standard_normal((len(targets), len(source.classes)), np.float32)
    skill = 4.0 + np.log(len(source.classes))
    logits[np.arange(len(targets)), targets] += skill * rng.random(len(targets), np.float32)
    names = tuple(samples.name(index) for index in range(len(targets)))
    return Predictions(logits, targets, names, tuple(source.classes), whole.about)


def cost(run: Path) -> Cost:
    """Report on a run in a process of its own."""
    page = run.with_name("page.html")
    command = [sys.executable, "-m", "vtrain", "report", str(run), "--output", str(page), "--force"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        said = child.stderr.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(said)
    return Cost(
        time.perf_counter() - started,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        page.stat().st_size,
        page.with_suffix(".json").stat().st_size,
    )


def line(name: str, case: Case, keep: float, costs: list[Cost]) -> str:
    """Return a row of the table."""

    def middle(field: str) -> float:
        return statistics.median(getattr(one, field) for one in costs)

    wall = f"{middle('wall'):.1f} (<{case.most_seconds:.0f})"
    page = f"{middle('page_bytes') / 1e6:.2f} (<{case.most_bytes / 1e6:.0f})"
    return (
        f"{name:10}{wall:>14}{middle('processor'):>14.1f}{keep:>9.3f}"
        f"{middle('peak_bytes') / 1e6:>10.0f}{page:>14}{middle('twin_bytes') / 1e6:>9.2f}"
    )


if __name__ == "__main__":
    main()
