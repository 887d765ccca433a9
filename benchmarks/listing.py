"""Measure what it costs to list a large folder of images, in turns with an older tree of the code.

A tree is a folder that holds the package `vtrain`. Each turn lists the same folder in a process of
its own. Time is the processor's, which a busy machine does not stretch; memory is what the process
came to hold beyond what it held before.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.trees import Tree
from vtrain.bench.stats import paired_ratio

LIST = """
import json, resource, sys, time
from pathlib import Path
try:
    from vtrain.data.datasets.folder import ImageFolder
except ModuleNotFoundError:  # where it was up to commit 2149f4b
    from vtrain.data.folder import ImageFolder

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, start = peak(), time.process_time()
images = ImageFolder(root=Path(sys.argv[1])).split("train")
print(json.dumps([len(images), time.process_time() - start, peak() - before]))
"""


def main() -> None:
    """Measure, and print a line for each number."""
    parser = argparse.ArgumentParser(
        "scripts/bench listing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--old", type=Path, required=True, metavar="DIR")
    parser.add_argument("--new", type=Path, default=Path(), metavar="DIR", help="default: this one")
    parser.add_argument("--images", type=int, default=100_000, metavar="N")
    parser.add_argument("--classes", type=int, default=100, metavar="N")
    parser.add_argument("--turns", type=int, default=10, metavar="N", help="of each tree")
    given = parser.parse_args()
    trees = [Tree(folder, []) for folder in (given.old, given.new)]
    turns: list[list[list[float]]] = [[], []]
    with TemporaryDirectory(prefix="bench_listing_") as folder:
        root = Path(folder)
        plant(root, given.images, given.classes)
        for number in range(2 * given.turns):
            side = (number + number // 2) % 2  # 0 1, 1 0, 0 1, ...: neither always comes first
            count, *numbers = json.loads(trees[side].run(0, "-c", LIST, str(root)))
            if count != given.images:
                raise SystemExit(f"found {count} of {given.images} images")
            turns[side].append(numbers)
    for index, name in enumerate(("seconds", "MiB")):
        old, new = ([numbers[index] for numbers in side] for side in turns)
        ratio = paired_ratio(new, old) if min(old) > 0 else "no ratio"
        print(f"{name:8} old {median(old):.3f}  new {median(new):.3f}  new / old {ratio}")


def plant(root: Path, images: int, classes: int) -> None:
    """Write empty files that are called like images: nothing but names is looked at."""
    for label in range(classes):
        (root / f"{label:04}").mkdir()
    for number in range(images):
        (root / f"{number % classes:04}" / f"{number:07}.jpg").touch()


if __name__ == "__main__":
    main()
