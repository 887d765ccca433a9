"""Measure everything that a change could have made slower, against an older commit: one table.

Every row asks both trees for the same, in processes of their own and in turns: old, new, new, old.

training      images per second of a whole run on the digits: as it is, beside one busy process, and
              in a control group that allows as much processor time as one core gives
step          images per second of the bare step of 4 blocks of a ViT-Ti/4 at 32 pixels, in fp32 and
              in bf16 where the processor computes it fast; predict and eval take the same model
predict       whole processes: small JPEGs, photographs of 12 megapixels, and one photograph
eval          the whole process over images as small
first step    seconds from the start of `vtrain fit` on the digits to the row of its first step
listing       processor time and memory of listing a folder of many images

Nothing else may run. What is asked of a row is beside it; `scripts/bench sharing` compares the
situations of one tree, and `scripts/bench listing` is the last two rows alone.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.listing import LIST, plant
from benchmarks.serve import photographs
from benchmarks.sharing import group_of_one_core, rate_in
from benchmarks.trees import Tree
from vtrain.bench.machine import CLEAN, OtherLoad, describe_machine
from vtrain.bench.stats import Ratio, paired_ratio

STEP = """\
seed: 0
model: {{name: vit_ti, patch_size: 4, depth: 4}}
data: {{name: fake, image_size: 32, size: 32, num_images: 512}}
optimizer: {{name: adamw, lr: 1e-3}}
train: {{epochs: 1, batch_size: 32, precision: {precision}, device: cpu}}
"""
HEAD = "| | old | new | unit | new / old [95 %] | asked | |\n|---|---|---|---|---|---|---|"
DIGITS = Path("configs/vit_digits.yaml")


@dataclass(frozen=True)
class Row:
    """One number of a tree, and what its ratio new / old should be."""

    name: str
    unit: str
    measure: Callable[[Path], float]
    """From the folder of a tree."""
    least: float = 0.0
    most: float = float("inf")

    def goal(self) -> str:
        """Return what is asked of the ratio, in words."""
        if self.least > 0:
            return f"at least {self.least}"
        return f"at most {self.most}" if self.most < float("inf") else "none"

    def verdict(self, ratio: Ratio) -> str:
        """Return whether the ratio is as it should be."""
        if self.goal() == "none":
            return ""
        return "reached" if self.least <= ratio.median <= self.most else "MISSED"


class Work:
    """What both trees are asked to do: files that are made once."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self.folder, self.seconds = folder, given.seconds
        self.digits = str(DIGITS.resolve())
        self.counts = {"small": given.small, "large": given.large, "one": 1}
        self.files = given.files

    def step(self, precision: str, tree: Path) -> float:
        """Return the images per second of the bare step."""
        config = self.folder / f"{precision}.yaml"
        config.write_text(STEP.format(precision=precision))
        bench = ["bench", str(config), "--json", "--seconds", str(self.seconds)]
        layers = json.loads(Tree(tree, []).run(0, "-m", "vtrain", *bench))["layers"]
        return float(layers["bare step"]["images_per_second"]["median"])

    def training(self, situation: str, group: Path | None, tree: Path) -> float:
        """Return the images per second of the whole run in a situation."""
        return rate_in(situation, Tree(tree, [self.digits]), self.seconds, group)

    def first_step(self, tree: Path) -> float:
        """Return the seconds until the first step has its row."""
        return Tree(tree, [self.digits]).seconds_to_first_step()

    def predict(self, what: str, tree: Path) -> float:
        """Return the seconds of `vtrain predict`, the start of Python with it."""
        images, out = self.images(what), self.folder / "answers.csv"
        asked = ["predict", str(images), "--ckpt", str(self.checkpoint(tree)), "--format", "csv"]
        return self.timed(tree, [*asked, "--output", str(out), "--force"])

    def evaluate(self, tree: Path) -> float:
        """Return the seconds of `vtrain eval` of as many small images as are predicted."""
        ckpt = self.checkpoint(tree)
        return self.timed(tree, ["eval", "--ckpt", str(ckpt), "--json"])

    def timed(self, tree: Path, arguments: Sequence[str]) -> float:
        """Return the seconds of a command of a tree."""
        run = Tree(tree, [])
        began = time.perf_counter()
        run.run(0, "-m", "vtrain", *arguments)
        return time.perf_counter() - began

    def listing(self, index: int, tree: Path) -> float:
        """Return the seconds of processor time (0) or the MiB (1) that listing a folder takes."""
        root = self.folder / "listed"
        if not root.exists():
            root.mkdir()
            plant(root, self.files, classes=100)
        count, *numbers = json.loads(Tree(tree, []).run(0, "-c", LIST, str(root)))
        if count != self.files:
            raise SystemExit(f"found {count} of {self.files} images")
        return float(numbers[index])

    def images(self, what: str) -> Path:
        """Return a folder of images, or the path of one."""
        folder = self.folder / what
        if not folder.exists():
            folder.mkdir()
            sizes = {"small": (32, 32), "large": (4000, 3000), "one": (500, 375)}
            photographs(folder, self.counts[what], sizes[what])
        place = folder / "photographs"
        return place / "0000.jpg" if what == "one" else place

    def checkpoint(self, tree: Path) -> Path:
        """Return a run of one step that this tree has written: weights change no time."""
        run = self.folder / f"run_{tree.name}"
        if not run.exists():
            config = self.folder / "predict.yaml"
            config.write_text(STEP.format(precision="fp32"))
            size = f"data.num_images={self.counts['small']}"
            asked = ["fit", str(config), "--run-dir", str(run), "train.max_steps=1", size]
            Tree(tree, []).run(0, "-m", "vtrain", *asked)
        return run


