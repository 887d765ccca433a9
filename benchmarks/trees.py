"""Time two trees of the code in turns: the step, the whole run and the start-up of each.

A tree is a folder that holds the package `vtrain`. Each turn runs one tree, in processes of its own
that import nothing of the other. The turns go old, new, new, old, ..., and a ratio pairs two that
follow each other, so that what slows the machine for longer than a pair cancels.

step, run       images per second of the bare step and of the whole run, from `vtrain bench`
help, mistake   seconds of `vtrain --help`, and of a config with a key that does not exist
first step      seconds from the start of `vtrain fit` to the row of its first step
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from vtrain.bench.machine import CLEAN, OtherLoad, describe_machine
from vtrain.bench.stats import paired_ratio

UNITS = {"step": "images/s", "run": "images/s", "help": "s", "mistake": "s", "first step": "s"}
LEAST = 8
"""Turns, at least: the interval of a ratio is drawn from their pairs."""
Turn = dict[str, float]


class Tree:
    """One tree of the code and what its commands are asked to train."""

    def __init__(self, folder: Path, fit: list[str]) -> None:
        self.fit = fit
        self.env = {**os.environ, "PYTHONPATH": str(folder.resolve())}
        origin = self.run(0, "-c", "import vtrain; print(vtrain.__file__)").strip()
        if Path(origin) != folder.resolve() / "vtrain" / "__init__.py":
            raise SystemExit(f"{folder} holds no vtrain; what would run is {origin}")

    def turn(self, seconds: float) -> Turn:
        """Measure everything once."""
        bench = ["-m", "vtrain", "bench", *self.fit, "--json", "--seconds", str(seconds)]
        layers = json.loads(self.run(0, *bench))["layers"]
        step, run = (layers[x]["images_per_second"]["median"] for x in ("bare step", "end to end"))
        start = time.perf_counter()
        self.run(0, "-m", "vtrain", "--help")
        helped = time.perf_counter()
        self.run(2, "-m", "vtrain", "fit", *self.fit, "no_such_key=1")  # 2: a mistake in the config
        refused = time.perf_counter()
        first_step = self.seconds_to_first_step()
        times = (helped - start, refused - helped, first_step)
        return dict(zip(UNITS, (step, run, *times), strict=True))

    def seconds_to_first_step(self) -> float:
        """Return the seconds from the start of `vtrain fit` to the row of its first step."""
        with TemporaryDirectory(prefix="bench_trees_") as folder:
            rows, log = Path(folder, "run", "metrics.jsonl"), Path(folder, "log.txt")
            # The last step always has a row: a run of one step writes its row as soon as it can.
            own = ["--run-dir", str(rows.parent), "train.max_steps=1"]
            command = self._command("-m", "vtrain", "fit", *self.fit, *own)
            start = time.perf_counter()
            with log.open("w") as file:
                run = subprocess.Popen(
                    command, env=self.env, stdout=file, stderr=file, start_new_session=True
                )
            while not (rows.exists() and rows.stat().st_size):
                if run.poll() is not None:
                    raise SystemExit(failure(command, log.read_text()))
                time.sleep(0.002)
            seconds = time.perf_counter() - start
            os.killpg(run.pid, signal.SIGKILL)  # with its workers; its evaluation is not measured
            run.wait()
        return seconds

    def run(self, code: int, *arguments: str) -> str:
        """Run Python with the code of this tree, and return what it printed if it ended so."""
        command = self._command(*arguments)
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode != code:
            raise SystemExit(failure(command, done.stderr))
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", *arguments]  # -P: the folder we are in is not searched


def main() -> None:
    """Measure, and print a line for each number."""
    parser = parser_of_trees("trees", __doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="of turns, at least")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each layer of a bench")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there")
    given = parser.parse_intermixed_args()
    trees = [Tree(folder, [given.config, *given.overrides]) for folder in (given.old, given.new)]
    for tree in trees:
        tree.turn(given.seconds)  # warms up: files come into memory, modules are compiled
    turns: list[list[Turn]] = [[], []]
    other_load, until = OtherLoad(lambda: sum(os.times()[:4])), time.time() + 60 * given.minutes
    number = 0
    while time.time() < until or number < LEAST or number % 2:
        side = (number + number // 2) % 2  # 0 1, 1 0, 0 1, ...: neither always comes first
        turns[side].append(trees[side].turn(given.seconds))
        number += 1
    machine, others = describe_machine(torch.device("cpu")), other_load.share() or 0.0
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(*table(*turns), sep="\n")
    state = "clean" if others < CLEAN else "CONTENDED, not to be published"
    print(f"others used {others:.0%} of the processors ({state})")
    if given.json:
        results = {"machine": machine, "others": others, "old": turns[0], "new": turns[1]}
        given.json.write_text(json.dumps(results, indent=1) + "\n")


def parser_of_trees(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what two trees are asked to train."""
    parser = argparse.ArgumentParser(
        f"scripts/bench {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--old", type=Path, required=True, metavar="DIR")
    parser.add_argument("--new", type=Path, default=Path(), metavar="DIR", help="default: this one")
    return parser


def table(old: list[Turn], new: list[Turn]) -> list[str]:
    """Return a line for each number: both medians, and new over old from pairs of turns."""
    lines = [f"{'':12}{'old':>12}{'new':>12}  {'':10}new / old [95 %]"]
    for name, unit in UNITS.items():
        before, after = ([turn[name] for turn in turns] for turns in (old, new))
        ratio = paired_ratio(after, before)
        verdict = "differs" if ratio.excludes(1.0) else "the same within noise"
        medians = f"{median(before):12,.2f}{median(after):12,.2f}"
        lines.append(f"{name:12}{medians}  {unit:10}{ratio}, n = {ratio.n}: {verdict}")
    return lines


def failure(command: list[str], text: str) -> str:
    """Return what to say of a command that did not do what it should."""
    return f"{' '.join(command)} failed: {(text.strip() or 'no message').splitlines()[-1]}"


if __name__ == "__main__":
    main()
