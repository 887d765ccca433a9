"""Measure what a run loses beside other work and in a container, in turns with an older tree.

Each turn asks `vtrain bench` of one tree for the images per second of the whole run in one
situation, in a process of its own:

quiet     as it is
beside    one other process is busy on the same cores
quota     a control group allows as much processor time as one core gives, on any core
one core  the process may run on one core only, which it has for itself

The other process is this command's; nothing else may run. `quota` needs the right to make a control
group, and is left out without it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from types import MappingProxyType

import torch

from benchmarks.trees import Tree, failure, parser_of_trees
from vtrain.bench.machine import describe_machine
from vtrain.bench.stats import paired_ratio
from vtrain.limits import GROUPS, groups

SITUATIONS = ("quiet", "beside", "quota", "one core")
COMPARED = MappingProxyType(
    {
        "quiet, new / old": (("new", "quiet"), ("old", "quiet")),
        "old, beside / quiet": (("old", "beside"), ("old", "quiet")),
        "new, beside / quiet": (("new", "beside"), ("new", "quiet")),
        "old, quota / one core": (("old", "quota"), ("old", "one core")),
        "new, quota / one core": (("new", "quota"), ("new", "one core")),
    }
)
Numbers = dict[tuple[str, str], list[float]]


def main() -> None:
    """Measure, and print a line for each ratio."""
    parser = parser_of_trees("sharing", __doc__)
    parser.add_argument("--turns", type=int, default=8, metavar="N", help="of each situation")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each layer of a bench")
    parser.add_argument("--situations", nargs="+", choices=SITUATIONS, default=SITUATIONS)
    given = parser.parse_intermixed_args()
    fit = [given.config, *given.overrides]
    trees = {"old": Tree(given.old, fit), "new": Tree(given.new, fit)}
    with group_of_one_core() as group:
        situations = [s for s in given.situations if s != "quota" or group is not None]
        arms = [(tree, situation) for situation in situations for tree in trees]
        numbers: Numbers = {arm: [] for arm in arms}
        for turn in range(given.turns):
            for tree, situation in arms[:: -1 if turn % 2 else 1]:
                rate = rate_in(situation, trees[tree], given.seconds, group)
                numbers[tree, situation].append(rate)
    machine = describe_machine(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(*table(numbers), sep="\n")
    if len(situations) < len(given.situations):
        print("quota: not measured, as no control group may be made here")


def rate_in(situation: str, tree: Tree, seconds: float, group: Path | None) -> float:
    """Return the images per second of a whole run in a situation."""

    def enter() -> None:
        if situation == "quota" and group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        if situation == "one core":
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    command = [sys.executable, "-P", "-m", "vtrain", "bench", *tree.fit]
    command += ["--json", "--seconds", str(seconds)]
    busy = [sys.executable, "-c", "while True: pass"] if situation == "beside" else ["true"]
    with subprocess.Popen(busy) as neighbour:
        try:
            done = subprocess.run(
                command,
                env=tree.env,
                preexec_fn=enter,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            neighbour.kill()
    if done.returncode != 0:
        raise SystemExit(failure(command, done.stderr))
    return float(json.loads(done.stdout)["layers"]["end to end"]["images_per_second"]["median"])


def table(numbers: Numbers) -> list[str]:
    """Return a line for each number and for each ratio that can be told."""
    lines = [
        f"{tree} {situation:10} {median(rates):10.1f} images/s"
        for (tree, situation), rates in numbers.items()
    ]
    for title, (above, below) in COMPARED.items():
        if above in numbers and below in numbers:
            ratio = paired_ratio(numbers[above], numbers[below])
            lines.append(f"{title:24}{ratio}, n = {ratio.n}")
    return lines


@contextmanager
def group_of_one_core() -> Iterator[Path | None]:
    """Make a control group of one core within this process's; None where that is not allowed."""
    version_1 = next(groups("cpu"), None)
    above = version_1 or next(groups(""), GROUPS)
    group = above / f"vtrain_{os.getpid()}"
    try:
        group.mkdir()
        if version_1 is None:
            (group / "cpu.max").write_text("100000 100000")
        else:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("100000")
    except OSError:
        with suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        with suppress(OSError):  # of a process that has not quite ended
            group.rmdir()


if __name__ == "__main__":
    main()
