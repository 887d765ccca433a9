"""Measure vtrain's augmentation against torchvision's v2 pipeline on Pillow images.

Batches: both get decoded images in memory and end with normalised floats. torchvision runs in one
process per core and keeps its results, which spares it the way to the main process; vtrain runs in
one process with as many threads. JPEG: both run in one process per core and read files; vtrain ends
with bytes, because the rest happens on the device.

The arms alternate within each round; the table has the medians over the rounds, and the median and
the range of the paired ratios. With `--cpu-time` each has one thread and CPU seconds are counted:
for a machine that others use too. `--assert-ratio` exits with 1 below the goals.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from vtrain.data.augment.augment import Augment
from vtrain.data.augment.colour import Colour
from vtrain.data.augment.crop_flip import CropFlip
from vtrain.data.augment.erasing import Erasing
from vtrain.data.augment.policies import AugMix, AutoAugment, RandAugment, TrivialAugmentWide
from vtrain.data.geometry import Interpolation
from vtrain.data.preprocess import Preprocess
from vtrain.files.images import read_image

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
JPEG = "JPEG 500x375, crop to 224"


@dataclass(frozen=True)
class Arm:
    """One pipeline: the keys of `augment`, and torchvision's transforms of image and tensor."""

    keys: dict[str, Any] = field(default_factory=dict)
    on_image: tuple[Any, ...] = ()
    on_tensor: tuple[Any, ...] = ()
    goal: float | None = None


ARMS = {
    "pad-crop, flip": Arm(goal=15.0),
    "+ RandAugment, erasing": Arm(
        {"policy": RandAugment(), "erasing": 0.25},
        (v2.RandAugment(),),
        (v2.RandomErasing(0.25),),
        goal=5.0,
    ),
    "+ TrivialAugmentWide": Arm({"policy": TrivialAugmentWide()}, (v2.TrivialAugmentWide(),)),
    "+ AutoAugment (CIFAR)": Arm(
        {"policy": AutoAugment(dataset="cifar10")},
        (v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),),
    ),
    "+ AugMix": Arm({"policy": AugMix()}, (v2.AugMix(),)),
    "+ colour jitter": Arm(
        {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}, (v2.ColorJitter(0.4, 0.4, 0.4),)
    ),
    JPEG: Arm({"crop": "resized"}, goal=1.5),
}
images: list[Image.Image] = []  # the processes inherit both
files: list[Path] = []


def main() -> int:
    """Run all arms and print the table."""
    parser = argparse.ArgumentParser(
        "scripts/bench augment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of images, searched in depth")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=8, help="batches in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cpu-time", action="store_true", help="one thread, CPU seconds")
    parser.add_argument("--assert-ratio", action="store_true", help="exit 1 below the goals")
    given = parser.parse_args()
    given.threads = 1 if given.cpu_time else given.threads
    images.extend(read(given.data, given.image_size, given.batch_size * given.batches))
    # Before the fork, which hands the number on; after it this process takes its threads back.
    torch.set_num_threads(1)  # in the processes that start now
    with tempfile.TemporaryDirectory() as folder:
        files.extend(write_jpegs(Path(folder), 64))
        with multiprocessing.get_context("fork").Pool(given.threads) as pool:
            torch.set_num_threads(given.threads)
            print(
                f"machine  {platform.processor() or platform.machine()}, {given.threads} threads, "
                f"load {os.getloadavg()[0]:.1f} | torch {torch.__version__} | {len(images)} "
                f"images of {given.image_size} px, batches of {given.batch_size}"
            )
            print(
                f"{'images/s':28}{'torchvision':>12}{'vtrain':>10}{'ratio':>8}{'range':>14}{'goal':>6}"
            )
            return max(measure(name, pool, given) for name in ARMS)


def read(folder: Path | None, size: int, count: int) -> list[Image.Image]:
    """Return `count` images of size x size: evenly from a folder, or smooth noise."""
    if folder is None:
        noise = np.random.default_rng(0).integers(0, 256, (count, 7, 7, 3), dtype=np.uint8)
        return [Image.fromarray(x).resize((size, size), Image.Resampling.BICUBIC) for x in noise]
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        sys.exit(f"{folder} has no .jpg or .png files")
    # Evenly from the sorted list: images of every class.
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    return [read_image(path).resize((size, size)) for path in chosen]


