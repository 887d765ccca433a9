"""Measure what saving costs a run: the same number of steps with and without a save, in turn.

A save is all that a run does for it: it collects the state, writes, syncs, reads back, publishes
and removes what is old. Its share of the time is what it adds, against the minutes between two
saves; beside those, the end of each epoch is saved.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vtrain.bench.machine import wait
from vtrain.config import load_config
from vtrain.data.loading.batches import Batch
from vtrain.data.loading.loader import TrainLoader
from vtrain.device import describe
from vtrain.files.store import CheckpointStore
from vtrain.run.build.callbacks import build_saver
from vtrain.run.build.parts import build_parts
from vtrain.run.build.resolve import resolve
from vtrain.run.build.trainer import build_trainer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("scripts/bench checkpoint_overhead", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: temporary)")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="between two saves")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    plan = resolve(config)
    device, parts = plan.device, build_parts(plan)
    trainer = build_trainer(parts, [])
    batches = endless(parts.train_loader)
    times: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        saver = build_saver(parts, {}, CheckpointStore(Path(folder)))
        trainer.train_step(next(batches))  # the optimizer makes its state, caches are filled
        # With, without, without, with: a machine that slows down steadily favours neither.
        for saves in itertools.islice(
            itertools.cycle((True, False, False, True)), 2 * arguments.pairs
        ):
            wait(device)
            began = time.perf_counter()
            for _ in range(arguments.steps):
                trainer.train_step(next(batches))
            # The end of a run saves whatever is due.
            if saves:
                saver.on_fit_end(parts.state)
            wait(device)
            times[saves].append(time.perf_counter() - began)
        size = max(path.stat().st_size for path in Path(folder).glob("*.pt"))
    with_save, without = statistics.median(times[True]), statistics.median(times[False])
    # The same steps on both sides, so that what is left is the save.
    added = with_save - without
    parameters = sum(p.numel() for p in parts.model.parameters())
    epoch = plan.steps_per_epoch * without / arguments.steps
    print(f"model       {config.model.name}, {parameters:,} parameters, {size / 1e6:,.0f} MB saved")
    print(f"device      {describe(device)}")
    print(f"step        {without / arguments.steps:.3f} s, {plan.batch_size:,} images")
    print(f"a save adds {added:.3f} s (median of {arguments.pairs} pairs; {listed(times)})")
    if config.checkpoint.every_minutes is not None:
        share = added / (60 * config.checkpoint.every_minutes)
        print(f"overhead    {share:.3%} at one save in {config.checkpoint.every_minutes:g} minutes")
    print(f"            {added / epoch:.3%} at one save in an epoch of {epoch:.1f} s")


def endless(loader: TrainLoader) -> Iterator[Batch]:
    """Yield the batches of one epoch after the other."""
    for epoch in itertools.count():
        yield from loader.batches(epoch)


def listed(times: dict[bool, list[float]]) -> str:
    """Return the seconds of each arm."""
    arms = (" ".join(f"{s:.2f}" for s in times[saves]) for saves in (True, False))
    return " with, ".join(arms) + " without"


if __name__ == "__main__":
    main()
