"""Lay out CIFAR-10 with a long tail, as links: the last class has 1 % of the images of the first.

The profile is that of Cao et al. (2019), "Learning Imbalanced Datasets with
Label-Distribution-Aware Margin Loss": of C classes in the order of their names the i-th, counted
from 0, keeps int(n * ratio ** (-i / (C - 1))) of its n training images, drawn by a seed. The test
images stay as they are, as many of each class, so that top-1 on them is balanced accuracy.

`scripts/bench study benchmarks/studies/long_tail.yaml data.root=FOLDER` trains on it.
"""

import argparse
import random
from pathlib import Path

from benchmarks.runs import link


def main() -> None:
    """Lay it out, and print the images of each class."""
    parser = argparse.ArgumentParser(
        "scripts/bench long_tail",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="that is written")
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as folders of images")
    parser.add_argument("--ratio", type=float, default=100.0, help="most images / fewest images")
    parser.add_argument("--seed", type=int, default=0, help="of the images that are kept")
    given = parser.parse_args()
    for name, count in thin_out(given.data, given.folder, given.ratio, given.seed).items():
        print(f"{count:>6} {name}")


def thin_out(data: Path, folder: Path, ratio: float, seed: int) -> dict[str, int]:
    """Link all test images and fewer and fewer training images; return how many of each class."""
    classes = sorted(path.name for path in (data / "train").iterdir())
    draw, counts = random.Random(seed), {}
    for index, name in enumerate(classes):
        link(folder / "test" / name, data / "test" / name)
        # Sorted first: the file system's order would change what is drawn.
        images = sorted((data / "train" / name).iterdir())
        counts[name] = int(len(images) * ratio ** (-index / (len(classes) - 1)))
        for image in draw.sample(images, counts[name]):
            link(folder / "train" / name / image.name, image)
    return counts


if __name__ == "__main__":
    main()
