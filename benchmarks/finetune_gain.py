"""Measure what fine-tuning gains: train on half of the classes, then on few images of the others.

pretrained  configs/vit_cifar_small.yaml on the first half of the classes, in the order of the names
fine-tuned  configs/vit_cifar_finetune.yaml from it, on some images of each class of the second half
scratch     the same recipe on the same images from random weights, with nothing frozen and one rate

All three are trained anew for each seed, which also draws the images. The figures are the top-1 of
the last epoch on all test images of the second half. A measurement that was stopped goes on when
the command is given again.

With `--by timm` the first training is timm's, made once, and the others start from the very file
that timm's own saver wrote (`model_best.pth.tar`), with the mean and std that vtrain finds for it.
"""

import argparse
import json
import os
import random
import statistics
import sys
from pathlib import Path

from benchmarks.runs import fit, link
from benchmarks.timm_training import timm_file

SCRATCH = ("model.pretrained=null", "model.freeze=null", "optimizer.layer_decay=null")


def main() -> None:
    """Measure, and print a table and what to write down with it."""
    parser = argparse.ArgumentParser(
        "scripts/bench finetune_gain", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("VTRAIN_CIFAR10"))
    parser.add_argument("--output", type=Path, default=Path("runs/finetune_gain"))
    parser.add_argument("--seeds", type=int, default=3, help="repetitions")
    parser.add_argument("--images", type=int, default=100, help="training images of each new class")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the first training")
    parser.add_argument("--by", choices=("vtrain", "timm"), default="vtrain", help="who is first")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every run")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of photographs by --data or VTRAIN_CIFAR10")
    rows = [measured(seed, options) for seed in range(options.seeds)]
    print(f"{'seed':>8}  {'fine-tuned':>10}  {'scratch':>10}  {'gain':>10}")
    for seed, (tuned, scratch) in enumerate(rows):
        print(f"{seed:>8}  {tuned:10.2%}  {scratch:10.2%}  {100 * (tuned - scratch):10.2f}")
    gains = [100 * (tuned - scratch) for tuned, scratch in rows]
    columns = [*map(list, zip(*rows, strict=True))]
    means = [f"{statistics.mean(column):10.2%}" for column in columns]
    print(f"{'mean':>8}  {'  '.join(means)}  {statistics.mean(gains):10.2f}")
    if len(rows) > 1:
        print(f"{'std':>8}  {'':22}  {statistics.stdev(gains):10.2f}")
    print(f"command: {' '.join(sys.argv)}")
    print(f"environment: {options.output}/*/*/env.json")


def measured(seed: int, options: argparse.Namespace) -> tuple[float, float]:
    """Return the top-1 of fine-tuning and of training from scratch."""
    folder = options.output / f"seed_{seed}"
    old, new = halves(options.data, folder, options.images, seed)
    common = (f"seed={seed}", "data.follow_links=true", *options.overrides)
    if options.by == "timm":
        start = timm_file(old / "train", options.output / "timm", options.epochs)
    else:
        # The links lead out of the root, which a dataset must allow.
        first = (f"data.root={old}", f"train.epochs={options.epochs}", *common)
        trained("vit_cifar_small", folder / "pretrained", *first)
        # The last checkpoint, not the best: the choice must not depend on test images.
        start = folder / "pretrained" / "last.pt"
    more = (f"data.root={new}", *common)
    weights = f"model.pretrained={start}"
    tuned = trained("vit_cifar_finetune", folder / "finetuned", weights, *more)
    return tuned, trained("vit_cifar_finetune", folder / "scratch", *SCRATCH, *more)


def halves(data: Path, folder: Path, images: int, seed: int) -> tuple[Path, Path]:
    """Lay out two datasets of links: the first classes, and the others with few training images."""
    classes = sorted(path.name for path in (data / "train").iterdir())
    draw, middle = random.Random(seed), len(classes) // 2
    old, new = folder / "old_classes", folder / "new_classes"
    for name in classes[:middle]:
        link(old / "train" / name, data / "train" / name)
        link(old / "test" / name, data / "test" / name)
    for name in classes[middle:]:
        link(new / "test" / name, data / "test" / name)
        # Sorted first: the file system's order would change what is drawn.
        for path in draw.sample(sorted((data / "train" / name).iterdir()), images):
            link(new / "train" / name / path.name, path)
    return old, new


def trained(config: str, run: Path, *overrides: str) -> float:
    """Train, or go on with it, and return the top-1 of the last evaluation."""
    fit(f"configs/{config}.yaml", run, *overrides)
    top1: float = json.loads((run / "summary.json").read_text())["final"]["val/top1"]
    return top1


if __name__ == "__main__":
    main()
