"""Measure what maps cost: seconds of each method for CIFAR-10 photographs, memory of a ViT-B/16.

Weights are new: what is computed does not depend on them. Seconds are of the maps of all images, in
batches as `vtrain explain` takes them, and, in the last column, of drawing a picture of each. The
peak is that of a process of its own, torch and all, that explains as many images of 224 pixels as
are taken at once.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vtrain.config import load_config
from vtrain.explain.draw import Panel, Subject, picture
from vtrain.explain.methods import METHODS, Request, images_at_once
from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS
from vtrain.run.build.model import build_model

RECIPES = ("vit_ti_cifar", "tnt_ti_cifar", "swin_t_cifar")
MOST_BYTES = 2e9


def main() -> None:
    """Measure, and print a row for each model."""
    parser = argparse.ArgumentParser(
        "scripts/bench explain", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--root", type=Path, help="CIFAR-10 as folders; default: VTRAIN_CIFAR10")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--recipe", choices=RECIPES, help="default: all of them")
    parser.add_argument("--peak-of", choices=[*METHODS], help="explain once, and print the peak")
    given = parser.parse_args()
    if given.peak_of:
        print(peak_bytes(given.peak_of))
        return
    photographs = read(given.root, given.images)
    print(f"seconds for {len(photographs)} images, median of {given.repeats}")
    print(f"{'model':14}" + "".join(f"{name:>11}" for name in (*METHODS, "pictures")))
    for recipe in [given.recipe] if given.recipe else RECIPES:
        print(
            f"{recipe:14}"
            + "".join(f"{s:11.2f}" for s in seconds(recipe, photographs, given.repeats))
        )
    print(f"peak MB of vit_b, patch 16, 224 pixels (allowed: {MOST_BYTES / 1e6:.0f})")
    print(
        f"{'vit_b':14}" + "".join(f"{peak / 1e6:11.0f}" for peak in map(peak_in_process, METHODS))
    )
    print(f"command: {' '.join(sys.argv)}, {os.cpu_count()} cores, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip


def read(root: Path | None, count: int) -> list[Image.Image]:
    """Return test images of CIFAR-10, of all classes in turn."""
    folder = root or Path(os.environ.get("VTRAIN_CIFAR10", "data/cifar10"))
    classes = sorted((folder / "test").glob("*/"))
    if not classes:
        raise SystemExit(f"{folder} holds no test/<class>/: name CIFAR-10 with --root")
    each = [sorted(one.iterdir()) for one in classes]
    paths = [path for row in zip(*each, strict=False) for path in row][:count]
    return [Image.open(path).convert("RGB") for path in paths]


def seconds(recipe: str, photographs: list[Image.Image], repeats: int) -> list[float]:
    """Return the seconds of each method, and of drawing."""
    config = load_config(Path("configs") / f"{recipe}.yaml")
    model = build_model(config, 10).eval()
    images = torch.stack([pixels(one) for one in photographs])
    found = [timed(lambda: maps(model, images, method), repeats) for method in METHODS]  # noqa: B023
    values = maps(model, images, "rollout")
    names = [("class", 0.1)] * 5

    def draw() -> None:
        for image, one in zip(photographs, values, strict=True):
            box = (0.0, 0.0, float(image.width), float(image.height))
            picture(Subject("name.jpg", image, box, names, [Panel("rollout", one.numpy())]))

    return [*found, timed(draw, repeats)]


def pixels(image: Image.Image) -> Tensor:
    """Return an image roughly normalised. Shape: -> (3, height, width)."""
    whole = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return whole.view(image.height, image.width, 3).permute(2, 0, 1) / 127.5 - 1


def maps(model: ImageClassifier, images: Tensor, method: str) -> Tensor:
    """Return the first map of each image, as `vtrain explain` makes them."""
    found = []
    for some in images.split(images_at_once(model, *images.shape[2:])):  # type: ignore[no-untyped-call]
        request = Request(torch.zeros(len(some), 1, dtype=torch.int64))
        found.append(METHODS[method].function(model, some, request)[0].values.detach())
    return torch.cat(found)


def timed(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of some work."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def peak_in_process(method: str) -> int:
    """Return the peak of memory of a process that explains with a method, in bytes."""
    command = [sys.executable, "-m", "benchmarks.explain", "--peak-of", method]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def peak_bytes(method: str) -> int:
    """Explain a batch with a ViT-B/16 at 224 pixels, and return this process's peak of memory."""
    model: ImageClassifier = MODELS["vit_b"](num_classes=1000, image_size=224, patch_size=16).eval()
    maps(model, torch.randn(images_at_once(model, 224, 224), 3, 224, 224), method)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
