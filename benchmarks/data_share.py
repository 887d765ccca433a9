"""Measure what part of a training step the data path takes, and exit with 1 above the goal.

The data path is all that the main process does to a batch before the model sees it: fetch, augment,
mix and normalise. It takes turns with the bare step, which is made on a batch that is ready, and
each turn gives one share: data / (data + step). The median counts. Decoding into memory happens
once in a run and is shown by itself.

With `--cpu-time` one thread works and CPU seconds are counted: for a machine that others use too.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vtrain.bench.harness import Harness
from vtrain.bench.machine import describe_machine, wait
from vtrain.config import load_config
from vtrain.errors import VtrainError
from vtrain.run.bench import build_harness


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        "scripts/bench data_share",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="as for `vtrain fit`")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--goal", type=float, default=0.05, help="largest share that is good")
    parser.add_argument("--cpu-time", action="store_true", help="one thread, CPU seconds")
    given = parser.parse_intermixed_args()
    if given.cpu_time:
        torch.set_num_threads(1)
        given.changes.append("data.num_workers=0")  # another process's seconds are not counted
    try:
        config = load_config(given.config, given.changes)
        with TemporaryDirectory(prefix="vtrain_data_share_") as folder:
            cold: dict[str, float] = {}
            parts, harness = build_harness(config, Path(folder), cold)
            clock = time.process_time if given.cpu_time else time.perf_counter
            data, step = in_turns(harness, given.turns, clock)
            harness.close()
    except VtrainError as error:
        print(*(f"error: {line}" for line in error.lines()), sep="\n", file=sys.stderr)
        return error.exit_code
    machine = describe_machine(parts.plan.device)
    shares = [d / (d + s) for d, s in zip(data, step, strict=True)]
    share, images = statistics.median(shares), len(harness.batch.images)
    print(
        f"machine  {machine['device']}, {machine['processor']}, {machine['threads']} threads, "
        f"load {machine['load']} | {config.model.name}, {len(parts.plan.train):,} images, "
        f"batch {images}, {parts.plan.precision}"
    )
    print(
        f"once     {cold['first batch']:.1f} s to the first batch, with all that is decoded ahead"
    )
    print(f"data     {1e3 * statistics.median(data):9.2f} ms per step")
    print(f"step     {1e3 * statistics.median(step):9.2f} ms, bare")
    spread = f"{min(shares):.2%} to {max(shares):.2%}"
    print(f"share    {share:9.2%} of the step ({spread}, n = {len(shares)}); goal {given.goal:.0%}")
    return int(share > given.goal)


def in_turns(
    harness: Harness, turns: int, clock: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Return the seconds of the data path and of the bare step, for a full batch, of each turn."""
    data, step = harness.data_step(), harness.bare_step()
    full = len(harness.batch.images)

    def seconds(work: Callable[[], int], times: int) -> float:
        started, images = clock(), 0
        for _ in range(times):
            images += work()  # an epoch's last batch may be smaller
        wait(harness.device)
        return (clock() - started) * full / images

    # Eight batches against two steps: data are so much faster that one would not be timed well.
    pairs = [(seconds(data, 8), seconds(step, 2)) for _ in range(turns + 1)]
    columns = zip(*pairs[1:], strict=True)  # the first turn warms up
    fetched, made = map(list, columns)
    return fetched, made


if __name__ == "__main__":
    sys.exit(main())