def main() -> None:
    """Measure, and print the table and what to write down with it."""
    given = arguments()
    other_load = OtherLoad(lambda: sum(os.times()[:4]))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench_compare_")))
        old, new = folder / "old", folder / "new"
        unpack(given.commit, old)
        new.symlink_to(Path.cwd())
        group = stack.enter_context(group_of_one_core())
        rows = rows_of(Work(folder, given), group)
        print(HEAD)
        for row in rows:
            if not given.rows or any(word in row.name for word in given.rows):
                print(line(row, *in_turns(row, old, new, given.turns)), flush=True)
    machine, others = describe_machine(torch.device("cpu")), other_load.share() or 0.0
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"old: {given.commit}; n = {given.turns} pairs a row")
    if group is None:
        print("control group: not measured, as none may be made here")
    state = "clean" if others < CLEAN else "CONTENDED, not to be published"
    print(f"others used {others:.0%} of the processors ({state})")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "scripts/bench compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("commit", metavar="OLD_COMMIT")
    parser.add_argument("--rows", nargs="+", metavar="WORD", help="those with a word in their name")
    parser.add_argument("--turns", type=int, default=6, metavar="N", help="of each tree")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each layer of a bench")
    parser.add_argument("--small", type=int, default=10_000, help="JPEGs of 32 pixels")
    parser.add_argument("--large", type=int, default=48, help="photographs of 12 megapixels")
    parser.add_argument("--files", type=int, default=100_000, help="that are listed")
    return parser.parse_args()


def unpack(commit: str, folder: Path) -> None:
    """Write the package of a commit to a folder of its own."""
    folder.mkdir()
    done = subprocess.run(["git", "archive", commit, "vtrain"], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"no commit {commit}: {done.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=done.stdout, check=True)


def rows_of(work: Work, group: Path | None) -> list[Row]:
    """Return every row that can be measured here."""
    rows = [
        Row("training, quiet", "images/s", partial(work.training, "quiet", None), least=0.98),
        Row("training beside a busy process", "images/s", partial(work.training, "beside", None)),
        Row("training in a control group", "images/s", partial(work.training, "quota", group)),
        Row("step, fp32", "images/s", partial(work.step, "fp32"), least=0.98),
        Row("step, bf16", "images/s", partial(work.step, "bf16"), least=0.98),
        Row("predict, small JPEGs", "s", partial(work.predict, "small"), most=0.25),
        Row("predict, 12 megapixels", "s", partial(work.predict, "large"), most=0.4),
        Row("predict, one photograph", "s", partial(work.predict, "one"), most=0.6),
        Row("eval, small images", "s", work.evaluate, most=1.05),
        Row("first step", "s", work.first_step, most=0.7),
        Row("listing, processor time", "s", partial(work.listing, 0), most=0.4),
        Row("listing, memory", "MiB", partial(work.listing, 1), most=0.7),
    ]
    return [row for row in rows if group is not None or "control group" not in row.name]


def in_turns(row: Row, old: Path, new: Path, turns: int) -> tuple[list[float], list[float]]:
    """Measure a row: once each to warm up, then old, new, new, old, ..."""
    found: dict[Path, list[float]] = {old: [], new: []}
    for tree in found:
        row.measure(tree)
    for number in range(2 * turns):
        # 0 1, 1 0, 0 1, ...: neither always comes first.
        tree = (old, new)[(number + number // 2) % 2]
        found[tree].append(row.measure(tree))
    return found[old], found[new]


def line(row: Row, old: list[float], new: list[float]) -> str:
    """Return a row of the table."""
    cells = [row.name, f"{median(old):,.2f}", f"{median(new):,.2f}", row.unit]
    if min(old) > 0:
        ratio = paired_ratio(new, old)
        cells += [str(ratio), row.goal(), row.verdict(ratio)]
    else:  # so little that the system counts nothing
        cells += ["no ratio", row.goal(), ""]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