def write_jpegs(folder: Path, count: int) -> list[Path]:
    """Write images of ImageNet's usual size, about 65 kB each."""
    random, paths = np.random.default_rng(0), []
    for i in range(count):
        # Noise at two scales compresses about as badly as a photograph does.
        coarse = Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        smooth = np.array(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float64)
        noisy = (smooth + random.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{i}.jpg")
        Image.fromarray(noisy).save(paths[-1], quality=90)
    return paths


def measure(name: str, pool: Any, given: argparse.Namespace) -> int:
    """Time both arms of one pipeline in turns, print a row, and return 1 below the goal."""
    if name == JPEG:
        count = len(files)
        theirs, ours = (in_processes(f, pool, given, count) for f in (their_jpegs, our_jpegs))
    else:
        count = len(images)
        theirs, ours = in_processes(their_images, pool, given, count, name), batches(name, given)
    # Seconds of this process alone: with --cpu-time both arms run here, in one thread.
    clock = time.process_time if given.cpu_time else time.perf_counter
    speeds: list[tuple[float, float]] = []
    for round_ in range(given.rounds + 1):
        taken = {}
        # The order changes from round to round, so that neither always follows the other.
        for arm in (theirs, ours) if round_ % 2 else (ours, theirs):
            started = clock()
            arm(round_)
            taken[arm] = clock() - started
        speeds.append((count / taken[theirs], count / taken[ours]))
    speeds = speeds[1:]  # the first round warms up
    ratios = [mine / other for other, mine in speeds]
    ratio, goal = statistics.median(ratios), ARMS[name].goal
    left, right = (statistics.median(column) for column in zip(*speeds, strict=True))
    spread = f"{min(ratios):.1f}-{max(ratios):.1f}"
    print(f"{name:28}{left:12,.0f}{right:10,.0f}{ratio:8.1f}{spread:>14}{goal or '':>6}")
    return int(given.assert_ratio and goal is not None and ratio < goal)


def in_processes(
    function: Callable[..., None], pool: Any, given: argparse.Namespace, count: int, *more: Any
) -> Callable[[int], None]:
    """Return what runs a function of indices on all of them, in every process its part."""
    # Every n-th image: the parts cost the same.
    parts = [range(i, count, given.threads) for i in range(given.threads)]

    def arm(epoch: int) -> None:
        jobs = [(part, epoch, given.image_size, *more) for part in parts]
        if given.cpu_time:
            function(*jobs[0])
        else:
            pool.starmap(function, jobs, 1)

    return arm


def ours(size: int, interpolation: Interpolation = "bicubic", **keys: Any) -> Augment:
    """Return vtrain's augmentation by the keys of its section."""
    erasing = {"erasing": keys.pop("erasing", 0.0)}
    crop = {"crop": keys.pop("crop", "pad")}
    parts = CropFlip(size, interpolation, **crop), Colour(MEAN, **keys), Erasing(0, **erasing)
    return Augment(*parts, MEAN, STD, 0)


def batches(name: str, given: argparse.Namespace) -> Callable[[int], None]:
    """Return what augments all images with vtrain."""
    augment = ours(given.image_size, **ARMS[name].keys)
    array = torch.from_numpy(np.stack([np.array(image) for image in images]))
    array = array.permute(0, 3, 1, 2).contiguous()

    def arm(epoch: int) -> None:
        # A new order in each round, as in training: (B,) indices, (B, 3, H, W) bytes.
        for indices in torch.randperm(len(array)).split(given.batch_size):
            augment(array.index_select(0, indices), indices, epoch)

    return arm


def their_images(indices: range, _: int, size: int, name: str) -> None:
    """Augment some of the images with torchvision."""
    crop = v2.RandomCrop(size, padding=4)
    transform = pipeline(crop, ARMS[name].on_image, ARMS[name].on_tensor)
    for index in indices:
        transform(images[index])


def their_jpegs(indices: range, *_: int) -> None:
    """Read and augment some of the files with torchvision."""
    transform = pipeline(v2.RandomResizedCrop(224))
    for index in indices:
        transform(Image.open(files[index]).convert("RGB"))


def our_jpegs(indices: range, epoch: int, _: int) -> None:
    """Read and crop some of the files with vtrain."""
    preprocess = Preprocess(224, interpolation="bilinear")  # torchvision's default
    augment = ours(224, "bilinear", **ARMS[JPEG].keys)
    geometry = augment.geometry(preprocess)
    for index in indices:
        geometry(read_image(files[index]), index, epoch)


def pipeline(crop: v2.Transform, on_image: Any = (), on_tensor: Any = ()) -> v2.Compose:
    """Return torchvision's pipeline in the order of its reference."""
    to_floats = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose([crop, v2.RandomHorizontalFlip(), *on_image, *to_floats, *on_tensor])


if __name__ == "__main__":
    sys.exit(main())
