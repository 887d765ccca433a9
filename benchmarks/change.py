"""Measure what a change of a config is worth: its bare step with and without the change, in turns.

The unchanged step has two turns in each round, before and after the changed one; their ratio is the
noise, and a difference counts if it is larger than that. The learning rate is 0.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.verdict import verdict
from vtrain.bench.harness import Harness
from vtrain.bench.machine import CLEAN, OtherLoad, describe_machine
from vtrain.bench.stats import paired_ratio, summarise
from vtrain.bench.throughput import TURNS
from vtrain.bench.timing import in_turns
from vtrain.config import load_config
from vtrain.errors import VtrainError
from vtrain.resources import keep_freed_memory, own_seconds
from vtrain.run.bench import build_harness


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser("scripts/bench change", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for both sides")
    parser.add_argument(
        "--change", nargs="+", required=True, metavar="KEY=VALUE", help="for one side"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="for each side")
    given = parser.parse_intermixed_args()
    # As `vtrain fit` does; otherwise both sides would pay for the system's memory.
    keep_freed_memory()
    try:
        with ExitStack() as stack:
            plain = build(given.config, given.overrides, stack)
            changed = build(given.config, [*given.overrides, *given.change], stack)
            other_load = OtherLoad(own_seconds)
            # The unchanged step twice, before and after the changed one: their ratio is the noise.
            steps = [harness.bare_step() for harness in (plain, changed, plain)]
            first, second, third = in_turns(steps, given.seconds, plain.device, least=TURNS)
            others = other_load.share() or 0.0
    except VtrainError as error:
        print(*(f"error: {line}" for line in error.lines()), sep="\n", file=sys.stderr)
        return error.exit_code
    device, images = plain.device, len(plain.ready.images)
    print(", ".join(f"{name} {value}" for name, value in describe_machine(device).items()))
    print(f"{' '.join([given.config.name, *given.overrides])}: batch {images}")
    change = " ".join(given.change)
    for name, rates in (("as it is", first), (change, second), ("as it is", third)):
        speed = summarise(rates)
        print(f"{name:40} {speed.median:10,.1f} images/s, IQR {speed.spread:.1%}, n = {speed.n}")
    # Both are paired with the first turn of their round.
    ratio, noise = paired_ratio(second, first), paired_ratio(third, first)
    print(f"worth {ratio}, noise {noise}: {verdict(ratio, noise)}")
    state = "clean" if others < CLEAN else "CONTENDED, not to be published"
    print(f"others used {others:.0%} of the processors ({state})")
    return 0


def build(path: Path, overrides: list[str], stack: ExitStack) -> Harness:
    """Return a run that is ready to train; `stack` ends what it has started."""
    folder = stack.enter_context(TemporaryDirectory(prefix="vtrain_change_"))
    _, harness = build_harness(load_config(path, overrides), Path(folder), {})
    stack.callback(harness.close)
    return harness


if __name__ == "__main__":
    sys.exit(main())
