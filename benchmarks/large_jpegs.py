"""Measure how fast large JPEGs are decoded on a smaller scale, and how near that is to in full.

Both arms run `vtrain`'s own decoder and geometry in one thread; one has `data.reducing_gap: null`.
They alternate within each round. Speeds are images per second of processor time, medians over the
rounds; differences are grey levels of the results, over all images and channels. Without `--data`
the photographs are made: smooth shapes, edges and noise at every scale, saved as cameras do (4:2:0,
quality 90). `--assert-ratio` exits with 1 below the goals.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry
from vtrain.files.images import read_image

SPEED_GOAL, DIFFERENCE_GOAL = 2.5, 2.0
"""Times as many images a second for evaluation of 4,000 x 3,000 pixels, and grey levels (mean)."""
OCTAVES = 9
Arm = Callable[[Path, int], Tensor]


def main() -> int:
    """Run both arms and print the table."""
    parser = argparse.ArgumentParser(
        "scripts/bench large_jpegs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of JPEGs, searched in depth")
    parser.add_argument("--size", type=int, nargs=2, default=(4000, 3000), metavar=("W", "H"))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--assert-ratio", action="store_true", help="exit 1 below the goals")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = chosen(given, Path(folder))
        print(
            f"machine  {platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f} "
            f"| torch {torch.__version__}, Pillow {PIL.__version__} | {len(paths)} images to "
            f"{given.image_size} px, {given.rounds} rounds"
        )
        head = f"{'images/s':22}{'in full':>9}{'reduced':>9}{'ratio':>7}{'range':>11}"
        print(f"{head}{'mean level':>12}{'worst image':>13}{'most':>6}")
        return max(
            measure(name, paths, *arms(name, given.image_size), given)
            for name in ("evaluation", "random resized crop")
        )


def arms(name: str, size: int) -> tuple[Arm, Arm]:
    """Return what prepares an image with all of its pixels, and with those that are needed."""

    def arm(preprocess: Preprocess) -> Arm:
        crop = TrainGeometry(preprocess, 0, (0.08, 1.0), (3 / 4, 4 / 3))
        if name == "evaluation":
            return lambda path, epoch: preprocess(read_image(path))
        return lambda path, epoch: crop(read_image(path), 0, epoch)

    # 0.875: where the centre is cut out of a larger one, as in the published evaluations.
    return (
        arm(Preprocess(size, crop_fraction=0.875, reducing_gap=None)),
        arm(Preprocess(size, crop_fraction=0.875)),
    )


def measure(
    name: str, paths: list[Path], full: Arm, reduced: Arm, given: argparse.Namespace
) -> int:
    """Time both arms in turns, print a row, and return 1 below a goal."""
    speeds: list[tuple[float, float]] = []
    means, most = [], 0
    for round_ in range(given.rounds):
        taken, results = {}, {}
        for arm in (full, reduced) if round_ % 2 else (reduced, full):
            started = time.process_time()
            results[arm] = [arm(path, round_) for path in paths]
            taken[arm] = time.process_time() - started
        speeds.append((len(paths) / taken[full], len(paths) / taken[reduced]))
        for one, other in zip(results[full], results[reduced], strict=True):
            apart = (one.int() - other.int()).abs()
            means.append(float(apart.float().mean()))
            most = max(most, int(apart.max()))
    ratios = [fast / slow for slow, fast in speeds]
    ratio, mean = statistics.median(ratios), statistics.mean(means)
    slow, fast = (statistics.median(column) for column in zip(*speeds, strict=True))
    spread = f"{min(ratios):.1f}-{max(ratios):.1f}"
    print(
        f"{name:22}{slow:9,.1f}{fast:9,.1f}{ratio:7.1f}{spread:>11}"
        f"{mean:12.2f}{max(means):13.2f}{most:6}"
    )
    goal = SPEED_GOAL if name == "evaluation" else 1.0
    return int(given.assert_ratio and (ratio < goal or max(means) > DIFFERENCE_GOAL))


def chosen(given: argparse.Namespace, folder: Path) -> list[Path]:
    """Return the files: evenly from a folder of JPEGs, or photographs made in `folder`."""
    if given.data is None:
        return [photograph(folder / f"{i}.jpg", *given.size, seed=i) for i in range(given.images)]
    paths = sorted(p for p in given.data.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        sys.exit(f"{given.data} has no .jpg files")
    return [paths[i * len(paths) // given.images] for i in range(given.images)]


def photograph(path: Path, width: int, height: int, seed: int) -> Path:
    """Write a picture whose detail falls with its size as that of photographs does, with edges."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    for octave in range(OCTAVES):
        few = max(2, height >> octave), max(2, width >> octave)
        for channel in range(3):
            noise = Image.fromarray(random.normal(0, 1, few).astype(np.float32))
            # 1 / f: an octave of twice the size has twice the contrast.
            pixels[..., channel] += 2.0 ** (octave - OCTAVES) * np.asarray(
                noise.resize((width, height), Image.Resampling.BICUBIC)
            )
    # Flat shapes in front of it: their edges are the sharpest that there are.
    for _ in range(20):
        left, top = random.integers(0, (width, height))
        across, down = random.integers(1, (width // 4 + 2, height // 4 + 2))
        pixels[top : top + down, left : left + across] = random.normal(0, 1, 3)
    grey = (127 + 64 * pixels).clip(0, 255).astype(np.uint8)
    Image.fromarray(grey).save(path, quality=90, subsampling="4:2:0")
    return path


if __name__ == "__main__":
    sys.exit(main())
